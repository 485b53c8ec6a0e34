"""In-context learning: the model as it is, told the guideline, and perhaps shown annotated notes of the training part.

Through any endpoint that speaks OpenAI's chat completions, or in this process. `fit` only chooses the notes to show.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from nbutils.corpus import Corpus, Document, Entity, Prediction, sentence_spans, text_hash
from nbutils.files import DataError
from nbutils.privacy import shown_id
from nbutils.prompting import markup
from nbutils.prompting.guard import NOTES
from nbutils.prompting.ledger import SURROGATE, Outcome, answer_key
from nbutils.prompting.prompts import Prompt, answer_limit, build_prompt, prompt_string, shortened
from nbutils.prompting.reply import state_of_end
from nbutils.taggers.settings import IclSettings, save_settings
from nbutils.taggers.terms import read_terms
from nbutils.taggers.usage import Tokens

MESSAGE_TOKENS = 32  # tokens that a chat template adds, at most
PIECE_END = "\x1e"  # between the raw answers of one note's pieces (the record separator of ASCII)


@dataclass(frozen=True)
class Piece:
    """What is asked at once: a note or a line of it."""

    document: int
    start: int
    text: str
    prompt: Prompt
    note: str = ""  # the document's id as a message may show it


class IclTagger:
    """A prompt with its example notes, and the model behind it; ready to tag."""

    def __init__(
        self, settings: IclSettings, shots: Sequence[Document], seed: int, private_shots: tuple[str, ...] = ()
    ):
        self.settings, self.shots, self.seed = settings, tuple(shots), seed
        self.private_shots = private_marks(self.shots, private_shots)
        self.terms = read_terms(settings.dictionary) if settings.dictionary else None
        self._asked: Tokens | None = Tokens()  # of an endpoint
        self._local: Any = None

    def predict(self, documents: Corpus | Iterable[Document], progress: bool = False) -> list[Prediction]:
        """Tag every document; a note without a usable answer gets no entity, and `repairs` says why.

        Raises:
            DataError: see `ask.ask_all`.
        """
        name = documents.name if isinstance(documents, Corpus) else None
        notes = list(documents)
        private = private_marks(notes, self.settings.private_corpora, name)
        bare = [d.without_entities() for d in notes]
        pieces = self.pieces(bare)
        if self.settings.endpoint is not None:
            from nbutils.prompting.ask import ask_all, tokens_of

            requests = self.requests(pieces, private)
            outcomes = ask_all(requests, self.settings, progress=progress)
            used = tokens_of(requests, self.settings)
            self._asked = None if used is None or self._asked is None else self._asked + used
        else:
            outcomes = self.local.answers([p.prompt for p in pieces], [p.text for p in pieces], self.seed, progress)
        keep_raw = not (self.settings.private_corpora or self.private_shots)
        return predictions_of(bare, pieces, outcomes, self.settings, keep_raw=keep_raw)

    @property
    def used(self) -> Tokens | None:
        """Tokens read and written so far; None when the endpoint did not count all of them."""
        return self._asked if self._local is None or self._asked is None else self._asked + self._local.used

    @property
    def local(self) -> Any:
        """The model in this process, loaded when first needed."""
        if self._local is None:
            from nbutils.prompting.local import LocalModel

            self._local = LocalModel(self.settings)
        return self._local

    def pieces(self, documents: Sequence[Document]) -> list[Piece]:
        return [
            Piece(k, start, text := d.text[start:end], self._prompt(text), shown_id(d))
            for k, d in enumerate(documents)
            for start, end in sentence_spans(d, self.settings.unit)
        ]

    def _prompt(self, text: str) -> Prompt:
        found = dict.fromkeys(text[a:b] for a, b, _ in self.terms.spans(text)) if self.terms else ()
        return build_prompt(self.settings.prompt, self.shots, text, tuple(found)[: self.settings.hints])

    def requests(self, pieces: Sequence[Piece], private: tuple[str, ...] = ()) -> list[Any]:
        """The pieces as requests for an endpoint, each marked with the private corpora whose text it holds."""
        from nbutils.prompting.ask import Request

        marks = tuple(sorted({*private, *self.private_shots}))
        requests = []
        for piece in pieces:
            body = request_body(piece, self.settings, self.seed)
            key = answer_key(self.settings.endpoint, body, text_hash(piece.text))
            requests.append(Request(key, body, _at_most(body, piece.text, self.settings), marks, piece.note))
        return requests

    def save(self, folder: str | Path) -> None:
        """The settings, and which notes are shown, by id: the model stays where it is, the notes in their corpus."""
        save_settings(self.settings, folder, seed=self.seed, shot_documents=[d.id for d in self.shots])


def fit(
    documents: Corpus | Iterable[Document], settings: IclSettings, *, seed: int, progress: bool = True
) -> IclTagger:
    """Choose the notes to show, at random by seed; the first ones of a larger choice are those of a smaller one.

    Args:
        documents: the training part; no other note is ever shown.

    Raises:
        DataError: fewer notes with entities than `shots`.
    """
    name = documents.name if isinstance(documents, Corpus) else None
    notes = list(documents)
    annotated = [d for d in notes if d.entities]
    if len(annotated) < settings.shots:
        raise DataError(
            f"shots: {settings.shots} annotated notes are wanted, the training part has {len(annotated)}; lower shots"
        )
    random.Random(seed).shuffle(annotated)
    shots = [shortened(d, settings.shot_characters) for d in annotated[: settings.shots]]
    return IclTagger(settings, shots, seed, private_marks(shots, settings.private_corpora, name) if shots else ())


def private_marks(documents: Iterable[Document], named: Iterable[str], corpus: str | None = None) -> tuple[str, ...]:
    """What the guard is asked about for these documents: private corpora that they may come from, and their own marks.

    Args:
        named: corpora that the study calls private.
        corpus: the name of the corpus that the documents are, if they are one.
    """
    marked = [corpus or NOTES] if any(d.private for d in documents) else []
    return tuple(sorted({*named, *marked}))


# --- requests --------------------------------------------------------------------------------------------------------


def request_body(piece: Piece, settings: IclSettings, seed: int) -> dict[str, Any]:
    """A chat completion as the endpoint gets it; lone surrogates, which UTF-8 has not, become U+FFFD."""
    content = SURROGATE.sub("\ufffd", prompt_string(piece.prompt))
    body: dict[str, Any] = {"model": settings.model, "messages": [{"role": "user", "content": content}]}
    if settings.seed_name is not None:
        body[settings.seed_name] = seed
    if settings.limit_name is not None:
        body[settings.limit_name] = answer_limit(piece.text, settings)
    return body if settings.temperature is None else body | {"temperature": settings.temperature}


def _at_most(body: dict[str, Any], text: str, settings: IclSettings) -> Tokens:
    """More tokens than a request can have: no tokenizer in use makes more tokens than there are bytes."""
    prompt = sum(len(m["content"].encode()) for m in body["messages"]) + MESSAGE_TOKENS
    return Tokens(prompt, answer_limit(text, settings))


# --- answers ---------------------------------------------------------------------------------------------------------


def predictions_of(
    documents: Sequence[Document],
    pieces: Sequence[Piece],
    outcomes: Sequence[Outcome],
    settings: IclSettings,
    *,
    keep_raw: bool = True,
) -> list[Prediction]:
    """One prediction per document; `repairs` counts the damage of its answers, and the answers that did not just stop.

    With `keep_raw` the raw answers are kept, joined by `PIECE_END`; they repeat the note, so a private one's are not.
    """
    entities: list[list[Entity]] = [[] for _ in documents]
    repairs: list[Counter[str]] = [Counter() for _ in documents]
    raw: list[list[str]] = [[] for _ in documents]
    for piece, outcome in zip(pieces, outcomes, strict=True):
        k = piece.document
        reading = read_outcome(piece.text, outcome, settings)
        entities[k] += [replace(e, start=e.start + piece.start, end=e.end + piece.start) for e in reading.entities]
        repairs[k].update(reading.repairs)
        raw[k].append((outcome.content or "").replace(PIECE_END, "\ufffd"))
    return [
        Prediction(d.id, tuple(sorted(e)), PIECE_END.join(r) if keep_raw and not d.private else None, dict(n))
        for d, e, r, n in zip(documents, entities, raw, repairs, strict=True)
    ]


def read_outcome(text: str, outcome: Outcome, settings: IclSettings) -> markup.Reading:
    """What an outcome says about its text: an answer is read, and whatever else it was is counted and marks nothing."""
    name = outcome.state
    if name.startswith("ended by "):  # earlier versions kept the server's own word here
        name = state_of_end(name.removeprefix("ended by "))
    state = {} if name == "stop" else {f"answer: {name}": 1}
    if not outcome.content or outcome.state in ("refusal", "refused", "failed", "interrupted"):
        return markup.Reading((), state or {"empty answer": 1}, failed=True)
    reading = markup.read(text, outcome.content, settings.labels, settings.policy)
    if state and settings.policy == "strict":
        return markup.Reading((), {**reading.repairs, **state}, failed=True)
    return replace(reading, repairs={**reading.repairs, **state})


def damage_table(predictions: Iterable[Prediction]) -> pd.DataFrame:
    """Kinds of damage and of failed answers: how often, and in how many notes of all."""
    predictions = list(predictions)
    times: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    for prediction in predictions:
        times.update(prediction.repairs)
        notes.update(prediction.repairs.keys())
    rows = [(kind, times[kind], notes[kind]) for kind, _ in times.most_common()]
    columns = ["kind", "times", f"notes (of {len(predictions)})"]
    return pd.DataFrame(rows, columns=columns).set_index("kind")


def reread(corpus: Corpus, predictions: Iterable[Prediction], settings: IclSettings) -> list[Prediction]:
    """The raw answers of finished predictions, read again under the policy of these settings.

    Only answers are read; what failed stays failed.

    Raises:
        DataError: the raw answers were not kept, or were asked for in other units.
    """
    documents = {d.id: d.without_entities() for d in corpus}
    again = []
    for p in predictions:
        document = documents[p.document_id]
        spans = sentence_spans(document, settings.unit)
        raw = p.raw.split(PIECE_END) if p.raw is not None and spans else []
        if len(raw) != len(spans):
            raise DataError(f'document "{p.document_id}": its raw answers were not kept; tag it again')
        pieces = [Piece(0, start, document.text[start:end], ()) for start, end in spans]
        outcomes = [Outcome("stop", content) for content in raw]
        (prediction,) = predictions_of([document], pieces, outcomes, settings)
        kept = {kind: n for kind, n in p.repairs.items() if kind.startswith("answer: ")}
        again.append(replace(prediction, repairs={**prediction.repairs, **kept}))
    return again


def load(folder: str | Path, documents: Iterable[Document] = ()) -> IclTagger:
    """A tagger as `save` left it.

    Args:
        documents: hold the notes that the prompt shows, if it shows any: `save` keeps their ids only.

    Raises:
        DataError: not what `save` writes, or a note that is shown is not among these documents.
    """
    path = Path(folder) / "settings.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        seed, wanted = record.pop("seed"), record.pop("shot_documents")
        settings = IclSettings(**record)
        of_id = {d.id: d for d in documents}
        missing = [name for name in wanted if name not in of_id]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataError(f"{path}: not the settings of a prompted model; run its study again") from None
    if missing:
        raise DataError(
            f"{folder}: the prompt shows {len(wanted)} notes of its training corpus, and {len(missing)} of them are "
            "not at hand; bring back the study file and the corpus that it was made with"
        )
    shots = [shortened(of_id[name], settings.shot_characters) for name in wanted]
    return IclTagger(settings, shots, seed, settings.private_corpora if shots else ())
