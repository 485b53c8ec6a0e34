"""Predictions made elsewhere, by any tool: bound to the notes by id and text, and scored like those of any other row.

Nothing is trained, tagged or timed here. A note without predictions is an error and never an empty prediction, since
that would be a score (docs/external.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from nbutils.corpus import UNMARKED, Corpus, Document, Entity, Prediction, problems, text_hash
from nbutils.corpus.formats import files_of, read_corpus
from nbutils.corpus.formats.jsonl import prediction_from_json
from nbutils.files import HIDDEN, DataError, from_repository, text_of
from nbutils.privacy import hidden, shown_id
from nbutils.taggers.settings import ExternalSettings, read_settings, save_settings

OWN = "offsets"  # the format of runs/…/predictions: an id, the hash of the text and spans; no text


Found = tuple[Prediction, str]  # what a file says about one note, and the hash of its text


class ExternalTagger:
    """Looks up what another tool found."""

    def __init__(self, settings: ExternalSettings, training: Iterable[Document] | None = None):
        self.settings = settings
        self.training = None if training is None else frozenset((d.id, text_hash(d.text)) for d in training)
        self._read: dict[str, dict[str, Found]] = {}

    def predict(self, documents: Corpus | Iterable[Document], progress: bool = False) -> list[Prediction]:
        """What the files say about these notes: of a corpus its own file, of other notes any file.

        Raises:
            DataError: a note is in no file, its text is another one, its entities overlap or do not lie in it; or the
                file has a note that is neither among these nor one of the training part.
        """
        notes = list(documents)
        if isinstance(documents, Corpus):
            self._refuse_unknown(documents)
            names = [documents.name]
        else:
            names = list(self.settings.predictions)
        return [self._prediction(note, names) for note in notes]

    def _prediction(self, note: Document, names: list[str]) -> Prediction:
        found = [(name, self._of(name)[note.id]) for name in names if note.id in self._of(name)]
        where = " / ".join(self._where(name) for name in names)
        about = f'the note "{shown_id(note)}"'
        if not found:
            fix = "tag all that `python -m nbutils.study notes` writes, and keep those in which nothing is found"
            raise DataError(f"{where}: no prediction for {about}; {fix}")
        same = [(name, prediction) for name, (prediction, its_hash) in found if its_hash == text_hash(note.text)]
        if not same:
            fix = "write the notes again with `python -m nbutils.study notes`, and tag these"
            raise DataError(f"{where}: {about} had another text when it was tagged; {fix}")
        name, one = same[0]
        if wrong := problems(replace(note, entities=one.entities)):
            raise DataError(f"{self._where(name)}: {wrong[0]}; correct what the tool wrote")
        return Prediction(note.id, tuple(sorted(one.entities)))

    def _refuse_unknown(self, corpus: Corpus) -> None:
        if self.training is None:
            return
        known = {d.id for d in corpus}
        others = [(key, its_hash) for key, (_, its_hash) in self._of(corpus.name).items() if key not in known]
        if unknown := [key for key, its_hash in others if (key, its_hash) not in self.training]:
            name = HIDDEN if hidden(corpus.private) else min(unknown)
            more = f" ({len(unknown):,} such)" if len(unknown) > 1 else ""
            raise DataError(
                f'{self._where(corpus.name)}: the corpus "{corpus.name}" has no note "{name}"{more}; '
                "keep the ids that `python -m nbutils.study notes` writes"
            )

    def _of(self, name: str) -> dict[str, Found]:
        if name not in self._read:
            where, found = self._where(name), {}
            for prediction, its_hash in self._rows(name):
                key = prediction.document_id
                if key in found:
                    shown = HIDDEN if self._is_private(name) else key
                    raise DataError(f'{where}: the note "{shown}" stands there twice; keep one of them')
                found[key] = prediction, its_hash
            self._read[name] = self._of_the_study(found, where)
        return self._read[name]

    def _rows(self, name: str) -> Iterator[Found]:
        path, s = file_of(self.settings, name), self.settings
        if s.format == OWN:
            for number, line in enumerate(text_of(path, s.encoding, self._where(name)).splitlines(), 1):
                try:
                    yield prediction_from_json(line)
                except ValueError as error:
                    raise DataError(f"{self._where(name)}, line {number}: {error}; correct it") from None
            return
        chosen = {key: getattr(s, key) for key in ("overlaps", "discontinuous", "offsets", "join", "documents")}
        private = self._is_private(name)
        read = read_corpus(path, s.format, name, private=private, unannotated=True, encoding=s.encoding, **chosen)
        for d in read:
            yield Prediction(d.id, d.entities), text_hash(d.text)

    def _of_the_study(self, found: dict[str, Found], where: str) -> dict[str, Found]:
        """With the study's types and certainties only; an entity without a certainty counts, for the tool has none.

        Raises:
            DataError: there are entities, but not one that the study is about.
        """
        chosen = {k: (replace(p, entities=tuple(self._projected(p.entities))), h) for k, (p, h) in found.items()}
        if any(p.entities for p, _ in found.values()) and not any(p.entities for p, _ in chosen.values()):
            types = ", ".join(self.settings.labels)
            raise DataError(f"{where}: none of its entities is of a type of the study ({types}); correct labels_as")
        return chosen

    def _projected(self, entities: Iterable[Entity]) -> Iterator[Entity]:
        s = self.settings
        for e in entities:
            label = e.label if s.labels_as is None else s.labels_as.get(e.label)
            if label is None or (s.certainties and e.certainty and e.certainty not in s.certainties):
                continue
            if label not in s.labels:  # of a study whose types hold the certainty
                label = f"{label}-{e.certainty or UNMARKED}"
            if label in s.labels:
                yield Entity(e.start, e.end, label, e.certainty, score=e.score)

    def _is_private(self, name: str) -> bool:
        return name in self.settings.private_corpora

    def _where(self, name: str) -> str:
        covered = hidden(self._is_private(name))
        return f'predictions for the corpus "{name}"' if covered else self.settings.predictions.get(name, name)

    def save(self, folder: str | Path) -> None:
        """The settings; the predictions stay where they are."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        save_settings(self.settings, folder)


def fit(
    documents: Iterable[Document], settings: ExternalSettings, *, seed: int = 0, progress: bool = True
) -> ExternalTagger:
    """Nothing is trained; the training part is remembered, since a file may have predictions for it too."""
    return ExternalTagger(settings, documents)


def load(folder: str | Path) -> ExternalTagger:
    """A tagger as `save` left it."""
    return ExternalTagger(read_settings(ExternalSettings, folder))


def file_of(settings: ExternalSettings, name: str) -> Path:
    """Where the predictions for a corpus lie: relative paths count from the repository, `$NAME` is the environment's.

    Raises:
        DataError: none are named, or nothing is there.
    """
    if name not in settings.predictions:
        raise DataError(f'predictions: none for the corpus "{name}"; add its file, or take it out of evaluate')
    written = settings.predictions[name]
    path = from_repository(written)
    if not path.exists():
        raise DataError(f"{written}: there are no predictions; put them there or correct the path")
    return path


def files(settings: ExternalSettings, name: str) -> list[Path]:
    """Every file that the predictions for a corpus are read from."""
    path = file_of(settings, name)
    return [path] if settings.format == OWN else files_of(path, settings.format)
