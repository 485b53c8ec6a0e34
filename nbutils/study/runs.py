"""A run on disk: what was asked (run.json), what it cost, and what it predicted (predictions/<corpus>.jsonl).

Training and analysis meet only here. A run is complete when its run.json is there; it is written last.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from nbutils import ROOT
from nbutils.corpus import Corpus, Document, Entity, Prediction, problems, text_hash
from nbutils.corpus.formats.jsonl import entity_to_json, prediction_from_json
from nbutils.files import DataError, write_whole, written_whole
from nbutils.study import energy
from nbutils.study.provenance import provenance
from nbutils.taggers import KINDS, Tagger


@dataclass(frozen=True)
class Run:
    """One trained system: its folder and what its run.json says."""

    folder: Path
    record: dict[str, Any]
    _read: dict[str, tuple[Corpus, list[Prediction]]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def system(self) -> str:
        return self.record["system"]

    @property
    def train(self) -> str:
        return self.record["train"]

    @property
    def seed(self) -> int:
        return self.record["seed"]

    def predictions(self, corpus: Corpus) -> list[Prediction]:
        """What this run found in a corpus, read once; see `read_predictions`."""
        known, predictions = self._read.get(corpus.name, (None, []))
        if known != corpus:
            predictions = read_predictions(predictions_file(self.folder, corpus.name), corpus)
            self._read[corpus.name] = corpus, predictions
        return list(predictions)


def path_name(name: str) -> str:
    """The name of a system or a corpus as that of a file or folder: letters, digits, `_`, `-` and `.` stay.

    What shells, Snakemake, papermill or web pages could take for syntax is percent-encoded, so that two names never
    share a file: `x{y}` becomes `x%7By%7D`.
    """
    return re.sub(r"^[-.]|[^\w.-]", lambda m: "".join(f"%{byte:02X}" for byte in m[0].encode("utf-8")), name)


def figure_folder(study: str) -> Path:
    """Where a study's own figures and tables go; `figures/` holds those of the reference runs."""
    return ROOT / "runs" / study / "figures"


def run_folder(root: str | Path, study: str, system: str, train: str, seed: int) -> Path:
    return Path(root) / study / path_name(system) / path_name(train) / f"seed-{seed}"


def predictions_file(folder: Path, corpus: str) -> Path:
    """What the run in this folder predicted for a corpus."""
    return folder / "predictions" / f"{path_name(corpus)}.jsonl"


def write_predictions(predictions: Iterable[Prediction], corpus: Corpus, path: str | Path) -> None:
    """One JSON object per document: id, hash of its text, entities by offset; never the text itself.

    What a generating model wrote (`raw`) repeats the note; it is kept unless the note is private.
    """
    documents = {d.id: d for d in corpus}
    with written_whole(path) as file:
        for p in predictions:
            document = documents[p.document_id]
            row: dict[str, Any] = {"id": p.document_id, "text_hash": text_hash(document.text)}
            row["entities"] = [entity_to_json(_rounded(e)) for e in p.entities]
            if p.raw is not None and not document.private:
                row["raw"] = p.raw
            if p.repairs:
                row["repairs"] = dict(p.repairs)
            file.write(json.dumps(row, ensure_ascii=True, separators=(",", ":")) + "\n")


def _rounded(entity: Entity) -> Entity:
    """Four digits of a probability are more than it is worth, and keep the files small."""
    return entity if entity.score is None else replace(entity, score=round(entity.score, 4))


def read_predictions(path: str | Path, corpus: Corpus) -> list[Prediction]:
    """Predictions for documents of this corpus.

    Raises:
        DataError: no such file, a line that is no prediction, an unknown document, a text that has changed since, or
            entities that overlap or do not lie in the text.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such predictions; run `make study` for this study first")
    documents = {d.id: d for d in corpus}
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        where, again = f"{path}, line {number}", "delete the run's folder and run the study again"
        try:
            prediction, expected = prediction_from_json(line)
        except ValueError:
            raise DataError(f"{where}: not a prediction; {again}") from None
        if (document := documents.get(prediction.document_id)) is None:
            raise DataError(f'{where}: corpus "{corpus.name}" has no document "{prediction.document_id}"; {again}')
        if text_hash(document.text) != expected:
            what = f'the text of "{prediction.document_id}" has changed since this prediction was made'
            raise DataError(f"{where}: {what}; {again}")
        if wrong := problems(replace(document, entities=prediction.entities)):
            raise DataError(f"{where}: {wrong[0]}; {again}")
        found.append(prediction)
    return found


def write_run(folder: str | Path, record: dict[str, Any]) -> None:
    """Write run.json, and with it declare the run complete."""
    content = json.dumps(record | provenance(), indent=1, ensure_ascii=False)
    write_whole(Path(folder) / "run.json", content + "\n")


def read_run(folder: str | Path) -> Run:
    folder = Path(folder)
    path = folder / "run.json"
    try:
        run = Run(folder, json.loads(path.read_text(encoding="utf-8")))
        _ = run.system, run.train, run.seed
    except FileNotFoundError:
        raise DataError(f"{path}: no finished run here; run `make study` for this study first") from None
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path}: not the record of a run; delete the run's folder and run the study again") from None
    return run


def study_file(run: Run) -> Path:
    """The file in studies/ that has the name of a run's study; a record from elsewhere can name no other folder."""
    return ROOT / "studies" / f"{Path(str(run.record.get('study'))).name}.yaml"


