"""What is missed: shares of known and unknown names, what chance alone would touch, a mixed model of being found."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pandas as pd

from nbutils.analysis.errors import BORDER_KINDS, document_errors
from nbutils.analysis.significance import INTERVAL
from nbutils.scoring.evaluation import GROUPS
from nbutils.scoring.spans import moved_at_random, pair
from nbutils.study.file import Study
from nbutils.study.results import Results

WITHOUT = "This section needs statsmodels (`pip install statsmodels`), which is not installed here."


def mention_table(results: Results, *, train: str, evaluate: str) -> pd.DataFrame:
    """One row per gold mention and run: found exactly, its string a training entity, its length, and whose it is."""
    known = {d.surface(e) for d in results.training_part(train) for e in d.entities}
    rows = []
    for scored in results.scored(train, evaluate):
        for document, prediction in pair(scored.gold, scored.predicted):
            marked = {e.key for e in prediction.entities}
            facts = {key: document.meta[key] for key in GROUPS if document.meta.get(key)}
            rows += [
                {"system": scored.run.system, "seed": scored.run.seed, "document": document.id, **facts}
                | {"found": e.key in marked, "seen": document.surface(e) in known, "length": e.end - e.start}
                for e in {e.key: e for e in document.entities}.values()
            ]
    return pd.DataFrame(rows)


def missed_table(study: Study, mentions: pd.DataFrame) -> pd.DataFrame:
    """Of the names that training marked, and of the others: how many there are, and what share each system misses."""
    mentions = mentions.assign(name=np.where(mentions["seen"], "seen in training", "unseen"), missed=~mentions["found"])
    grouped = mentions.groupby(["system", "name"], sort=False)
    table = pd.DataFrame({"missed (%)": 100 * grouped["missed"].mean(), "mentions": grouped.size()}).reset_index()
    table["mentions"] //= table["system"].map(mentions.groupby("system")["seed"].nunique())
    table["system"] = table["system"].map({name: s.title for name, s in study.systems.items()})
    wide = table.pivot(index="system", columns="name", values=["mentions", "missed (%)"])
    wide = wide.loc[[s.title for s in study.systems.values() if s.title in wide.index]].astype(float)
    wide.columns = [f"{name}: {what}" for what, name in wide.columns]
    return wide.astype({column: int for column in wide if column.endswith("mentions")})


def chance_table(
    study: Study, results: Results, counted: pd.DataFrame, side: str, *, train: str, evaluate: str, seed: int = 0
) -> pd.DataFrame:
    """Errors of a boundary kind per run beside those of the same predictions with the wrong ones at random places.

    A prediction that shares a character with a name has touched it, perhaps by chance: only what is above the second
    number is a name that was recognised with another boundary. `counted` is `errors.count_table`'s.
    """
    kinds: dict[str, list[int]] = {}
    for scored in results.scored(train, evaluate):
        rng = np.random.default_rng([seed, scored.run.seed])
        n = 0
        for document, prediction in pair(scored.gold, scored.predicted):
            gold = {e.key for e in document.entities}
            right = tuple(e for e in prediction.entities if e.key in gold)
            moved = right + moved_at_random(document, [e for e in prediction.entities if e.key not in gold], rng)
            n += sum(s == side and kind in BORDER_KINDS for s, kind, _ in document_errors(document, moved))
        kinds.setdefault(scored.title, []).append(n)
    touched = counted.loc[list(BORDER_KINDS)].sum()
    rows = {title: (touched[title], float(np.mean(ns)), counted.loc["all", title]) for title, ns in kinds.items()}
    columns = ["boundary kinds", "by chance", f"all {side}s"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("system")


def mixed_model(study: Study, mentions: pd.DataFrame, *pair: str) -> pd.DataFrame | str:
    """A mixed logistic model of a gold mention being found: what helps, and whose notes are hard for which system.

    Log odds of found = system, seen in training, length, and how the second system differs on seen names, plus random
    effects of each grouping of the notes, each grouping × system, and the note. First seed of each system; length is
    log2 characters. Fixed effects are odds ratios, random ones SDs on the logit scale; intervals are the variational
    posterior's, whose SDs are known to be too small, so read them as orientation.

    `pair` is the first that `compare` names, else the first two systems. Returns a sentence instead where statsmodels
    is not installed, or fewer than two systems found anything.

    Source: statsmodels' BinomialBayesMixedGLM, fitted by variational Bayes; Jaeger 2008, Journal of Memory and Language
    59(4), for such models of binary outcomes.
    """
    if find_spec("statsmodels") is None:
        return WITHOUT
    systems = list(dict.fromkeys(mentions["system"]))
    chosen = pair or next((asked for asked in study.compare if set(asked) <= set(systems)), tuple(systems[:2]))
    if len(chosen) < 2:
        return "The model compares two systems, and fewer than two of this study found anything."
    first, second = chosen
    from scipy import sparse
    from statsmodels.genmod.bayes_mixed_glm import BinomialBayesMixedGLM

    rows = mentions[mentions["system"].isin([first, second])]
    rows = rows[rows["seed"] == rows.groupby("system")["seed"].transform("min")]
    is_second, seen = (rows["system"] == second).to_numpy(float), rows["seen"].to_numpy(float)
    title = study.systems[second].title
    fixed = {"(all other things 0)": np.ones(len(rows)), f"{title} instead of {study.systems[first].title}": is_second,
             "seen in training": seen, f"seen in training, for {title}: further factor": is_second * seen,
             "twice as long": np.log2(rows["length"].to_numpy(float))}  # fmt: skip
    keys = [key for key in GROUPS if key in rows and rows[key].nunique() > 1]
    effects = {key: rows[key] for key in keys} | {f"{key} × system": rows[key] + rows["system"] for key in keys}
    effects["note"] = rows["document"]
    codes, each = [pd.factorize(values)[0] for values in effects.values()], np.arange(len(rows))
    design = sparse.hstack([
        sparse.csr_matrix((np.ones(len(rows)), (each, c)), shape=(len(rows), c.max() + 1)) for c in codes
    ]).tocsr()  # fmt: skip
    which = np.repeat(np.arange(len(codes)), [c.max() + 1 for c in codes])
    model = BinomialBayesMixedGLM(
        rows["found"].to_numpy(float), np.column_stack(list(fixed.values())), design, which, vcp_p=1.0, fe_p=2.0
    )
    start = np.concatenate([np.zeros(model.k_fep), np.full(model.k_vcp, -1.0), np.zeros(model.k_vc)])
    fit = model.fit_vb(mean=start, sd=np.full(len(start), 0.3))
    parts = [("odds ratio", fixed, fit.fe_mean, fit.fe_sd), ("SD (logit)", effects, fit.vcp_mean, fit.vcp_sd)]
    table = [
        {"effect": name, "is": what, "value": np.exp(m)}
        | dict(zip(INTERVAL, np.exp([m - 1.96 * s, m + 1.96 * s]), strict=True))
        for what, names, means, sds in parts
        for name, m, s in zip(names, means, sds, strict=True)
    ]
    return pd.DataFrame(table).set_index(["is", "effect"])
