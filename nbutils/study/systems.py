"""The systems of a study: their settings, the tiny models they start from, and what must be at hand before a run."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nbutils import ROOT
from nbutils.corpus import Corpus, Document, fingerprint, text_hash
from nbutils.files import DataError, locked, record_in, write_whole
from nbutils.study.corpora import digest, evaluation_corpus, open_corpus, private_names, split
from nbutils.study.file import Study, System, nearest
from nbutils.study.runs import path_name
from nbutils.taggers import KINDS
from nbutils.taggers.settings import TINY
from nbutils.taggers.terms import read_terms


def settings(study: Study, system: System, train: str) -> Any:
    """The settings of a system for one training corpus; `tiny/…` becomes the model built from that corpus."""
    values = {"labels": study.types} | {k: tuple(v) if isinstance(v, list) else v for k, v in system.settings.items()}
    if values.get("model", "").startswith("tiny/"):
        values["model"] = str(tiny_folder(study.name, train, values["model"].removeprefix("tiny/")))
    known = {f.name for f in fields(KINDS[system.kind].settings)}
    if "private_corpora" in known:  # whose text a system would meet: those to be tagged, and the few-shot notes' one
        sent, private = {*study.evaluate, *([train] if values.get("shots") else [])}, private_names(study)
        values["private_corpora"] = tuple(name for name in study.corpora if name in sent & private)
    if "certainties" in known:
        values["certainties"] = study.certainties
    return KINDS[system.kind].settings(**values)


def check_endpoints(study: Study) -> None:
    """Refuse a study that would send text where it may not go, before anything is started.

    Raises:
        DataError: see `guard.allow`.
    """
    from nbutils.prompting import guard

    for system in study.systems.values():
        for train in study.train if system.settings.get("endpoint") else ():
            values = settings(study, system, train)
            guard.allow(values.endpoint, values, values.private_corpora)


def endpoint_notes(study: Study) -> list[str]:
    """A sentence for each model that its endpoint's list of models says it will shut down; see `shutdown_date`."""
    from nbutils.prompting import endpoint, guard

    asked = {(s.model, s.settings["endpoint"]): s for s in study.systems.values() if s.settings.get("endpoint")}
    notes = []
    for (model, address), system in asked.items():
        if date := endpoint.shutdown_date(settings(study, system, study.train[0])):
            until = "after that day nobody can repeat its rows, so keep their answers and run what is missing before"
            notes.append(f"{guard.host_of(address)} shuts {model} down on {date}; {until}.")
    return notes


def check_external(study: Study, corpora: Mapping[str, Corpus]) -> None:
    """Read all predictions that were made elsewhere, for every note that they will be scored on.

    Raises:
        DataError: see `external.ExternalTagger.predict`; or they are for a corpus that the study does not have.
    """
    for system in study.systems.values():
        for train in study.train if KINDS[system.kind].elsewhere else ():
            where = f"{study.path}, systems.{system.name}"
            values = settings(study, system, train)
            for name in values.predictions.keys() - study.corpora.keys():
                raise DataError(f'{where}.predictions: no corpus "{name}"{nearest(name, study.corpora)}')
            tagger = import_module(KINDS[system.kind].module).fit(split(study, corpora[train])[0], values)
            for name in study.evaluate:
                try:
                    tagger.predict(evaluation_corpus(study, corpora, train, name))
                except DataError as error:
                    raise DataError(f"{where}: {error}") from None


def made_elsewhere(study: Study, system: System) -> dict[str, str]:
    """Of a system that only reads predictions, a hash of those for each corpus: other files make another run."""
    if not KINDS[system.kind].elsewhere:
        return {}
    values, files = settings(study, system, study.train[0]), import_module(KINDS[system.kind].module).files
    return {name: digest(files(values, name)) for name in study.evaluate}


def tiny_folder(study: str, train: str, kind: str) -> Path:
    """Relative to the repository, so that no path of a machine gets into a record."""
    return Path("models") / path_name(study) / path_name(train) / kind


def tiny_kinds(study: Study, system: str) -> list[str]:
    """Which tiny models a system needs built first: `encoder`, `llm` or none."""
    model = study.systems[system].model or ""
    return [model.removeprefix("tiny/")] if model.startswith("tiny/") else []


def prepare(study: Study, system: str, train: str, *, progress: bool = True) -> None:
    """What a system needs in this process before it is used: its tiny model, built where it is missing, and threads.

    Tiny models get one thread unless OMP_NUM_THREADS says otherwise: several mostly wait for each other, and the sums
    are then those of `make study`.
    """
    kinds = tiny_kinds(study, system)
    if KINDS[study.systems[system].kind].gpu:  # a neural model
        _quieten(bars=not kinds)
    _use_one_thread(bool(kinds))
    for kind in kinds:
        build_tiny(study, train, kind, progress=progress)


