"""Where a model comes from and where it runs: device, path or hub name, and the hint for short memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from nbutils import ROOT
from nbutils.files import DataError

_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory", re.IGNORECASE)


@contextmanager
def memory_hint(what: str, mend: str) -> Iterator[None]:
    """Turn an out-of-memory error, of a GPU or of the machine, into one sentence with the numbers and the mend."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and not _NO_MEMORY.search(str(error)):
            raise
        raise DataError(f"out of memory{_memory()} while {what}; {mend}") from None


def _memory() -> str:
    if not torch.cuda.is_available():
        return ""
    total = torch.cuda.get_device_properties(device()).total_memory
    return f" ({torch.cuda.max_memory_allocated() / 2**30:.1f} of the GPU's {total / 2**30:.1f} GiB were in use)"


def device() -> torch.device:
    """The GPU of this process (`accelerate launch` starts one process a GPU), else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def local_or_hub(model: str | Path) -> str:
    """A model folder, counted from the repository when relative, or else the name of a model on the hub.

    A folder `models/hub/OWNER/NAME` goes before the hub: weights made into safetensors (`hub.fetch`) or brought along.
    """
    for folder in (ROOT / model, ROOT / "models" / "hub" / model):
        if folder.is_dir():
            return str(folder)
    return str(model)
