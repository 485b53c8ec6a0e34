"""Notes with their entities in the text, as HTML: gold underlined, predictions in brackets, agreement in colour.

Everything that comes from a note is escaped, so a note cannot put markup into the page. The pages read without colour:
a line below is gold (solid where it was predicted, dashed where it was missed, double where boundaries or types
differ), ⟦ ⟧ is a prediction, and what has brackets and no line is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

import ipywidgets as widgets
import pandas as pd
from IPython.display import HTML

from nbutils.corpus import Document, Entity, Prediction
from nbutils.privacy import shown

Span = tuple  # (start, end) or (start, end, type); two spans are alike when all of it is
# Okabe and Ito's hues, lightened until black text reads well on them; the line below tells them apart in grey print.
BACKGROUNDS = {"gold": "#cde5f5", "found": "#a6dcc8", "missed": "#f8d9a0", "wrong": "#f0c3da", "boundary": "#f7f1b0"}
LINES = {"gold": "2px solid", "found": "2px solid", "missed": "2px dashed", "boundary": "4px double"}
MEANINGS = {
    "gold": "gold",
    "found": "found: gold and predicted alike",
    "missed": "missed: gold only",
    "wrong": "wrong: predicted only",
    "boundary": "both, but not alike",
}
FILTERS = ("system", "side", "kind", "physician", "case")
ALL = "all"


def highlight(text: str, gold: Iterable[Span] | None, predicted: Iterable[Span] | None = None) -> str:
    """The text as HTML with its gold spans underlined and its predicted spans in ⟦ ⟧.

    None instead of spans means that there is nothing to compare with: gold alone is neither found nor missed, and a
    prediction alone neither right nor wrong. Taking away the tags and the marks (class `mark`) gives back the text;
    spans outside the text are cut to it.
    """
    compared = gold is not None and predicted is not None
    gold, predicted = (sorted({_cut(span, len(text)) for span in given or ()} - {None}) for given in (gold, predicted))
    cuts = sorted({0, len(text)} | {place for span in (*gold, *predicted) for place in span[:2]})
    parts = []
    for start, end in pairwise(cuts):
        parts.append(_marks(start, predicted))
        parts.append(_piece(text, start, end, gold, predicted, compared))
    return "".join([*parts, _marks(len(text), predicted)])


def line_view(line: str, gold: Iterable[Span] | None, predicted: Iterable[Span] | None = None) -> str:
    """A highlighted line or note that keeps its spaces and line breaks, in columns that an eye can follow."""
    style = "white-space:pre-wrap;overflow-wrap:anywhere;max-width:48em;line-height:2;font-size:110%"
    return f'<div style="{style}">{highlight(line, gold, predicted)}</div>'


def heading(document: Document) -> str:
    """A note's id and what its file says about it."""
    about = ", ".join(f"{key} {value}" for key, value in document.meta.items() if value)
    return f"<p><b>{escape(document.id)}</b> {escape(about)}</p>"


def side_by_side(document: Document, predictions: Mapping[str, Prediction]) -> HTML:
    """One note under several systems (or annotators), one column per system, each against the same gold."""
    document = shown(document)
    heads = "".join(f"<th style='text-align:left'>{escape(name)}</th>" for name in predictions)
    gold = spans(document.entities)
    cells = "".join(
        f"<td style='text-align:left;vertical-align:top'>{line_view(document.text, gold, spans(p.entities))}</td>"
        for p in predictions.values()
    )
    return HTML(f"{heading(document)}<table><tr>{heads}</tr><tr>{cells}</tr></table>{legend()}")


def two_annotators(differing: Iterable[tuple[str, str, Sequence[Entity], Sequence[Entity]]]) -> HTML:
    """Lines on which two annotators differ, one column each; needs `agreement.lines_that_differ`. Neither is gold.

    What both marked alike is underlined; what the other has not marked so stands in ⟦ ⟧ and colour, with its certainty.
    """
    rows = ["<tr><th>document</th><th style='text-align:left'>first</th><th style='text-align:left'>second</th></tr>"]
    for document_id, line, first, second in differing:
        cells = (f"<td style='{_CELL}'>{_annotated(line, *pair)}</td>" for pair in ((first, second), (second, first)))
        rows.append(f"<tr><td style='vertical-align:top'>{escape(document_id)}</td>{''.join(cells)}</tr>")
    return HTML(f"<p>Lines that differ: {len(rows) - 1}</p><table>{''.join(rows)}</table>")


_CELL = "text-align:left;vertical-align:top;white-space:pre-wrap;line-height:2"


def _annotated(line: str, marked: Sequence[Entity], other: Sequence[Entity]) -> str:
    """A line with one annotator's entities, those that the other has not marked alike set off."""
    alike = {(*e.key, e.certainty) for e in other}
    parts, at = [], 0
    for e in sorted(marked):
        if e.start < at:  # a span that overlaps the one before: the files allow none
            continue
        parts.append(escape(line[at : e.start]))
        content, at = escape(line[e.start : e.end]), e.end
        if (*e.key, e.certainty) in alike:
            parts.append(f'<span style="border-bottom:2px solid black;margin-left:2px">{content}</span>')
        else:
            style = f"background:{BACKGROUNDS['missed']};color:black;border-bottom:2px solid black"
            certainty = f"<sub>{escape(e.certainty)}</sub>" if e.certainty else ""
            parts.append(f'<b>⟦</b><span style="{style}">{content}</span><b>⟧</b>{certainty}')
    return "".join([*parts, escape(line[at:])])