def _quieten(*, bars: bool) -> None:
    """No warning about what nobody here can change, such as old names inside transformers; bars of loading on wish."""
    logging = import_module("transformers.utils.logging")
    logging.set_verbosity_error()
    if not bars:
        logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")


_State: dict[str, int] = {}  # how many threads torch had before a tiny model got one


def _use_one_thread(wanted: bool) -> None:
    if "OMP_NUM_THREADS" in os.environ or not (wanted or _State):
        return
    torch = import_module("torch")
    if wanted and not _State:
        _State["threads"] = torch.get_num_threads()
    torch.set_num_threads(1 if wanted else _State.pop("threads"))


def build_tiny(study: Study, train: str, kind: str, *, progress: bool = True) -> None:
    """Build the tiny `encoder` or `llm` from the training part of a corpus, unless it is there already.

    All runs on that corpus share it. Of several processes that want it at once one builds and the others wait; a
    folder under its name is a whole model.
    """
    part = split(study, open_corpus(study, train))[0]
    folder = ROOT / tiny_folder(study.name, train, kind)
    recipe = _tiny_recipe(study, part, kind)
    built = folder.with_name(f".{kind}.json")
    with locked(folder.with_name(f".{kind}.lock")):
        if not (folder / "config.json").exists() or record_in(built).get("recipe") != recipe:
            what, time = _TINY[kind]
            print(f"Building the tiny {what} from {train}; it takes about {time}.", flush=True)
            make_tiny(study, part.documents, kind, folder, progress=progress)
            write_whole(built, json.dumps({"recipe": recipe}))


_TINY = {"encoder": ("encoder", "half a minute"), "llm": ("language model", "a minute")}


def make_tiny(study: Study, documents: Sequence[Document], kind: str, folder: Path, *, progress: bool = True) -> None:
    """A tiny model from these documents and the study's settings, in any folder."""
    from nbutils.taggers import tiny

    chosen = TINY[kind](**study.tiny.get(kind, {}))
    if kind == "encoder":
        tiny.build_encoder(documents, folder, chosen, progress=progress)
    else:
        tiny.build_llm(documents, folder, chosen, labels=study.types, progress=progress)


def _tiny_recipe(study: Study, part: Corpus, kind: str) -> str:
    """A hash of what a tiny model is made from; the tags of the study are tokens of a language model."""
    values, types = asdict(TINY[kind](**study.tiny.get(kind, {}))), study.types if kind == "llm" else ()
    return text_hash(json.dumps([kind, values, types, fingerprint(part)], default=str))


def model_source(system: System) -> dict[str, str] | None:
    """Where the system's model is from when it only stands in for the hub's; another model is another run."""
    model = system.model or ""
    if not model or model.startswith("tiny/") or system.settings.get("endpoint"):
        return None
    return import_module("nbutils.taggers.hub").source(model)


def models_of(study: Study) -> list[tuple[str, str | None]]:
    """The models that the study loads into this machine and has not built itself, and their revisions, each once."""
    here = [s for s in study.systems.values() if not s.settings.get("endpoint")]
    chosen = [(s.model, s.settings.get("revision")) for s in here]
    return list(dict.fromkeys((m, r) for m, r in chosen if m and not m.startswith("tiny/")))


def check_models(study: Study) -> list[str]:
    """What to know about the study's models; nothing is downloaded and nothing trained.

    Raises:
        DataError: a model cannot be had, or is not in a form that is safe to load; a package for it is missing, or a
            list of terms.
    """
    for s in study.systems.values():
        if s.settings.get("load_in_4bit") and find_spec("bitsandbytes") is None:
            raise DataError(
                f'study "{study.name}": {s.name} asks for load_in_4bit, which needs bitsandbytes; install it with '
                "`.venv/bin/pip install '.[quant]'`, or leave load_in_4bit out"
            )
        if dictionary := s.settings.get("dictionary"):
            read_terms(dictionary)
    chosen = models_of(study)
    hub = import_module("nbutils.taggers.hub") if chosen else None
    return [note for model, revision in chosen for note in hub.check(model, revision, study.name)]


def hub_notes(model: str, revision: str | None) -> None:
    """Say on use what a model's licence forbids; tiny models and folders of one's own have nothing to say."""
    for note in import_module("nbutils.taggers.hub").warnings(model, revision):
        print(note, file=sys.stderr)
