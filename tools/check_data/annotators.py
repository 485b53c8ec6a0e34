"""The two annotators of the bundled corpora before adjudication: are their layers whole, and how far do they agree?"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from nbutils.analysis.agreement import agreement_table
from nbutils.analysis.exploration import certainty_table
from nbutils.corpus import CERTAINTIES, Corpus, paired, problems

Layers = tuple[Corpus, Corpus]  # the first and the second annotator's


def layer_faults(corpus: Corpus, layers: Layers) -> list[str]:
    """What makes an annotator's layer unfit for a comparison: other documents, other texts, faulty entities."""
    texts = {d.id: d.text for d in corpus}
    faults = []
    for number, layer in enumerate(layers, start=1):
        where = f"{corpus.name}, annotator {number}"
        if missing := sorted(set(texts) - {d.id for d in layer}):
            faults.append(f"{where}: {len(missing)} documents are missing, the first of them {missing[0]}; add them")
        for d in layer:
            if texts.get(d.id) != d.text:
                faults.append(f'{where}: document "{d.id}" is not in the corpus or has another text; restore it')
            faults += [f"{where}: {sentence}" for sentence in problems(d, labels={"d"})]
            if any(e.certainty not in CERTAINTIES for e in d.entities):
                faults.append(f'{where}: document "{d.id}" has an entity without a certainty; ask its annotator')
    return faults


def agreement_summary(layers: Mapping[str, Layers]) -> pd.DataFrame:
    """One column per corpus: entities of each annotator, matches and F1 with its 95 % interval over documents."""
    columns = {}
    for name, (first, second) in layers.items():
        agreement = agreement_table(paired(first, second))
        columns[name] = {
            "documents annotated by both": f"{len(second):,}",
            "entities, annotator A": f"{agreement['entities of first'].iloc[0]:,}",
            "entities, annotator B": f"{agreement['entities of second'].iloc[0]:,}",
            **{f"annotator B, {kind}": f"{n:,}" for kind, n in certainty_table([second])[name].items()},
            **{f"matched, {kind}": f"{n:,}" for kind, n in agreement["matched"].items()},
            **{
                f"F1, {kind}": f"{row['F1']:.3f} ({row['95 % from']:.3f}–{row['95 % to']:.3f})"
                for kind, row in agreement.iterrows()
            },
        }
    return pd.DataFrame(columns)