def legend() -> str:
    """What lines, brackets and colours mean."""
    both, none = [(0, 2)], []
    samples = {"gold": (both, None), "found": (both, both), "missed": (both, none), "wrong": (none, both)}
    shown = [f"{highlight('発熱', *marks)} {MEANINGS[status]}" for status, marks in samples.items()]
    shown.append(f"{highlight('左胸痛', [(0, 3)], [(1, 3)])} {MEANINGS['boundary']}")
    return f'<p style="font-size:90%">{" &emsp; ".join(shown)}</p>'


def filtered(rows: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    """The rows of `errors.of_runs` with these values of system, side, kind, physician or case; "all" is any."""
    if unknown := set(wanted) - set(FILTERS):
        raise ValueError(f'errors cannot be filtered by "{min(unknown)}"; use one of {", ".join(FILTERS)}')
    for column, value in wanted.items():
        if value != ALL:
            rows = rows[rows[column] == value]
    return rows


def error_page(rows: pd.DataFrame, *, titles: Mapping[str, str] | None = None, limit: int = 20) -> str:
    """The first errors as an HTML table: who made it, what kind, and gold against prediction in the line."""
    titles = titles or {}
    heads = ("system", "kind", "entity", "document", "gold <u>underlined</u>, prediction in ⟦ ⟧")
    lines = ["<tr>" + "".join(f'<th style="text-align:left">{head}</th>' for head in heads) + "</tr>"]
    for row in rows.head(limit).to_dict("records"):
        about = (titles.get(row["system"], row["system"]), f"{row['side']}: {row['kind']}", row["entity"], _where(row))
        cells = [escape(str(value)) for value in about] + [line_view(row["line"], row["gold"], row["predicted"])]
        lines.append("<tr>" + "".join(f'<td style="text-align:left">{cell}</td>' for cell in cells) + "</tr>")
    count = f"<p>{min(limit, len(rows))} of {len(rows)} errors</p>"
    return f"{count}<table>{''.join(lines)}</table>{legend()}"


def static_page(rows: pd.DataFrame, *, titles: Mapping[str, str] | None = None, limit: int = 20, **wanted: str) -> HTML:
    """One page of the explorer that needs no kernel: the same on the web, on paper and in a diff."""
    return HTML(error_page(filtered(rows, **wanted), titles=titles, limit=limit))


def explorer(rows: pd.DataFrame, *, titles: Mapping[str, str] | None = None, limit: int = 20) -> widgets.VBox:
    """Menus for system, side, kind, physician and case over a page of errors that follows them."""
    titles = titles or {}
    options = {c: [(titles.get(v, v) or "(none)", v) for v in rows[c].unique()] for c in FILTERS}
    menus = {
        column: widgets.Dropdown(options=[(ALL, ALL), *of_column], value=ALL, description=column)
        for column, of_column in options.items()
    }
    page = widgets.HTML()

    def show(_: Any = None) -> None:
        chosen = filtered(rows, **{column: menu.value for column, menu in menus.items()})
        page.value = error_page(chosen, titles=titles, limit=limit)

    for menu in menus.values():
        menu.observe(show, names="value")
    show()
    return widgets.VBox([widgets.HBox(list(menus.values()), layout=widgets.Layout(flex_flow="row wrap")), page])


def _cut(span: Span, length: int) -> Span | None:
    start, end = max(span[0], 0), min(span[1], length)
    return (start, end, *span[2:]) if start < end else None


def _marks(place: int, predicted: Sequence[Span]) -> str:
    """Brackets at a place of the text: first those that close, then those that open."""
    closing = "⟧" * sum(span[1] == place for span in predicted)
    opening = "⟦" * sum(span[0] == place for span in predicted)
    marks = closing + opening
    return f'<span class="mark" style="user-select:none;font-weight:bold">{marks}</span>' if marks else ""


def _piece(text: str, start: int, end: int, gold: Sequence[Span], predicted: Sequence[Span], compared: bool) -> str:
    """A stretch of text in which nothing begins or ends, in the style of the spans that cover it."""
    of_gold = next((s for s in gold if s[0] <= start and end <= s[1]), None)
    of_predicted = next((s for s in predicted if s[0] <= start and end <= s[1]), None)
    content = escape(text[start:end])
    if not of_gold and not of_predicted:
        return content
    alike = "found" if of_gold == of_predicted else "boundary"
    status = "wrong" if not of_gold else "missed" if not of_predicted else alike
    meaning = MEANINGS[status] if compared else "gold" if of_gold else "predicted"
    status = status if compared else "gold"
    style = f"background:{BACKGROUNDS[status]};color:black"
    if of_gold:
        style += f";border-bottom:{LINES[status]} black"
        # A gap where a gold span begins, so that two adjacent ones stay two.
        style += ";margin-left:2px" if of_gold[0] == start else ""
    types = " · ".join(dict.fromkeys(str(s[2]) for s in (of_gold, of_predicted) if s and len(s) > 2))
    title = f"{meaning} ({types})" if types else meaning
    return f'<span title="{escape(title)}" style="{style}">{content}</span>'


def spans(entities: Iterable[Entity]) -> list[Span]:
    """What `highlight` draws of entities: start, end, type."""
    return [e.key for e in entities]


def _where(row: Mapping[str, Any]) -> str:
    return " ".join(str(row[column]) for column in ("document", "case", "physician") if row.get(column))
