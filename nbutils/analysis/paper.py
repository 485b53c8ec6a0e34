"""The paper's numbers recomputed from what it prints, its claims, and how we read it; no target for any run of ours.

Source: Shimizu et al. 2025, JMIR Med Inform 13:e76773.
"""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

import pandas as pd

from nbutils import ROOT
from nbutils.corpus.formats import read_corpus

# Means are printed with one decimal, so a printed difference may be 0.1 off the difference of the printed means.
PAPER_TABLES = ROOT / "data" / "paper_tables"
ROUNDING = 0.1

# Precision and recall of the error analysis (CR→PN, text), by the row of Table 3 that they belong to.
ERROR_ANALYSIS = {"BERT (Fine-tuned)": (51.8, 70.7), "LLaMA-3.1 (Fine-tuned)": (70.8, 68.9)}

# Interannotator agreement (text): matches, denominator and ratio as printed.
AGREEMENT = {"exact": (61, 87, 0.70), "partial": (71, 87, 0.82)}

# What the paper shows or claims, and the notebook that shows or tests it here.
CONTENTS = (
    ("Table 1", "titles of the cases and their three most frequent entities", "01_data_exploration"),
    ("Table 2", "hyperparameters: our defaults (nbutils/taggers/settings.py)", "04_lora_finetune"),
    ("Table 3", "main result: micro F1, mean (SD), Δ", "06_evaluation"),
    ("Table 4", "four errors of BERT, CR→PN", "08_error_analysis"),
    ("Textbox 1", "prompt of in-context learning", "05_icl_baselines"),
    ("Figure 1", "evaluation pipeline: the way of the data in the README", "06_evaluation"),
    ("Figure 2", "stratification by physician and case, drawn from the data", "07_stratification"),
    ("Figure 3", "box plots of F1 by physician and by case", "07_stratification"),
    ("claim", "annotators agree: exact 61/87 = 0.70, partial 71/87 = 0.82", "02_inter_annotator_agreement"),
    ("claim", "case reports and progress notes are different kinds of text", "01_data_exploration"),
    ("claim", "a fine-tuned encoder is a strong baseline", "03_bert_finetune"),
    ("claim", "fine-tuning beats zero-shot and few-shot prompting", "05_icl_baselines"),
    ("claim", "the fine-tuned LLM is best in all four settings", "06_evaluation"),
    ("claim", "the LLM loses less out-of-domain (ΔCR -8.6 against -13.9, ΔPN -14.7 against -24.2)", "06_evaluation"),
    ("claim", "the LLM's F1 varies less between physicians", "07_stratification"),
    ("claim", "both vary more between cases than between physicians", "07_stratification"),
    ("claim", "BERT's loss is one of precision (51.8 against 70.8), not of recall (70.7, 68.9)", "08_error_analysis"),
    ("claim", "BERT takes tests and biomarkers for diseases", "08_error_analysis"),
    ("claim", "BERT cuts spans short; the LLM finds them whole", "08_error_analysis"),
    ("limitation", "time, memory and latency were not compared", "09_efficiency"),
    ("not asked", "how much of an in-domain score is memory of the same cases and authors", "10_generalisation"),
)

# (what is unclear, our default, what can be switched and where)
READINGS = (
    ("sign of Δ: the text defines ID − OOD, all of Table 3 is OOD − ID", "OOD − ID, as in Table 3",
     "06 also gives the relative loss"),
    ("Δ of an untrained model (zero-shot) only compares two test sets", "printed as in Table 3",
     "06: the target-matched gap, both trainings on the same notes"),
    ("what the SD is over: small, so one fixed split", "split_seed apart from the training seed",
     "other splits: split_seed in a study file"),
    ("SD 0.0 of GPT-4o, which was run once", "a single run's SD is —", ""),
    ("“CLS token + linear layer” for BIO labels", "every token's state + linear layer", "decoding: viterbi"),
    ("sentence or note as input", "unit: sentence", "unit: note"),
    ("8:2 of documents or of sentences", "documents", "10: what each way of splitting leaks"),
    ("no development set",
     "fixed epochs; the tiny models' settings were checked on training notes (docs/outputs.md)", "epochs"),
    ("“despite having no access to training data” (GPT-4o), yet few-shot examples come from the training data",
     "shots come from the training part", "shots"),
    ("SD with n or n − 1 (a factor of 1.22 for three seeds)", "n − 1", ""),
    ("which seed or seeds the box plots show", "the mean over seeds", ""),
    ("size: 87 entities in 10 notes are 8.7 a note", "01 prints how dense ours are: other intervals follow", ""),
    ("PN→PN trains on notes of the same cases and physicians as it tests", "kept as the paper's setting",
     "10: leave-case-out, leave-physician-out, leave-both-out"),
    ("which certainties count as disease names", "all", "certainties in a study file"),
    ("which Llama is prompted without fine-tuning", "the same Swallow-Instruct", "model"),
    ("“LoRA scaling factor 64”", "alpha: 64, a multiplier of 64/16 = 4", "alpha"),
    ("LoRA's target modules, precision, scheduler, loss, template, limits of generation: unstated",
     "a written default each (nbutils/taggers/settings.py)", "a setting each"),
    ("the few-shot example: which note, and for which run", "one training note a seed, never a test note", "seed"),
    ("the score of a stratum: mean over notes or pooled", "mean of note F1s", "07: pooled micro F1 beside it"),
    ("what 87 counts in 61/87; one annotator's count is likeliest, since 71/87 has the same denominator",
     "the ratio as printed", "02: over each possible denominator; F1, Jaccard, both recalls"),
    ("“lower variance” is read off box plots", "tested: variance components with intervals", "07"),
)  # fmt: skip


