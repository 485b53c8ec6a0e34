"""Notes with their entities in the text, as HTML: gold underlined, predictions in brackets, agreement in colour.

Knows text and spans. Everything that comes from a note is escaped, so a note cannot put markup into the page. Readable
without colour: a solid line below is gold, ⟦ ⟧ is a prediction, and a span that has both with the same ends is right.
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
BACKGROUNDS = {"found": "#b7e4c7", "missed": "#ffd8a8", "wrong": "#f4b6c2", "border": "#fff3a3"}
MEANINGS = {
    "found": "found: gold and predicted alike",
    "missed": "missed: gold only",
    "wrong": "wrong: predicted only",
    "border": "both, but not alike",
}
FILTERS = ("system", "side", "kind", "physician", "case")
ALL = "all"


def highlight(text: str, gold: Iterable[Span], predicted: Iterable[Span] = ()) -> str:
    """The text as HTML with its gold spans underlined and its predicted spans in ⟦ ⟧.

    Taking away the tags and the marks (class `mark`) gives back the text; spans outside the text are cut to it.
    """
    gold, predicted = (sorted({_cut(span, len(text)) for span in spans} - {None}) for spans in (gold, predicted))
    cuts = sorted({0, len(text)} | {place for span in (*gold, *predicted) for place in span[:2]})
    parts = []
    for start, end in pairwise(cuts):
        parts.append(_marks(start, predicted))
        parts.append(_piece(text, start, end, gold, predicted))
    return "".join([*parts, _marks(len(text), predicted)])


def line_view(line: str, gold: Iterable[Span], predicted: Iterable[Span] = ()) -> str:
    """A highlighted line or note that keeps its spaces and line breaks."""
    return f'<div style="white-space:pre-wrap;line-height:2;font-size:110%">{highlight(line, gold, predicted)}</div>'


def note(document: Document, prediction: Prediction | None = None) -> HTML:
    """A whole note with gold and predicted entities, its id and what its file says about it."""
    document = shown(document)
    about = ", ".join(f"{key} {value}" for key, value in document.meta.items() if value)
    head = f"<b>{escape(document.id)}</b> {escape(about)}"
    found = _spans(prediction.entities) if prediction else []
    return HTML(f"<p>{head}</p>{line_view(document.text, _spans(document.entities), found)}{legend()}")


def side_by_side(document: Document, predictions: Mapping[str, Prediction]) -> HTML:
    """One note under several systems (or annotators), a column each, every one against the same gold."""
    document = shown(document)
    heads = "".join(f"<th style='text-align:left'>{escape(name)}</th>" for name in predictions)
    gold = _spans(document.entities)
    cells = "".join(
        f"<td style='text-align:left;vertical-align:top'>{line_view(document.text, gold, _spans(p.entities))}</td>"
        for p in predictions.values()
    )
    return HTML(f"<p><b>{escape(document.id)}</b></p><table><tr>{heads}</tr><tr>{cells}</tr></table>{legend()}")


def legend() -> str:
    """What lines, brackets and colours mean."""
    samples = {"found": [[(0, 2)], [(0, 2)]], "missed": [[(0, 2)], []], "wrong": [[], [(0, 2)]]}
    shown = [f"{highlight('発熱', *spans)} {MEANINGS[status]}" for status, spans in samples.items()]
    shown.append(f"{highlight('左胸痛', [(0, 3)], [(1, 3)])} {MEANINGS['border']}")
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


def error_twin(rows: pd.DataFrame, *, titles: Mapping[str, str] | None = None, limit: int = 20, **wanted: str) -> HTML:
    """The static twin of the explorer: one page of it, the same on the web, on paper and in a diff."""
    return HTML(error_page(filtered(rows, **wanted), titles=titles, limit=limit))


def explorer(rows: pd.DataFrame, *, titles: Mapping[str, str] | None = None, limit: int = 20) -> widgets.VBox:
    """Menus for system, side, kind, physician and case over a page of errors that follows them."""
    titles = titles or {}
    menus = {
        column: widgets.Dropdown(
            options=[(ALL, ALL), *((titles.get(v, v) or "(none)", v) for v in _in_order(rows[column]))],
            value=ALL,
            description=column,
        )
        for column in FILTERS
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


def _piece(text: str, start: int, end: int, gold: Sequence[Span], predicted: Sequence[Span]) -> str:
    """A stretch of text in which nothing begins or ends, in the style of the spans that cover it."""
    of_gold = next((s for s in gold if s[0] <= start and end <= s[1]), None)
    of_predicted = next((s for s in predicted if s[0] <= start and end <= s[1]), None)
    content = escape(text[start:end])
    if not of_gold and not of_predicted:
        return content
    status = "wrong" if not of_gold else "missed" if not of_predicted else "border"
    if of_gold and of_gold == of_predicted:
        status = "found"
    style = f"background:{BACKGROUNDS[status]};color:black"
    if of_gold:
        style += ";border-bottom:2px solid black"
        # A gap where a gold span begins, so that two adjacent ones stay two.
        style += ";margin-left:2px" if of_gold[0] == start else ""
    return f'<span title="{MEANINGS[status]}" style="{style}">{content}</span>'


def _spans(entities: Iterable[Entity]) -> list[Span]:
    return [e.key for e in entities]


def _where(row: Mapping[str, Any]) -> str:
    return " ".join(str(row[column]) for column in ("document", "case", "physician") if row.get(column))


def _in_order(values: pd.Series) -> list[Any]:
    return list(dict.fromkeys(values))
