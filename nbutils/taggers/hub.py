"""Models of the hub: is one here, which commit is it, what does its licence ask? Asked before training starts.

Nothing is downloaded here (`tools.fetch_models`), and no code of a repository is run.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from nbutils import ROOT
from nbutils.files import DataError, record_in

PICKLED = "pytorch_model*.bin"
_COMMIT = re.compile(r"[0-9a-f]{40}")
NO_NETWORK = (OSError, HTTPError)


@dataclass(frozen=True)
class Checkpoint:
    """What a user of a public checkpoint has to know before using it; `sells` is whether it may be used for money."""

    model: str  # on the hub, or a folder to put it in
    licence: str
    sells: bool
    note: str = ""


NO_SALE = "CC BY-NC-SA 4.0"
MEDICAL_ENCODERS = (
    Checkpoint("alabnii/jmedroberta-base-sentencepiece", NO_SALE, False, "medical papers; needs no MeCab dictionary"),
    Checkpoint("alabnii/jmedroberta-base-sentencepiece-vocab50000", NO_SALE, False, "the same, larger vocabulary"),
    Checkpoint("alabnii/jmedroberta-base-manbyo-wordpiece", NO_SALE, False, "medical papers; needs MeCab with Manbyo"),
    Checkpoint("models/uth-bert", NO_SALE, False, "120 million lines of hospital records; a zip, not on the hub"),
    Checkpoint("models/medbertjp", NO_SALE, False, "Wikipedia and a medical handbook; a zip, not on the hub"),
    Checkpoint("sociocom/MedNERN-CR-JA", "see its page", True, "was trained on MedTxt-CR, so a test on CR is no test"),
)
KNOWN = {c.model: c for c in MEDICAL_ENCODERS}


def check(model: str, revision: str | None, study: str) -> list[str]:
    """What to know before using a model; nothing is downloaded.

    Raises:
        DataError: the model is neither here nor on the hub, the hub cannot be reached, its weights are no safetensors,
            or its files are not whole.
    """
    where = f'study "{study}": the model {model}'
    notes = warnings(model, revision)
    if (folder := locate(model, revision)) is not None:
        check_folder(folder, where)
        return notes
    info = ask_hub(model, revision, where)
    files = {f.rfilename: f.size or 0 for f in info.siblings or []}
    if not any(name.endswith(".safetensors") for name in files):
        raise DataError(f"{where} has no safetensors weights on the hub; {_convert_hint(study)}")
    size = sum(size for name, size in files.items() if name.endswith(".safetensors"))
    notes.append(f"{model} will be downloaded ({size / 1e9:.1f} GB); `make models STUDY={study}` does it beforehand.")
    licence = str((info.card_data or {}).get("license", ""))
    if model not in KNOWN and "-nc" in licence:
        notes.append(f"{model} is licensed {licence}: not for commercial use.")
    if not is_pinned(revision):
        notes.append(f'{model}: the commit there now is {info.sha}; write `revision: "{info.sha}"` to keep it.')
    return notes


def warnings(model: str, revision: str | None) -> list[str]:
    """What its licence forbids and what a result made with it lacks, one sentence each."""
    notes = []
    if (known := KNOWN.get(model)) is not None:
        if not known.sells:
            notes.append(
                f"{model} is licensed {known.licence}: not for commercial use, and what you derive from it (a tuned "
                "model too) must carry the same licence."
            )
        if "no test" in known.note:
            notes.append(f"{model} {known.note}.")
    if (copy := source(model)) is not None:
        notes.append(f"{model} here is {copy['weights']}.")
    elif is_on_hub(model) and not is_pinned(revision):
        pinned = commit(model, revision)
        fix = f'this is commit {pinned}; write `revision: "{pinned}"`' if pinned else "name its commit as `revision`"
        notes.append(f"{model} is not pinned, so the same study file may give other results one day; {fix}.")
    return notes


def is_on_hub(model: str) -> bool:
    """Whether this is the name of a model on the hub and not a folder of the repository or a tiny model."""
    return not (ROOT / model).is_dir() and not model.startswith(("tiny/", "models/", "/", "."))


def is_pinned(revision: str | None) -> bool:
    """Whether a revision can never come to mean something else: only a full commit hash cannot."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def locate(model: str, revision: str | None) -> Path | None:
    """The folder with a model's files on this machine: a folder of the repository, `models/hub/…`, the hub's cache."""
    for folder in (ROOT / model, ROOT / "models" / "hub" / model):
        if folder.is_dir():
            return folder
    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True, allow_patterns=["config.json"]))
    except (*NO_NETWORK, HFValidationError):
        return None


def commit(model: str, revision: str | None) -> str | None:
    """The commit of the hub that the files on this machine are from; None for a folder of one's own."""
    folder = locate(model, revision)
    if folder is None:
        return None
    if folder.parent.name == "snapshots":
        return folder.name
    return record_in(folder / "source.json").get("commit")


def source(model: str) -> dict[str, str] | None:
    """Where a model that stands in for one of the hub is from (`tools.models_from_packages`); None for any other."""
    record = record_in(ROOT / "models" / "hub" / model / "source.json")
    return record if "weights" in record else None


def check_folder(folder: Path, where: str) -> None:
    """Refuse a model folder without its configuration or with weights that are missing, cut off or pickled.

    Raises:
        DataError: says which of these, and what to do.
    """
    if not (folder / "config.json").is_file():
        raise DataError(f"{where} has no config.json in its folder; put a whole model folder there")
    if (folder / "model.safetensors").is_file():
        return
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        parts = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        missing = sorted(part for part in parts if not (folder / part).is_file())
        if missing:
            raise DataError(f"{where} is not here as a whole ({missing[0]} is missing); download it again")
        return
    if any(folder.glob(PICKLED)):
        raise DataError(f"{where} has no safetensors weights; {_convert_hint(None)}")
    raise DataError(f"{where} is here without its weights; download it again with `make models STUDY=…`")


def _convert_hint(study: str | None) -> str:
    return f"`make models STUDY={study or '…'}` makes them once from its pytorch_model.bin and puts them in models/hub"


def ask_hub(model: str, revision: str | None, where: str):
    """What the hub says of a model; `where` opens the sentence of a DataError when it says nothing."""
    try:
        return HfApi().model_info(model, revision=revision, timeout=10, files_metadata=True)
    except GatedRepoError:
        raise DataError(
            f"{where} is gated: accept its licence on its page of the hub, then log in with `hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise DataError(f'{where} has no revision "{revision}" on the hub; correct it') from None
    except (RepositoryNotFoundError, HFValidationError):
        raise DataError(f"{where} is no folder here and no public model of the hub; correct the name") from None
    except NO_NETWORK:
        raise DataError(
            f"{where} is not on this machine and the hub cannot be reached. Download it once with a connection "
            f"(`make models STUDY=…`), or use `make study STUDY=demo`."
        ) from None
