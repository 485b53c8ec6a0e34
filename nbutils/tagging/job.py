"""One tagging job: which run tags which notes, batch by batch, and what it leaves on disk.

Notes pass through in batches, so memory does not grow with their number; a batch is on disk before the next one is
begun, so a killed job goes on where it was. Batches have fixed borders: however often a job was cut off and into
however many shards, the result is the same. No text of a note goes into a message, a log or a record.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

from tqdm.auto import tqdm

from nbutils import ROOT, taggers
from nbutils.corpus import MEDTXT_TAGS, Corpus, Document, Entity, fingerprint, problems, separated
from nbutils.corpus.formats.jsonl import jsonl_document, jsonl_line
from nbutils.corpus.formats.medtxt import MEDTXT_HEAD, MEDTXT_TAIL, medtxt_article, medtxt_problem
from nbutils.files import MAX_BYTES, DataError, lock, record_in, write_whole, written_whole
from nbutils.study.corpora import open_corpus
from nbutils.study.file import load_study
from nbutils.study.provenance import git_commit
from nbutils.study.runs import Run, path_name, read_run, study_file
from nbutils.taggers import KINDS, Tagger
from nbutils.taggers.terms import TERMS, Terms, read_terms
from nbutils.tagging.expected import expectation
from nbutils.tagging.notes import Survey, read_notes, survey

BATCH = 64  # notes; its borders are what makes a result repeatable, so it is no setting


@dataclass(frozen=True)
class Job:
    """Which run tags which notes, and where to."""

    run: Run
    notes: Path
    out: Path
    encoding: str | None
    found: Survey
    recipe: str  # a hash of the run, the notes and the batches: files of another recipe are never mixed in
    codes: Terms | None = None  # of names, which entities get
    codes_file: Path | None = None  # that a person named for it

    @property
    def shards(self) -> Path:
        return self.out / "shards" / self.recipe

    @property
    def finished(self) -> bool:
        made_as = record_in(self.out / "tagging.json").get("recipe")
        return (self.out / "tagged.jsonl").exists() and made_as == self.recipe


def prepare(
    run: str | Path,
    notes: str | Path,
    out: str | Path | None = None,
    encoding: str | None = None,
    codes: str | Path | None = None,
) -> Job:
    """Check the run and read every note once, before anything is written; `codes`: a list of terms with codes."""
    found_run, notes = read_run(here_or_below_root(run)), here_or_below_root(notes)
    _check_model(found_run)
    out = Path(out) if out else _place_for(found_run, notes)
    if notes.is_dir() and out.resolve().is_relative_to(notes.resolve()):
        raise DataError(f"{out}: lies inside the folder of notes and would be read as notes; name another OUT")
    found = survey(notes, encoding)
    record = (found_run.folder / "run.json").read_bytes()
    codes_file = Path(codes).resolve() if codes else None
    terms = _terms_with_codes(found_run.folder / "model", codes_file)
    of_codes = f" {sorted(terms.codes.items())}" if terms else ""
    recipe = hashlib.sha256(record + f"{found.fingerprint} {BATCH}{of_codes}".encode()).hexdigest()[:12]
    if (out / "tagged.jsonl").exists() and record_in(out / "tagging.json").get("recipe") != recipe:
        raise DataError(f"{out}: holds what another run or other notes gave; name another OUT, or delete it")
    return Job(found_run, notes, out, encoding, found, recipe, terms, codes_file)


def _terms_with_codes(model: Path, named: Path | None) -> Terms | None:
    """The named list of terms, or the one beside a run's model; None where there is none with codes.

    Raises:
        DataError: the named list cannot be read or has no code.
    """
    beside = model / TERMS
    terms = read_terms(named) if named else read_terms(beside.resolve()) if beside.exists() else None
    if named and not any(terms.codes.values()):
        raise DataError(f"{named}: no term in it has a code; name the columns term and code")
    return terms if terms and any(terms.codes.values()) else None


def _place_for(run: Run, notes: Path) -> Path:
    """Where results go unless a person says so: tagged/<run>/<notes>, whatever a run.json from elsewhere holds."""
    parts = [str(run.record.get(key, "")) for key in ("study", "system", "train", "seed")]
    name = "-".join(path_name(part)[:60] for part in parts)
    return ROOT / "tagged" / name / (notes.stem if notes.is_file() else notes.resolve().name)


def here_or_below_root(path: str | Path) -> Path:
    """A path as given, or else below the repository: a notebook runs in a folder of its own."""
    return Path(path) if Path(path).exists() else ROOT / path


def _check_model(run: Run) -> None:
    """Notes to be tagged count as private, since nothing says where they may go: only a trusted host gets them."""
    if run.record.get("kind") not in [*KINDS] or not (run.folder / "model" / "settings.json").exists():
        raise DataError(f"{run.folder}: this run has no model to tag with; run its study again with `make study`")
    settings = _settings(run)
    if endpoint := settings.get("endpoint"):
        from nbutils.prompting import guard

        host = guard.host_of(endpoint)
        if not guard.is_trusted(host, settings.get("allowed_hosts", ())):
            raise DataError(
                f"{run.folder}: this run asks {host}, and notes to be tagged are sent to no host but this machine and "
                "those under allowed_hosts; tag with a run whose model is here"
            )


def _settings(run: Run) -> dict[str, Any]:
    path = run.folder / "model" / "settings.json"
    if settings := record_in(path):
        return settings
    raise DataError(f"{path}: not the settings of a model; run its study again")


def _training_corpus(run: Run, n_shown: int) -> Corpus:
    """The corpus whose notes a prompt shows: a run keeps their ids, the study file says where they are.

    Raises:
        DataError: no study file of that name, or the corpus is no longer the one that the run was made from.
    """
    path, train = study_file(run), run.train
    again = f"bring it back as it was, or run the study again ({run.folder} shows {n_shown} of its notes in the prompt)"
    if not path.is_file():
        raise DataError(f"{path}: the study file of this run is not there; {again}")
    corpus = open_corpus(load_study(path), train)
    if fingerprint(corpus) != (run.record.get("corpora") or {}).get(train):
        raise DataError(f'{path}: its corpus "{train}" is not the one that this run was made from; {again}')
    return corpus


def load(run: Run) -> Tagger:
    """The tagger of a run, whatever its kind.

    Raises:
        DataError: its model cannot be loaded; or notes may not be sent to the endpoint that it asks.
    """
    _check_model(run)
    shown = _settings(run).get("shot_documents")
    context = [_training_corpus(run, len(shown))] if shown else []
    return taggers.load(run.record["kind"], run.folder / "model", *context)


# --- tagging in batches ----------------------------------------------------------------------------------------------


def n_batches(job: Job) -> int:
    return -(-job.found.n_notes // BATCH)


def tag_into(part: Path, job: Job, first: int, last: int, progress: bool, gpu: int = 0) -> None:
    """Tag the batches `[first, last)` of the notes into a file; whole batches that it holds already are kept."""
    begin, end = first * BATCH, min(last * BATCH, job.found.n_notes)
    part.parent.mkdir(parents=True, exist_ok=True)
    with open(part, "a+b") as file:
        lock(file, f"{part.parent}: another process is tagging these notes into it; wait for it")
        os.fchmod(file.fileno(), 0o600)  # it holds the notes
        kept = _keep_whole(file, _stretch(job, begin, end), end - begin)
        if kept == end - begin:
            return
        _choose_gpu(job.run, gpu)
        tagger = load(job.run)
        with tqdm(total=end - begin, initial=kept, disable=not progress, desc="tagging", unit="note") as bar:
            left = _stretch(job, begin + kept, end)
            while batch := list(islice(left, BATCH)):
                file.write("".join(map(jsonl_line, tagged(tagger, batch, job.codes))).encode("utf-8"))
                file.flush()
                os.fsync(file.fileno())
                bar.update(len(batch))
                kept += len(batch)
    if kept != end - begin:
        raise DataError(f"{job.notes}: the notes were changed while they were tagged; tag them again")


def _stretch(job: Job, begin: int, end: int) -> Iterator[Document]:
    """Some of the notes, each marked private: nothing says that they may go anywhere."""
    return (replace(note, private=True) for note in islice(read_notes(job.notes, job.encoding), begin, end))


def _keep_whole(file: IO[bytes], notes: Iterator[Document], n: int) -> int:
    """Cut what does not belong to a whole batch of these notes off the end of a file; the number of notes kept."""
    good = at = kept = border = 0
    file.seek(0)
    for line, note in zip(file, notes, strict=False):
        if not line.endswith(b"\n") or not _is_of(line, note):
            break
        good, at = good + 1, at + len(line)
        if good % BATCH == 0 or good == n:
            kept, border = good, at
    file.truncate(border)
    return kept


def _is_of(line: bytes, note: Document) -> bool:
    try:
        row = json.loads(line)
        return (row["id"], row["text"]) == (note.id, note.text)
    except (ValueError, KeyError, TypeError):
        return False


def tagged(tagger: Tagger, notes: Sequence[Document], codes: Terms | None = None) -> list[Document]:
    """The notes with what a tagger found in them; a certainty in a type becomes the entity's certainty.

    With `codes` an entity whose name has a code there (`Terms.code`) carries it as an attribute.

    Raises:
        DataError: the tagger failed or found impossible spans. What it says could quote a note, so only the kind of
            the error and its place in the code are told.
    """
    where = f'notes "{notes[0].id}" to "{notes[-1].id}"'
    try:
        predictions = tagger.predict(notes)
    except DataError as error:  # its sentence quotes no note
        raise DataError(f"{where}: {error}") from None
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise DataError(
            f"{where}: the tagger failed ({type(error).__name__} in {Path(place.filename).name}, line {place.lineno}); "
            "what is done is kept, run the same command again to go on"
        ) from None
    found = [replace(n, entities=tuple(map(separated, p.entities))) for n, p in zip(notes, predictions, strict=True)]
    if wrong := [problem for note in found for problem in problems(note)]:
        raise DataError(f"{where}: the tagger found an impossible span: {wrong[0]}")
    return [_coded(note, codes) for note in found] if codes else found


def _coded(note: Document, terms: Terms) -> Document:
    told = ((e, terms.code(note.surface(e))) for e in note.entities)
    return replace(note, entities=tuple(replace(e, attributes=(("code", code),)) if code else e for e, code in told))


def _choose_gpu(run: Run, number: int) -> None:
    """Shards that share a machine take its GPUs in turn."""
    if KINDS[run.record["kind"]].gpu:
        import torch

        if (n := torch.cuda.device_count()) > 1:
            torch.cuda.set_device(number % n)


# --- the end of a job ------------------------------------------------------------------------------------------------


def finish(job: Job, parts: Sequence[Path]) -> None:
    """XML and record from the tagged parts, then tagged.jsonl, whose appearance says that all is done."""
    no_xml = _no_medtxt_type(job.run)
    (job.out / "tagged.xml").unlink(missing_ok=True)
    if not no_xml:
        try:
            _write_xml(parts, job.out / "tagged.xml")
        except DataError as error:
            no_xml = str(error)
    counts, n_coded = Counter[str](), 0
    for entity in (e for line in lines_of(parts) for e in json.loads(line)["entities"]):
        counts[f"{entity['label']} {entity.get('certainty', '')}".strip()] += 1
        n_coded += "attributes" in entity
    record = {
        "recipe": job.recipe,
        "run": {k: job.run.record.get(k) for k in ("study", "system", "kind", "train", "seed", "git_commit")},
        "notes": job.found.n_notes, "notes_fingerprint": job.found.fingerprint, "encoding": job.encoding or "utf-8",
        "entities": dict(sorted(counts.items())), "byte_order_marks": job.found.n_marked, "no_xml": no_xml,
        "git_commit": git_commit(), **({"with_code": n_coded} if job.codes else {}),
    }  # fmt: skip
    write_whole(job.out / "tagging.json", json.dumps(record, indent=1) + "\n")
    if len(parts) == 1:
        os.replace(parts[0], job.out / "tagged.jsonl")
    else:
        with written_whole(job.out / "tagged.jsonl", private=True) as file:
            file.writelines(lines_of(parts))
    shutil.rmtree(job.out / "shards", ignore_errors=True)
    for left in job.out.glob(".tagged.*.part"):  # of a job that was cut off and not gone on with
        left.unlink()
    _report(job, sum(counts.values()), n_coded, no_xml)
    if sentence := expectation(job.run, lines_of([job.out / "tagged.jsonl"])):
        print(sentence)


def _report(job: Job, n_entities: int, n_coded: int, no_xml: str | None) -> None:
    also = "" if no_xml else " and tagged.xml"
    print(f"{job.found.n_notes:,} notes, {n_entities:,} entities: {job.out}/tagged.jsonl{also}")
    if job.codes:
        print(f"{n_coded:,} entities have a code, {n_entities - n_coded:,} have none in the list of terms.")
    if no_xml:
        print(f"tagged.xml was not written: {no_xml}. tagged.jsonl holds all notes.")
    if job.found.n_marked:
        print(
            f"Files that begin with a byte-order mark: {job.found.n_marked} (the first: {job.found.first_marked}). "
            "The mark is no part of the note; offsets count from the character behind it."
        )


def _no_medtxt_type(run: Run) -> str | None:
    foreign = {separated(Entity(0, 0, label)).label for label in _settings(run)["labels"]} - MEDTXT_TAGS
    return f'"{min(foreign)}" is no MedTxt tag' if foreign else None


def _write_xml(parts: Sequence[Path], path: Path) -> None:
    size = 0
    with written_whole(path, private=True) as file:
        file.write(MEDTXT_HEAD)
        for document in documents_of(parts):
            if problem := medtxt_problem(document):
                raise DataError(problem)
            article = medtxt_article(document)
            size += len(article.encode("utf-8"))
            if size > MAX_BYTES:
                raise DataError(f"it would pass {MAX_BYTES:,} bytes, more than a MedTxt file may have here")
            file.write(article)
        file.write(MEDTXT_TAIL)


def documents_of(parts: Iterable[Path]) -> Iterator[Document]:
    return (jsonl_document(line, "a tagged note") for line in lines_of(parts))


def lines_of(parts: Iterable[Path]) -> Iterator[str]:
    for part in parts:
        with open(part, encoding="utf-8", newline="\n") as file:
            yield from file
