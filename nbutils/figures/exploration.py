"""How long lines and entities are."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure

from nbutils.analysis.exploration import entity_lengths, line_lengths
from nbutils.corpus import Corpus
from nbutils.figures.style import COLOURS, plain, use_style


def lengths(corpora: Iterable[Corpus]) -> Figure:
    """Distributions of line and entity lengths in characters, one curve per corpus."""
    use_style()
    corpora = list(corpora)
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.2))
    for axes, what, measure in zip(panels, ("lines", "entities"), (line_lengths, entity_lengths), strict=True):
        for corpus, colour, dash in zip(corpora, cycle(COLOURS), cycle(("-", "--", ":", "-.")), strict=False):
            sns.ecdfplot(x=measure(corpus), ax=axes, color=colour, linestyle=dash, label=plain(corpus.name))
        axes.set(xlabel=f"length of {what} (characters)", ylabel="share of at most this length")
    panels[0].set_title("How long lines and entities are, by corpus", loc="left")
    panels[1].legend(frameon=False)
    return figure