def contents() -> pd.DataFrame:
    """Every table, figure and claim of the paper and the notebook that has it here; `here` is read from the disk."""
    rows = [
        {"in the paper": item, "what": what, "notebook": notebook, "here": "yes" if _exists(notebook) else "not yet"}
        for item, what, notebook in CONTENTS
    ]
    return pd.DataFrame(rows).set_index("in the paper")


def readings() -> pd.DataFrame:
    """What the paper leaves unclear, how we read it, and what can be switched."""
    return pd.DataFrame(READINGS, columns=["unclear in the paper", "our reading", "switch"]).set_index(
        "unclear in the paper"
    )


def audit_table3(rounding: float = ROUNDING) -> pd.DataFrame:
    """All twelve printed Δ beside both differences of the printed means; `printed is` says which one it is, or neither.

    Neither means: more than `rounding` points from both. The note is that of `data/paper_tables/table3.csv`.
    """
    rows = []
    for row in paper_table(3).to_dict("records"):
        for train, other in (("CR", "PN"), ("PN", "CR")):
            inside, outside = float(row[f"{train}→{train}"]), float(row[f"{train}→{other}"])
            printed, difference = float(row[f"Δ{train}"]), round(outside - inside, 1)
            rows.append(
                {
                    "system": row["system"],
                    "Δ": f"Δ{train}",
                    "ID": inside,
                    "OOD": outside,
                    "printed": printed,
                    "OOD − ID": difference,
                    "ID − OOD": -difference + 0.0,
                    "printed is": _which(printed, difference, rounding),
                    "relative change (%)": 100 * difference / inside,
                    "flag": row["note"] if f"Δ{train}" in row["note"] else "",
                }
            )
    return pd.DataFrame(rows).set_index(["system", "Δ"])


def audit_f1() -> pd.DataFrame:
    """F1 from the precision and recall of the error analysis, beside the CR→PN cell of Table 3."""
    printed = paper_table(3).set_index("system")["CR→PN"].astype(float)
    rows = {
        system: {
            "precision": precision,
            "recall": recall,
            "F1 from P and R": 2 * precision * recall / (precision + recall),
            "F1 in Table 3": printed[system],
        }
        for system, (precision, recall) in ERROR_ANALYSIS.items()
    }
    table = pd.DataFrame(rows).T
    table["agree"] = (table["F1 from P and R"] - table["F1 in Table 3"]).abs() <= ROUNDING
    return table


def audit_agreement() -> pd.DataFrame:
    """The printed ratios of the interannotator agreement, divided again."""
    rows = {
        kind: {"matches": matches, "of": total, "ratio": matches / total, "printed": printed}
        for kind, (matches, total, printed) in AGREEMENT.items()
    }
    return pd.DataFrame(rows).T.astype({"matches": int, "of": int})


def audit_claims() -> pd.DataFrame:
    """What the text says about Table 3, held against the printed means; `holds` is recomputed, not copied.

    The margin is the smallest difference that the claim rests on; a point or two is no more than an SD of Table 3.
    Only the means can be checked. Whether a difference of means is more than chance, the paper does not test.
    """
    table = paper_table(3).set_index("system")
    cells = table[["CR→CR", "CR→PN", "PN→PN", "PN→CR"]].astype(float)
    drop = pd.DataFrame({"CR": cells["CR→PN"] - cells["CR→CR"], "PN": cells["PN→CR"] - cells["PN→PN"]})
    bert, llm, few = "BERT (Fine-tuned)", "LLaMA-3.1 (Fine-tuned)", "LLaMA-3.1 (Few-shot)"
    prompted = cells.drop(index=[bert, llm])
    others = drop.drop(index=llm).abs().min()
    claims = [
        ("the fine-tuned LLM is best in all four settings", cells.loc[llm] - cells.drop(index=llm).max()),
        ("its gap is smaller than BERT's in both directions", drop.loc[bert].abs() - drop.loc[llm].abs()),
        ("its gap is the smallest of all systems", others - drop.loc[llm].abs()),
        ("BERT is better than every prompted model in all four settings", cells.loc[bert] - prompted.max()),
        ("few-shot Llama declines out-of-domain in both directions", -drop.loc[few]),
    ]
    rows = [(claim, bool((margins > 0).all()), margins.min()) for claim, margins in claims]
    columns = ["by the printed means", "holds", "smallest margin (points)"]
    return pd.DataFrame(rows, columns=columns).set_index("by the printed means").round(1)


