"""What made a run: versions, commit, device, threads and peak memory, without any name of a person, host or path."""

from __future__ import annotations

import html
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from nbutils import ROOT

PACKAGES = [
    "torch", "transformers", "peft", "tokenizers", "fugashi", "unidic-lite", "sklearn-crfsuite", "numpy", "pandas"
]  # fmt: skip


class Provenance(dict[str, Any]):
    """What made a run, as plain data that a notebook shows in one line."""

    def _repr_html_(self) -> str:
        versions = [f"{package} {number}" for package, number in self["versions"].items() if number]
        memory = [f"{where} memory {n_bytes / 1e9:.1f} GB" for where, n_bytes in self["peak_memory_bytes"].items()]
        machine = [self["device"], f"threads: {self['threads']}", *memory, self["finished"]]
        commit = f"commit {self['git_commit'] or '—'}"
        return f"<p><small>{html.escape(' · '.join([*versions, commit, *machine]))}</small></p>"


def provenance() -> Provenance:
    """Versions, code and machine, without any name of a person, host or path."""
    torch, cuda = sys.modules.get("torch"), _cuda()
    cores = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    packages = {p: next((d.version for d in distributions(name=p)), None) for p in PACKAGES}
    return Provenance({
        "versions": {"python": platform.python_version()} | packages,
        "git_commit": git_commit(),
        "device": cuda.get_device_name() if cuda else platform.machine() + " CPU",
        "threads": torch.get_num_threads() if torch else cores,
        "peak_memory_bytes": peak_memory(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    })  # fmt: skip


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


def git_commit() -> str | None:
    """The commit of the code, with `+` when the working tree differs from it; None outside a repository."""
    here = Path(__file__).parent
    try:
        command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=12", "--match="]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None


def without_paths(value: Any) -> Any:
    """Text, or every text inside lists and mappings (such as a notebook), without the folders of this machine.

    Paths below the repository count from it; a home folder becomes `~`, a temporary one `(tmp)`.
    """
    if isinstance(value, str):
        for place, short in _places():
            value = value.replace(place, short)
        value = re.sub(r"(?<![\w/.~])(?:/home|/Users)/[^/\s'\"<>:]+|(?<![\w/.~])/root(?![\w-])", "~", value)
        return re.sub(r"(?<![\w/.~])(?:/tmp|/var/folders/[^/\s]+/[^/\s]+/T)(?=/)", "(tmp)", value)
    if isinstance(value, dict):
        for key in value:
            value[key] = without_paths(value[key])
    elif isinstance(value, list):
        value[:] = map(without_paths, value)
    return value


@cache
def _places() -> list[tuple[str, str]]:
    """The folders of this machine as they are printed (bare, in HTML, in quotes), longest first, and what to write."""
    environment = Path(sys.prefix)
    names = {f"{environment}/": ".venv/", f"{environment.resolve()}/": ".venv/", f"{ROOT}/": "", str(ROOT): ".",
             f"{sys.base_prefix}/": "python/", str(Path.home()): "~", tempfile.gettempdir(): "(tmp)"}  # fmt: skip
    forms = {form(name): short for name, short in names.items() for form in (str, html.escape, _in_quotes)}
    return sorted(((name, short) for name, short in forms.items() if len(name) > 4), key=lambda p: -len(p[0]))


def _in_quotes(name: str) -> str:
    return repr(name)[1:-1]
