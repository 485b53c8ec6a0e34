"""Whether an installation is whole, in a minute (`make verify`): versions, fonts, MeCab, PyTorch, tiny run, digits.

Nothing is sent anywhere and nothing is written.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from subprocess import DEVNULL

from nbutils import ROOT
from nbutils.files import DataError

TINY_RUN = "83.3"  # micro F1 (%) of the CRF below; a point more or less is another kind of CPU
LINES = {"診断は急性肺炎である。": ["診断", "は", "急性", "肺炎", "で", "ある", "。"]}
STARTUP = 60  # seconds that a kernel has, as in a study
LABEL = "東京都立病院 糖尿病 発熱"


class Broken(Exception):
    """A part of the installation is not as it should be; says what to do."""


def python() -> str:
    """3.11 or newer."""
    if sys.version_info < (3, 11):
        raise Broken(f"Python {sys.version.split()[0]}; install 3.11 or newer, remove .venv and run `make install`")
    return sys.version.split()[0]


def versions() -> str:
    """Every locked package at its locked version; a build of PyTorch may add its own suffix."""
    names = ("torch.lock", "requirements.lock")
    text = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in names)
    pins = dict(re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE))
    wrong = [f"{name} {found or 'is missing'} (locked: {pin})" for name, pin in pins.items()
             if (found := _installed(name)) is None or found.partition("+")[0] != pin]  # fmt: skip
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise Broken(f"{', '.join(wrong[:5])}{more}; remove .venv and run `make install`")
    return f"{len(pins)} packages as locked"


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def torch() -> str:
    """PyTorch computes, and on what."""
    import torch

    if torch.arange(4.0).reshape(2, 2).square().sum().item() != 14:
        raise Broken("PyTorch computes wrongly; remove .venv and run `make install`")
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    seen = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU is seen"
    return f"{torch.__version__} ({build}), {seen}"


def fonts() -> str:
    """A font with Japanese characters draws the figures."""
    from matplotlib import font_manager, ft2font, rcParams

    from nbutils.figures.style import use_style

    use_style()
    path = font_manager.findfont(rcParams["font.family"][0])
    missing = [c for c in LABEL if not ft2font.FT2Font(path).get_char_index(ord(c))]
    if missing:
        raise Broken(f"the font of the figures has no {''.join(missing)}; install matplotlib-fontja again")
    return f"{rcParams['font.family'][0]} has Japanese characters"


def mecab() -> str:
    """MeCab cuts a sentence as UniDic says."""
    from nbutils.taggers.crf import mecab as tagger

    for text, words in LINES.items():
        if (cut := [word.surface for word in tagger()(text)]) != words:
            raise Broken(f"MeCab cuts {text} into {' '.join(cut)}; install unidic-lite and fugashi again")
    return f"cuts “{next(iter(LINES))}” as it should"


def tiny_run() -> str:
    """A CRF learns from 40 bundled notes and tags 20 others."""
    from nbutils.corpus.formats import read_corpus
    from nbutils.scoring.spans import exact_scores
    from nbutils.taggers import crf
    from nbutils.taggers.settings import CrfSettings

    notes = read_corpus(ROOT / "data" / "pn").documents
    tagger = crf.fit(notes[:40], CrfSettings(iterations=20), progress=False)
    f1 = 100 * exact_scores(notes[40:60], tagger.predict(notes[40:60])).f1
    if abs(f1 - float(TINY_RUN)) > 1:
        raise Broken(f"F1 {f1:.1f} in place of {TINY_RUN}; run `make test`, and report what fails")
    return f"F1 {f1:.1f} (expected {TINY_RUN})"


def known_digits() -> str:
    """The bundled runs of the CRF, scored here, give the numbers of the main table."""
    from nbutils.analysis.main_result import score_runs
    from nbutils.study.results import open_results

    results = open_results(ROOT / "studies" / "demo.yaml")
    scores = score_runs(results).query("system == 'crf'")
    with open(ROOT / "figures" / "demo" / "main_result.csv", encoding="utf-8", newline="") as file:
        row = next(csv.reader(list(file)[1:]))
    table = re.findall(r"\b(\d+\.\d) \(", ",".join(row))
    ours = [f"{f1:.1f}" for train in results.study.train
            for f1 in scores[scores["train"] == train].sort_values("setting")["f1"]]  # fmt: skip
    if ours != table:
        raise Broken(f"the bundled runs score {', '.join(ours)}, the table says {', '.join(table)}; run `make test`")
    return f"F1 {', '.join(ours)}, as in the main table"


def jupyter() -> str:
    """JupyterLab and Snakemake are there, and a Jupyter kernel answers."""
    missing = [name for name in ("jupyterlab", "ipykernel", "snakemake", "papermill") if find_spec(name) is None]
    if missing:
        raise Broken(f"{', '.join(missing)} cannot be imported; remove .venv and run `make install`")
    from jupyter_client.manager import start_new_kernel

    try:
        manager, client = start_new_kernel(startup_timeout=STARTUP, stderr=DEVNULL)
    except RuntimeError as error:
        where = "kernels are spoken to at 127.0.0.1: see that its interface is up and that no firewall blocks it"
        raise Broken(f"no Jupyter kernel answers ({error}); {where}") from None
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    return "a kernel answers"


CHECKS: dict[str, Callable[[], str]] = {
    "Python": python,
    "versions": versions,
    "PyTorch": torch,
    "Japanese fonts": fonts,
    "MeCab": mecab,
    "notebooks and grid": jupyter,
    "a tiny run": tiny_run,
    "known digits": known_digits,
}


def main() -> int:
    """Check all parts, one line each, and say whether the installation is whole."""
    broken = []
    for name, check in CHECKS.items():
        try:
            print(f"  ok      {name}: {check()}", flush=True)
        except (Broken, DataError, ImportError, OSError) as error:
            broken.append(name)
            print(f"  BROKEN  {name}: {error}", flush=True)
    print(f"The installation is not whole: {', '.join(broken)}." if broken else "The installation is whole.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
