"""The systems of a study: their settings, the tiny models they start from, and what must be at hand before a run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nbutils import ROOT
from nbutils.files import DataError
from nbutils.study.corpora import open_corpus, split
from nbutils.study.file import Study, System
from nbutils.taggers import KINDS
from nbutils.taggers.settings import TINY


def settings(study: Study, system: System, train: str) -> Any:
    """The settings of a system for one training corpus; `tiny/…` becomes the model built from that corpus."""
    values = {"labels": study.types} | {k: tuple(v) if isinstance(v, list) else v for k, v in system.settings.items()}
    if values.get("model", "").startswith("tiny/"):
        values["model"] = str(tiny_folder(study.name, train, values["model"].removeprefix("tiny/")))
    if system.kind == "icl":
        values["private_corpora"] = _private_corpora(study, train, values.get("shots", 0))
    return KINDS[system.kind].settings(**values)


def _private_corpora(study: Study, train: str, shots: int) -> tuple[str, ...]:
    """The private corpora whose text a prompt would hold: those to be tagged, and the few-shot notes' one."""
    sent = {*study.evaluate, train} if shots else set(study.evaluate)
    return tuple(name for name in study.corpora if name in sent and study.corpora[name].private)


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


def tiny_folder(study: str, train: str, kind: str) -> Path:
    """Relative to the repository, so that no path of a machine gets into a record."""
    return Path("models") / study / train / kind


def tiny_kinds(study: Study, system: str) -> list[str]:
    """Which tiny models a system needs built first: `encoder`, `llm` or none."""
    model = study.systems[system].model or ""
    return [model.removeprefix("tiny/")] if model.startswith("tiny/") else []


def build_tiny(study: Study, train: str, kind: str, *, progress: bool = True) -> None:
    """Build the tiny `encoder` or `llm` from the training part of a corpus; all runs on that corpus share it."""
    from nbutils.taggers import tiny

    documents = split(study, open_corpus(study, train))[0].documents
    folder = ROOT / tiny_folder(study.name, train, kind)
    chosen = TINY[kind](**study.tiny.get(kind, {}))
    if kind == "encoder":
        tiny.build_encoder(documents, folder, chosen, progress=progress)
    else:
        tiny.build_llm(documents, folder, chosen, labels=study.types, progress=progress)


def models_of(study: Study) -> list[tuple[str, str | None]]:
    """The models that the study loads into this machine and has not built itself, and their revisions, each once."""
    here = [s for s in study.systems.values() if not s.settings.get("endpoint")]
    chosen = [(s.model, s.settings.get("revision")) for s in here]
    return list(dict.fromkeys((m, r) for m, r in chosen if m and not m.startswith("tiny/")))


def check_models(study: Study) -> list[str]:
    """What to know about the study's models; nothing is downloaded and nothing trained.

    Raises:
        DataError: a model cannot be had, or is not in a form that is safe to load, or a package for it is missing.
    """
    for s in study.systems.values():
        if s.settings.get("load_in_4bit") and find_spec("bitsandbytes") is None:
            raise DataError(
                f'study "{study.name}": {s.name} asks for load_in_4bit, which needs bitsandbytes; install it with '
                "`.venv/bin/pip install '.[quant]'`, or leave load_in_4bit out"
            )
    chosen = models_of(study)
    hub = import_module("nbutils.taggers.hub") if chosen else None
    return [note for model, revision in chosen for note in hub.check(model, revision, study.name)]


def hub_notes(models: Sequence[tuple[str, str | None]]) -> None:
    """Say on use what a model's licence forbids; tiny models and folders of one's own have nothing to say."""
    hub = import_module("nbutils.taggers.hub")
    for note in (n for model, revision in models for n in hub.warnings(model, revision)):
        print(note, file=sys.stderr)
