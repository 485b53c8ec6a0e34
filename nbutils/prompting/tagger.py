"""In-context learning: the model as it is, told the guideline, and perhaps shown annotated notes of the training part.

Through any endpoint that speaks OpenAI's chat completions, or in this process. `fit` only chooses the notes to show.
Knows prompts, and what an answer means for a note. Knows nothing of networks (`calls`) and weights (`icl_local`).
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from nbutils.corpus import Corpus, Document, Entity, Prediction, sentence_spans, text_hash
from nbutils.files import DataError
from nbutils.prompting import markup
from nbutils.prompting.ledger import Outcome, answer_key
from nbutils.prompting.prompts import Prompt, answer_limit, build_prompt, prompt_string, shortened
from nbutils.taggers.settings import IclSettings
from nbutils.taggers.usage import Tokens

MESSAGE_ROOM = 32  # tokens that a chat template adds, at most
PIECE_END = "\x1e"  # between the raw answers of one note's pieces (the record separator of ASCII)

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Piece:
    """What is asked at once: a note or a line of it."""

    document: int
    start: int
    text: str
    prompt: Prompt


class IclTagger:
    """A prompt with its example notes, and the model behind it; ready to tag."""

    def __init__(
        self, settings: IclSettings, shots: Sequence[Document], seed: int, private_shots: tuple[str, ...] = ()
    ):
        self.settings, self.shots, self.seed = settings, tuple(shots), seed
        self.private_shots = private_shots
        self._asked = Tokens()  # of an endpoint
        self._local: Any = None

    def predict(self, documents: Corpus | Iterable[Document], progress: bool = False) -> list[Prediction]:
        """Tag every document; a note without a usable answer gets no entity, and `repairs` says why.

        Raises:
            DataError: see `calls.ask_all`.
        """
        private = private_names(documents, self.settings)
        documents = [d.without_entities() for d in documents]
        pieces = self.pieces(documents)
        if self.settings.endpoint is not None:
            from nbutils.prompting.ask import ask_all, tokens_of

            requests = self.requests(pieces, private)
            outcomes = ask_all(requests, self.settings, progress=progress)
            self._asked += tokens_of(requests, self.settings)
        else:
            outcomes = self.local.answers([p.prompt for p in pieces], [p.text for p in pieces], self.seed, progress)
        return predictions_of(documents, pieces, outcomes, self.settings, keep_raw=not private)

    @property
    def used(self) -> Tokens:
        return self._asked if self._local is None else self._asked + self._local.used

    @property
    def local(self) -> Any:
        """The model in this process, loaded when first needed."""
        if self._local is None:
            from nbutils.prompting.local import LocalModel

            self._local = LocalModel(self.settings)
        return self._local

    def pieces(self, documents: Sequence[Document]) -> list[Piece]:
        return [
            Piece(k, start, d.text[start:end], build_prompt(self.settings.prompt, self.shots, d.text[start:end]))
            for k, d in enumerate(documents)
            for start, end in sentence_spans(d, self.settings.unit)
        ]

    def requests(self, pieces: Sequence[Piece], private: tuple[str, ...] = ()) -> list[Any]:
        """The pieces as requests for an endpoint, each marked with the private corpora whose text it holds."""
        from nbutils.prompting.ask import Request

        names = tuple(sorted({*private, *self.private_shots}))
        found = []
        for piece in pieces:
            body = request_body(piece, self.settings, self.seed)
            key = answer_key(self.settings.endpoint, body, text_hash(piece.text))
            found.append(Request(key, body, _at_most(body, self.settings), names))
        return found

    def save(self, folder: str | Path) -> None:
        """The settings, and which notes are shown, by id: the model stays where it is, the notes in their corpus."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        record = asdict(self.settings) | {"seed": self.seed, "shot_documents": [d.id for d in self.shots]}
        (folder / "settings.json").write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")


def fit(
    documents: Corpus | Iterable[Document], settings: IclSettings, *, seed: int, progress: bool = True
) -> IclTagger:
    """Choose the notes to show, at random by seed; the first ones of a larger choice are those of a smaller one.

    Args:
        documents: the training part; no other note is ever shown.

    Raises:
        DataError: fewer notes with entities than `shots`.
    """
    private = private_names(documents, settings) if settings.shots else ()
    annotated = [d for d in documents if d.entities]
    if len(annotated) < settings.shots:
        raise DataError(
            f"shots: {settings.shots} annotated notes are wanted, the training part has {len(annotated)}; lower shots"
        )
    random.Random(seed).shuffle(annotated)
    shots = [shortened(d, settings.shot_characters) for d in annotated[: settings.shots]]
    return IclTagger(settings, shots, seed, private)


