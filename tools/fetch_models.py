"""Download the models of a study whole, as safetensors: `python -m tools.fetch_models STUDY.yaml`, `make models`.

No code of a repository is run. Pickled weights are loaded only to turn them into safetensors, with torch's loader that
accepts nothing but tensors.
"""

from __future__ import annotations

import argparse
import json
import pickle
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from safetensors.torch import save_file

from nbutils import ROOT
from nbutils.files import DataError, written_whole
from nbutils.study.file import load_study
from nbutils.study.systems import models_of
from nbutils.taggers.hub import NO_NETWORK, PICKLED, ask_hub, check_folder, is_on_hub, locate

SMALL_FILES = ["*.json", "*.txt", "*.model", "*.jinja", "*.vocab"]


def fetch(model: str, revision: str | None, study: str) -> Path:
    """Download a model whole; pickled weights are turned into safetensors under `models/hub`.

    Raises:
        DataError: it cannot be had; nothing is left under its name then.
    """
    where = f'study "{study}": the model {model}'
    if is_on_hub(model) and not (ROOT / "models" / "hub" / model).is_dir():
        names = [f.rfilename for f in ask_hub(model, revision, where).siblings or []]
        safe = any(name.endswith(".safetensors") for name in names)
        weights = "*.safetensors" if safe else PICKLED
        try:
            folder = Path(snapshot_download(model, revision=revision, allow_patterns=[*SMALL_FILES, weights]))
        except NO_NETWORK as error:
            raise DataError(f"{where} was not downloaded ({type(error).__name__}); run the same again") from None
        if not safe:
            to_safetensors(folder, ROOT / "models" / "hub" / model, source={"model": model, "commit": folder.name})
    folder = locate(model, revision)
    if folder is None:
        raise DataError(f"{where} is no folder here; put it there or correct the name")
    check_folder(folder, where)
    return folder


def to_safetensors(folder: Path, target: Path, source: dict[str, str] | None = None) -> None:
    """A copy of a model folder whose pickled weights have become `model.safetensors`.

    Raises:
        DataError: the file holds anything but tensors; pickled code is never run.
    """
    weights: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob(PICKLED)):
        try:
            part = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError):
            raise DataError(f"{path}: not a plain file of tensors, so it is not opened; get another copy") from None
        weights |= {name: tensor.clone().contiguous() for name, tensor in part.items()}  # clone: none shared
    if not weights:
        raise DataError(f"{folder}: there is no pytorch_model.bin to convert")
    beside = target.with_name(f".{target.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    for path in folder.iterdir():
        if any(path.match(pattern) for pattern in SMALL_FILES) and not path.name.endswith(".index.json"):
            shutil.copyfile(path, beside / path.name)
    save_file(weights, beside / "model.safetensors", metadata={"format": "pt"})
    if source is not None:
        with written_whole(beside / "source.json") as file:
            json.dump(source, file)
    shutil.rmtree(target, ignore_errors=True)
    beside.rename(target)


def main(arguments: Sequence[str] | None = None) -> int:
    """Download the models of a study, and say where each of them lies."""
    parser = argparse.ArgumentParser(prog="python -m tools.fetch_models", description=main.__doc__)
    parser.add_argument("file", help="the study file")
    chosen = parser.parse_args(arguments)
    try:
        study = load_study(chosen.file)
        for model, revision in models_of(study):
            print(f"{model}: {fetch(model, revision, study.name)}")
    except (ValueError, OSError) as error:  # DataError is a ValueError
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