def finished_run(folder: str | Path, recipe: dict[str, Any]) -> Run | None:
    """The finished run in a folder if its record says the same as `recipe`; any other one is no longer finished."""
    path = Path(folder) / "run.json"
    with suppress(DataError):
        run = read_run(folder)
        if says(run, recipe):
            return run
    path.unlink(missing_ok=True)
    return None


def says(run: Run, recipe: dict[str, Any]) -> bool:
    """Whether a run's record says what a recipe asks; a setting that it lacks had its default."""
    record, wanted = _without_defaults(run.record), _without_defaults(recipe)
    return all(record.get(key) == value for key, value in wanted.items())


def _without_defaults(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe as JSON keeps it, without settings at their default: a record lacks those that came after it."""
    plain = json.loads(json.dumps(recipe))  # tuples become lists, as in the record
    if isinstance(plain.get("settings"), dict) and plain.get("kind") in KINDS:
        known = {f.name: f.default for f in fields(KINDS[plain["kind"]].settings) if f.default is not MISSING}
        defaults = json.loads(json.dumps(known))
        plain["settings"] = {k: v for k, v in plain["settings"].items() if k not in defaults or v != defaults[k]}
    return plain


def checkpoint_folder(folder: str | Path, recipe: dict[str, Any]) -> Path:
    """Where a run keeps the checkpoints of its training; those that a run of another recipe left there are removed.

    The name depends on the recipe alone, so that several processes of one run agree on it.
    """
    mark = text_hash(json.dumps(_without_defaults(recipe), sort_keys=True))[:12]
    wanted = Path(folder) / "checkpoints" / mark
    for other in wanted.parent.glob("*"):
        if other != wanted:
            shutil.rmtree(other, ignore_errors=True)
    return wanted


def remove_checkpoints(folder: str | Path) -> None:
    """What a finished run no longer needs."""
    shutil.rmtree(Path(folder) / "checkpoints", ignore_errors=True)


def read_runs(root: str | Path, study: str) -> list[Run]:
    """All finished runs of a study, in the order of their paths."""
    return [read_run(path.parent) for path in sorted((Path(root) / study).glob("*/*/seed-*/run.json"))]


def latency(tagger: Tagger, documents: Sequence[Document], most: int = 10) -> dict[str, Any]:
    """Seconds to tag a note by itself, for some notes spread over these documents; the first is tagged twice.

    The first call of a model is slow for reasons of its own, so it is not counted.
    """
    chosen = list(documents)[:: max(-(-len(documents) // most), 1)]
    seconds: list[float] = []
    for document in chosen[:1] + chosen:
        begin = time.perf_counter()
        tagger.predict([document])
        seconds.append(round(time.perf_counter() - begin, 5))
    return {"documents": [d.id for d in chosen], "characters": [len(d.text) for d in chosen], "seconds": seconds[1:]}


def model_size(tagger: Tagger, saved: str | Path) -> dict[str, int]:
    """Bytes of what a run saved and, of a neural model, its weights in number and in bytes, base model included."""
    size = {"saved_bytes": sum(p.stat().st_size for p in Path(saved).rglob("*") if p.is_file())}
    parameters = getattr(getattr(tagger, "model", None), "parameters", None)
    if callable(parameters):
        weights = list(parameters())
        size["parameters"] = sum(w.numel() for w in weights)
        size["weight_bytes"] = sum(w.numel() * w.element_size() for w in weights)
    return size


def copied_models(runs: Iterable[Run]) -> list[str]:
    """A sentence for each model of these runs that was a copy and not the original, to stand under a table of them."""
    sources = [run.record["model_source"] for run in runs if run.record.get("model_source")]
    return list(dict.fromkeys(f"{source['model']} is {source['weights']}." for source in sources))


def open_runs(folder: str | Path, study: str) -> list[Run]:
    """The finished runs of a study in a folder of the repository, or, said in a sentence, those in `runs/`.

    The notebooks open the reference runs, which the repository brings along for some studies only.

    Raises:
        DataError: neither has any.
    """
    if runs := read_runs(ROOT / folder, study):
        return runs
    if runs := read_runs(ROOT / "runs", study):
        print(f'{folder} has no runs of the study "{study}"; these are the ones in runs/.')
        return runs
    places = " nor in ".join(dict.fromkeys((str(folder), "runs")))
    raise DataError(f'study "{study}": there are no finished runs in {places}; run `make study STUDY={study}` first')


@contextmanager
def timed(seconds: dict[str, float], what: str, used: dict[str, float] | None = None) -> Iterator[None]:
    """Note in `seconds[what]` how long the block took, by the wall clock, and in `used[what]` its energy in joules.

    There is no energy where the machine does not tell it.
    """
    before, begin = {} if used is None else energy.counters(), time.perf_counter()
    yield
    seconds[what] = round(time.perf_counter() - begin, 3)
    if used is not None and (joules := energy.joules(before, energy.counters())) is not None:
        used[what] = joules
