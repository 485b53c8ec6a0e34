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

# Each corpus that a system is trained on, and the other one.
DIRECTIONS = (("CR", "PN"), ("PN", "CR"))


def contents() -> pd.DataFrame:
    """Every table, figure and claim of the paper and the notebook that has it here; `here` is read from the disk."""
    table = _read("contents").set_index("in the paper")
    there = [(ROOT / "notebooks" / f"{name}.ipynb").exists() for name in table["notebook"]]
    return table.assign(here=["yes" if is_there else "not yet" for is_there in there])


def readings() -> pd.DataFrame:
    """What the paper leaves unclear, how we read it, and what can be switched."""
    return _read("readings").set_index("unclear in the paper")


def audit_table3(rounding: float = ROUNDING) -> pd.DataFrame:
    """All twelve printed Δ beside both differences of the printed means; `printed is` says which one it is, or neither.

    Neither means: more than `rounding` points from both. The note is that of `data/paper_tables/table3.csv`.
    """
    rows = []
    for row in paper_table(3).to_dict("records"):
        for train, other in DIRECTIONS:
            inside, outside = float(row[f"{train}→{train}"]), float(row[f"{train}→{other}"])
            printed, difference = float(row[f"Δ{train}"]), round(outside - inside, 1)
            rows.append(
                {"system": row["system"], "Δ": f"Δ{train}", "ID": inside, "OOD": outside, "printed": printed}
                | {"OOD − ID": difference, "ID − OOD": -difference + 0.0}
                | {"printed is": _which(printed, difference, rounding)}
                | {"relative change (%)": 100 * difference / inside}
                | {"flag": row["note"] if f"Δ{train}" in row["note"] else ""}
            )
    return pd.DataFrame(rows).set_index(["system", "Δ"])


def answer(rounding: float = ROUNDING) -> str:
    """The question of notebook 00 answered in Markdown: how many of the printed numbers agree with each other."""
    printed, claims, f1 = audit_table3(rounding)["printed is"], audit_claims(), audit_f1()
    failing = ", ".join(claims.index[~claims["holds"]])
    right, defined, neither = (int((printed == kind).sum()) for kind in ("OOD − ID", "ID − OOD", "neither"))
    return (
        f"Of the {len(printed)} printed Δ, {right} are OOD − ID, {defined} are ID − OOD as the text defines it, and "
        f"{neither} is neither; {claims['holds'].sum()} of {len(claims)} claims hold by the printed means"
        f"{f' (not: {failing})' if failing else ''}; precision and recall give the printed F1 in {f1['agree'].sum()} "
        f"of {len(f1)} cases."
    )


def audit_f1() -> pd.DataFrame:
    """F1 from the precision and recall of the error analysis, beside the CR→PN cell of Table 3."""
    table = pd.DataFrame.from_dict(ERROR_ANALYSIS, orient="index", columns=["precision", "recall"])
    precision, recall = table["precision"], table["recall"]
    table["F1 from P and R"] = 2 * precision * recall / (precision + recall)
    table["F1 in Table 3"] = paper_table(3).set_index("system")["CR→PN"].astype(float)
    table["agree"] = (table["F1 from P and R"] - table["F1 in Table 3"]).abs() <= ROUNDING
    return table


def audit_agreement() -> pd.DataFrame:
    """The printed ratios of the interannotator agreement, divided again."""
    table = pd.DataFrame.from_dict(AGREEMENT, orient="index", columns=["matches", "of", "printed"])
    table.insert(2, "ratio", table["matches"] / table["of"])
    return table


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
        for target, other in DIRECTIONS:
            home, away = float(row[f"{target}→{target}"]), float(row[f"{other}→{target}"])
            rows.append(
                {"system": row["system"], "tested on": target, "trained there (a fifth)": home}
                | {"trained elsewhere (all)": away, "difference": round(away - home, 1)}
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
        if lower.nunique() > 1:
            said.append(f"- On {target} the two disagree about which part is harder.")
            continue
        word, level, gap = ("harder", "low", "small") if lower.all() else ("easier", "high", "large")
        low, high = rows["difference"].abs().agg(["min", "max"])
        said.append(
            f"- On {target} both find the fifth **{word}** than all notes, by {low:.1f} and {high:.1f} points. So "
            f"{target}→{target} is estimated too {level} for every system, and "
            f"Δ{target} and the gap on {target} come out too {gap}."
        )
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
    return table[["in English", "stands in"]].set_index("in English")


def _bare(text: str) -> str:
    return re.sub(r"\s+", "", unicodedata.normalize("NFKC", text))


def _which(printed: float, difference: float, rounding: float) -> str:
    if abs(printed - difference) <= rounding + 1e-9:
        return "OOD − ID"
    return "ID − OOD" if abs(printed + difference) <= rounding + 1e-9 else "neither"


def paper_table(number: int) -> pd.DataFrame:
    """A table of the paper as printed, every oddity flagged in its last column; never a target for ours."""
    return _read(f"table{number}")


def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(PAPER_TABLES / f"{name}.csv", dtype=str, keep_default_na=False)
