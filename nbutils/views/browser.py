"""A browser for notes in JupyterLab: choose by case and physician, see gold, prediction or their difference, compare.

How a span looks is the business of `views.html`. The text of a private corpus is covered unless somebody at the screen
asks for it (`privacy.reveal`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

import ipywidgets as widgets
from IPython.display import HTML

from nbutils.corpus import Corpus, Document, Prediction
from nbutils.privacy import shown, shown_fact, shown_id
from nbutils.study.runs import Run
from nbutils.views import html

ALL = "all"
GROUPS = ("case", "physician")
WAYS = {"difference": "difference", "gold": "gold", "prediction": "prediction", "systems": "side by side"}
Found = Mapping[str, Mapping[str, Prediction]]  # system -> document id -> prediction


def found_by(runs: Iterable[Run], corpus: Corpus) -> dict[str, dict[str, Prediction]]:
    """What the first run of each system found in a corpus, by document id."""
    found: dict[str, dict[str, Prediction]] = {}
    for run in runs:
        if run.system not in found:
            found[run.system] = {p.document_id: p for p in run.predictions(corpus)}
    return found


def browser(corpus: Corpus, found: Found | None = None, *, titles: Mapping[str, str] | None = None) -> widgets.VBox:
    """Menus over one note at a time. Without a mouse: Tab goes on, Space presses a button or opens a menu, arrow keys
    and Enter choose in it (on a closed menu JupyterLab takes the arrow keys for itself)."""
    return _Browser(corpus, found or {}, titles or {}).box


def static_view(
    corpus: Corpus, id: str, found: Found | None = None, way: str = "difference",
    titles: Mapping[str, str] | None = None,
) -> HTML:  # fmt: skip
    """One note of the browser without a kernel: the same on the web, on paper and in a diff.

    Of a private corpus it shows no text, since an output is saved with the notebook.
    """
    document = next((d for d in corpus if d.id == id), None)
    if document is None:
        raise ValueError(f'corpus "{corpus.name}" has no document "{id}"')
    if corpus.private:
        why = f"{escape(corpus.name)} is private, so no text of it is saved here"
        return HTML(f"<p>{why}; choose the note in the browser.</p>")
    found = found or {}
    return HTML(page(document, found, way, next(iter(found), None), titles))


def page(
    document: Document, found: Found, way: str, system: str | None = None, titles: Mapping[str, str] | None = None
) -> str:
    """One note as HTML: gold, one system's prediction, their difference, or all systems side by side."""
    predictions = {name: of_notes[document.id] for name, of_notes in found.items() if document.id in of_notes}
    document = shown(document)
    titles, gold = titles or {}, html.spans(document.entities)
    if way == "systems" and predictions:
        columns = {titles.get(name, name): p for name, p in predictions.items()}
        return html.side_by_side(document, columns).data + counts(document, predictions, titles)
    marked = html.spans(predictions[system].entities) if system in predictions else None
    if way == "gold" or marked is None:
        line = html.line_view(document.text, gold)
    elif way == "prediction":
        line = html.line_view(document.text, None, marked)
    else:
        line = html.line_view(document.text, gold, marked) + counts(document, predictions, titles)
    return html.heading(document) + html.legend() + line  # the legend first: a long note would push it out of sight


def counts(document: Document, predictions: Mapping[str, Prediction], titles: Mapping[str, str]) -> str:
    """How many entities of a note each system found, missed, and marked wrongly (exact spans), as an HTML table."""
    gold = {e.key for e in document.entities}
    lines = ["<tr><th></th><th>found</th><th>missed</th><th>wrong</th></tr>"]
    for name, prediction in predictions.items():
        marked = {e.key for e in prediction.entities}
        numbers = "".join(f"<td>{n}</td>" for n in (len(gold & marked), len(gold - marked), len(marked - gold)))
        lines.append(f'<tr><th style="text-align:left">{escape(titles.get(name, name))}</th>{numbers}</tr>')
    return f"<table>{''.join(lines)}</table>"


class _Browser:
    """The menus and the page that follows them."""

    def __init__(self, corpus: Corpus, found: Found, titles: Mapping[str, str]):
        self.corpus, self.found, self.titles = corpus, found, titles
        self.documents = {shown_id(d): d for d in corpus}  # what a widget holds may be saved with the notebook
        self.groups = {key: self._menu(key) for key in GROUPS if any(d.meta.get(key) for d in corpus)}
        self.note = widgets.Dropdown(description="note")
        ways = [(label, way) for way, label in WAYS.items() if found or way == "gold"]
        self.way = widgets.ToggleButtons(options=ways, description="show", style={"button_width": "auto"})
        self.system = widgets.Dropdown(options=[(titles.get(name, name), name) for name in found], description="system")
        self.before = widgets.Button(description="◀ previous note")
        self.after = widgets.Button(description="next note ▶")
        self.place, self.page = widgets.HTML(), widgets.HTML()
        self.ids: list[str] = []
        self._choose_notes()
        for menu in self.groups.values():
            menu.observe(lambda _: self._choose_notes(), names="value")
        for control in (self.note, self.way, self.system):
            control.observe(lambda _: self._show(), names="value")
        self.before.on_click(lambda _: self._step(-1))
        self.after.on_click(lambda _: self._step(+1))
        wrap = widgets.Layout(flex_flow="row wrap")
        choices = [*self.groups.values(), self.note, self.before, self.after, self.place]
        looks = [self.way, *([self.system] if found else [])]
        self.box = widgets.VBox([widgets.HBox(choices, layout=wrap), widgets.HBox(looks, layout=wrap), self.page])
        self._show()

    def _menu(self, key: str) -> widgets.Dropdown:
        values = sorted({shown_fact(d, key) for d in self.corpus})
        return widgets.Dropdown(options=[(ALL, ALL), *((v or "(none)", v) for v in values)], value=ALL, description=key)

    def _choose_notes(self) -> None:
        """The notes of the chosen case and physician; of a private corpus none is open until one is chosen."""
        wanted = {key: menu.value for key, menu in self.groups.items() if menu.value != ALL}
        ids = [id for id, d in self.documents.items() if all(shown_fact(d, k) == value for k, value in wanted.items())]
        first = [("choose a note …", None)] if self.corpus.private or not ids else []
        keep = self.note.value if self.note.value in ids else first[0][1] if first else ids[0]
        self.ids = ids
        self.filling = True  # new options choose the first one by themselves; that is not yet what is meant
        self.note.options = [*first, *((self._name(id), id) for id in ids)]
        self.note.value = keep
        self.filling = False
        self._show()

    def _name(self, id: str) -> str:
        title = shown(self.documents[id]).meta.get("title")
        return f"{id} · {title}" if title else id

    def _step(self, by: int) -> None:
        if self.ids:
            at = self.ids.index(self.note.value) if self.note.value in self.ids else -1 if by > 0 else 0
            self.note.value = self.ids[(at + by) % len(self.ids)]

    def _show(self) -> None:
        if self.filling:
            return
        id = self.note.value
        if id is None:
            self.place.value = f"{len(self.ids)} notes"
            self.page.value = "<p>No note is open. Choose one above.</p>"
            return
        self.place.value = f'<span aria-live="polite">note {self.ids.index(id) + 1} of {len(self.ids)}</span>'
        self.system.disabled = self.way.value in ("gold", "systems")
        content = page(self.documents[id], self.found, self.way.value, self.system.value, self.titles)
        self.page.value = f'<div tabindex="0" role="region" aria-label="the note" class="note-page">{content}</div>'