def private_names(documents: Corpus | Iterable[Document], settings: IclSettings) -> tuple[str, ...]:
    """The private corpora that these documents may come from; a Corpus says so itself."""
    if isinstance(documents, Corpus):
        return tuple({*settings.private_corpora, *([documents.name] if documents.private else [])})
    return settings.private_corpora


# --- requests --------------------------------------------------------------------------------------------------------


def request_body(piece: Piece, settings: IclSettings, seed: int) -> dict[str, Any]:
    """A chat completion as the endpoint gets it; lone surrogates, which UTF-8 has not, become U+FFFD."""
    content = _SURROGATE.sub("\ufffd", prompt_string(piece.prompt))
    body = {
        "model": settings.model,
        "messages": [{"role": "user", "content": content}],
        "seed": seed,
        settings.limit_name: answer_limit(piece.text, settings),
    }
    return body if settings.temperature is None else body | {"temperature": settings.temperature}


def _at_most(body: dict[str, Any], settings: IclSettings) -> Tokens:
    """More tokens than a request can have: no tokenizer in use makes more tokens than there are bytes."""
    prompt = sum(len(m["content"].encode()) for m in body["messages"]) + MESSAGE_ROOM
    return Tokens(prompt, body[settings.limit_name])


# --- answers ---------------------------------------------------------------------------------------------------------


def predictions_of(
    documents: Sequence[Document],
    pieces: Sequence[Piece],
    outcomes: Sequence[Outcome],
    settings: IclSettings,
    *,
    keep_raw: bool = True,
) -> list[Prediction]:
    """One prediction a document; `repairs` counts the damage of its answers, and the answers that did not just stop.

    With `keep_raw` the raw answers are kept, joined by `PIECE_END`; they repeat the note, so a private one's are not.
    """
    found: list[list[Entity]] = [[] for _ in documents]
    repairs: list[Counter[str]] = [Counter() for _ in documents]
    raw: list[list[str]] = [[] for _ in documents]
    for piece, outcome in zip(pieces, outcomes, strict=True):
        k = piece.document
        reading = read_outcome(piece.text, outcome, settings)
        found[k] += [replace(e, start=e.start + piece.start, end=e.end + piece.start) for e in reading.entities]
        repairs[k].update(reading.repairs)
        raw[k].append((outcome.content or "").replace(PIECE_END, "\ufffd"))
    return [
        Prediction(d.id, tuple(sorted(f)), PIECE_END.join(r) if keep_raw else None, dict(n))
        for d, f, r, n in zip(documents, found, raw, repairs, strict=True)
    ]


def read_outcome(text: str, outcome: Outcome, settings: IclSettings) -> markup.Reading:
    """What an outcome says about its text: an answer is read, and whatever else it was is counted and marks nothing."""
    state = {} if outcome.state == "stop" else {f"answer: {outcome.state}": 1}
    if not outcome.content or outcome.state in ("refusal", "failed", "interrupted"):
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
        states = {k.removeprefix("answer: "): n for k, n in p.repairs.items() if k.startswith("answer: ")}
        outcomes = [Outcome("stop", content) for content in raw]
        (prediction,) = predictions_of([document], pieces, outcomes, settings)
        kept = {f"answer: {state}": n for state, n in states.items()}
        again.append(replace(prediction, repairs={**prediction.repairs, **kept}))
    return again


def load(folder: str | Path, documents: Iterable[Document]) -> IclTagger:
    """A tagger as `save` left it; `documents` hold the notes that it shows."""
    record = json.loads((Path(folder) / "settings.json").read_text(encoding="utf-8"))
    seed, wanted = record.pop("seed"), record.pop("shot_documents")
    settings = IclSettings(**{key: tuple(v) if isinstance(v, list) else v for key, v in record.items()})
    of_id = {d.id: d for d in documents}
    if missing := [name for name in wanted if name not in of_id]:
        raise DataError(f'{folder}: shows the note "{missing[0]}", which is not among these documents; give its corpus')
    shots = [shortened(of_id[name], settings.shot_characters) for name in wanted]
    return IclTagger(settings, shots, seed, settings.private_corpora if shots else ())
