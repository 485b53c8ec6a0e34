"""Does a disease-name recogniser survive a change of hospital? The helper module behind the notebooks.

corpus -> split -> fit -> predict -> predictions -> scores -> tables and figures; see README.md.
The names below are what a notebook needs; each is loaded when it is first used.
"""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

# Intel's MKL then sums in one order on every x86 processor with AVX2: scores of another machine come closer, though not
# to the last digit (docs/outputs.md); on AMD's its products of a few rows are also nearly twice as fast (`make bench`).
# Read when torch first multiplies.
os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")

__version__ = "0.1.0"

ROOT = Path(__file__).resolve().parent.parent  # the repository: studies, data, runs and models count from here

_FACE = {
    "load_study": "nbutils.study.file",
    "open_corpora": "nbutils.study.corpora",
    "split": "nbutils.study.corpora",
    "settings": "nbutils.study.systems",
    "execute": "nbutils.study.execute",
    "open_results": "nbutils.study.results",
    "save_figure": "nbutils.figures.style",
    "provenance": "nbutils.study.provenance",
}
__all__ = ["ROOT", "figures", *_FACE]


def __getattr__(name: str) -> Any:
    if name == "figures":
        return import_module("nbutils.figures")
    if name not in _FACE:
        raise AttributeError(f"module 'nbutils' has no attribute {name!r}")
    return getattr(import_module(_FACE[name]), name)