def same_notes_gap() -> pd.DataFrame:
    """Printed F1 on one document type, trained there and trained elsewhere: the gap with the target's type held fixed.

    Better than Δ, but not clean: trained on the target, a system is tested on a fifth of the notes, elsewhere on all.
    """
    rows = []
    for row in paper_table(3).to_dict("records"):
        for target, other in (("CR", "PN"), ("PN", "CR")):
            home, away = float(row[f"{target}→{target}"]), float(row[f"{other}→{target}"])
            rows.append(
                {
                    "system": row["system"],
                    "tested on": target,
                    "trained there (a fifth)": home,
                    "trained elsewhere (all)": away,
                    "difference": round(away - home, 1),
                }
            )
    return pd.DataFrame(rows).set_index(["system", "tested on"])


def zero_shot_check() -> pd.DataFrame:
    """Zero-shot systems have no training, so both columns of a corpus differ by the choice of test notes alone.

    How large these differences are is how far a fifth of a corpus may lie from the whole of it.
    """
    table = same_notes_gap()
    zero_shot = table.index.get_level_values("system").str.contains("Zero-shot")
    return table[zero_shot].rename(
        columns={"trained there (a fifth)": "on a fifth", "trained elsewhere (all)": "on all notes"}
    )


def harder_fifth() -> str:
    """What the zero-shot rows say about the test notes: a fifth that scores below all notes is the harder part."""
    said = []
    for target, rows in zero_shot_check().groupby("tested on"):
        lower = rows["on a fifth"] < rows["on all notes"]
        if lower.all() or (~lower).all():
            word = "harder" if lower.all() else "easier"
            low, high = rows["difference"].abs().min(), rows["difference"].abs().max()
            effect = "too small" if lower.all() else "too large"
            said.append(
                f"- On {target} both find the fifth **{word}** than all notes, by {low:.1f} and {high:.1f} points. So "
                f"{target}→{target} is estimated {'too low' if lower.all() else 'too high'} for every system, and "
                f"Δ{target} and the gap on {target} come out {effect}."
            )
        else:
            said.append(f"- On {target} the two disagree about which part is harder.")
    return "\n".join(said)


def table4_in_public_reports(folder: str | Path | None = None) -> pd.DataFrame | str:
    """Where the sentences of Table 4, printed as errors on progress notes, stand in the public case reports.

    `folder` (or the variable JMED_LLM_DIR) holds JMED-LLM's CRNER.csv; without it a sentence says what was found.
    Compared after NFKC and without blanks. Ids are those of the corpus reader.
    """
    folder = Path(folder or os.environ.get("JMED_LLM_DIR", ROOT / "data" / "jmed-llm"))
    table = paper_table(4)
    if not (folder / "CRNER.csv").exists():
        return "JMED-LLM is not on this machine (JMED_LLM_DIR); the last column of the table above says what it showed."
    texts = {d.id: _bare(d.text) for d in read_corpus(folder / "CRNER.csv", "jmed")}
    table["stands in"] = [", ".join(id for id, text in texts.items() if _bare(s) in text) for s in table["sentence"]]
    return table[["sentence_en", "stands in"]].set_index("sentence_en")


def _bare(text: str) -> str:
    return re.sub(r"\s+", "", unicodedata.normalize("NFKC", text))


def _which(printed: float, difference: float, rounding: float) -> str:
    if abs(printed - difference) <= rounding + 1e-9:
        return "OOD − ID"
    return "ID − OOD" if abs(printed + difference) <= rounding + 1e-9 else "neither"


def _exists(notebook: str) -> bool:
    return (ROOT / "notebooks" / f"{notebook}.ipynb").exists()


def paper_table(number: int) -> pd.DataFrame:
    """A table of the paper as printed, every oddity flagged in its last column; never a target for ours."""
    return pd.read_csv(PAPER_TABLES / f"table{number}.csv", dtype=str, keep_default_na=False)
