"""What made a run: versions, commit, device, threads and peak memory, without any name of a person, host or path."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = [
    "torch",
    "transformers",
    "peft",
    "tokenizers",
    "fugashi",
    "unidic-lite",
    "sklearn-crfsuite",
    "numpy",
    "pandas",
]


def provenance() -> dict[str, Any]:
    """Versions, code and machine, without any name of a person, host or path."""
    torch, cuda = sys.modules.get("torch"), _cuda()
    cores = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    return {
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in PACKAGES},
        "git_commit": git_commit(),
        "device": cuda.get_device_name() if cuda else platform.machine() + " CPU",
        "threads": torch.get_num_threads() if torch else cores,
        "peak_memory_bytes": peak_memory(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def peak_memory() -> dict[str, int]:
    """The highest resident memory of this process so far and, on a GPU, of its allocator, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = {"cpu": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if cuda := _cuda():
        peak["gpu"] = cuda.max_memory_allocated()
    return peak


def _cuda() -> Any:
    """torch.cuda where there is a GPU and this process has loaded torch; what has not been loaded has not been used."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """The commit of the code, with `+` when the working tree differs from it; None outside a repository."""
    here = Path(__file__).parent
    try:
        command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=12", "--match="]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None
