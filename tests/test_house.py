"""The layout of the package: where imports point, what is reached, how large a module may be, what notebooks use."""

import ast
import json
from functools import cache
from pathlib import Path

import pytest

from nbutils import ROOT

# Each package and what it may import besides itself. `nbutils` is the face for notebooks, the ground files, privacy.
MAY_IMPORT = {
    "files": set(),
    "privacy": set(),
    "corpus": {"files", "privacy"},
    "scoring": {"files", "privacy", "corpus"},
    "taggers": {"files", "privacy", "corpus"},
    "prompting": {"files", "privacy", "corpus", "taggers"},
    # The grid says the F1 of a run as soon as it is finished, `make tag` what to expect of it.
    "study": {"files", "privacy", "corpus", "scoring", "taggers", "prompting"},
    "tagging": {"files", "privacy", "corpus", "scoring", "taggers", "prompting", "study"},
    "views": {"files", "privacy", "corpus", "study"},
    "analysis": {"files", "privacy", "corpus", "scoring", "taggers", "prompting", "study", "tagging"},
    "figures": {"files", "privacy", "corpus", "scoring", "study", "analysis"},
}
# What starts the package besides the notebooks: the grid, `make tag`, and what both call as a command.
ENTRIES = ("nbutils.study.__main__", "nbutils.study.papermill", "nbutils.tagging.__main__")
MOST_LINES = 350

# Every name that a notebook imports from nbutils; a new one is a decision, not an accident.
SURFACE = {
    "nbutils": {
        "execute", "figures", "load_study", "open_corpora", "open_results", "privacy", "provenance", "save_figure",
        "settings", "split",
    },
    "nbutils.analysis": {
        "adaptation", "agreement", "calibration", "choosing", "codes", "costs", "cross_fitting", "errors", "estimates",
        "exploration",
        "generalisation", "main_result", "misses", "paper", "power", "significance", "stratification",
    },
    "nbutils.prompting": {"markup", "prompts", "tagger"},
    "nbutils.study.systems": {"prepare"},
    "nbutils.views": {"browser", "html"},
}  # fmt: skip


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted((ROOT / "nbutils").rglob("*.py"))}


@cache
def imported_by(path: Path) -> frozenset[str]:
    """The modules of ours that a file names in imports, in strings such as `KINDS` and in lazy tables, resolved."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            named |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("nbutils."):
            named.add(node.value)
    return frozenset(name for name in named if name in MODULES or name.startswith("tools"))


def package_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def cells() -> list[str]:
    """The code of all notebooks, cell by cell."""
    found = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        found += ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return found


def notebook_imports() -> dict[str, set[str]]:
    names: dict[str, set[str]] = {}
    for code in cells():
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "nbutils":
                names.setdefault(node.module, set()).update(alias.name for alias in node.names)
    return names


@pytest.mark.parametrize("module", [m for m in MODULES if package_of(m)])
def test_imports_point_one_way(module):
    own = package_of(module)
    wrong = {
        name for name in imported_by(MODULES[module])
        if name.startswith("tools") or (package_of(name) not in ("", own) and package_of(name) not in MAY_IMPORT[own])
    }  # fmt: skip
    # KINDS names the module of each kind; naming is no import.
    if module == "nbutils.taggers":
        wrong -= {"nbutils.prompting.tagger"}
    assert not wrong


def test_every_package_has_its_place_in_the_direction():
    assert {package_of(m) for m in MODULES if package_of(m)} == set(MAY_IMPORT)


def test_no_module_waits_for_nobody():
    """Every module is reached from a notebook, the grid or `make tag`."""
    reached, waiting = set(), set(ENTRIES)
    for module, names in notebook_imports().items():
        waiting |= {module} | {f"{module}.{name}" for name in names}
        face = MODULES["nbutils"].read_text(encoding="utf-8")
        waiting |= {name for name in MODULES if f'"{name}"' in face}
    figures = "\n".join(cells())
    waiting |= {
        name for name in MODULES if package_of(name) == "figures" and f"figures.{name.split('.')[-1]}." in figures
    }
    snakefiles = [ROOT / "Snakefile", *ROOT.glob("nbutils/**/*.smk")]
    waiting |= {name for name in MODULES for path in snakefiles if name in path.read_text(encoding="utf-8")}
    waiting &= set(MODULES)
    while waiting:
        module = waiting.pop()
        reached.add(module)
        parents = {".".join(module.split(".")[:k]) for k in range(1, module.count(".") + 1)}
        waiting |= (imported_by(MODULES[module]) | parents) & set(MODULES) - reached
    assert set(MODULES) - reached == set()


def test_a_notebook_imports_only_what_is_listed():
    assert notebook_imports() == SURFACE


@pytest.mark.parametrize("module", MODULES)
def test_a_module_can_be_held_in_the_head(module):
    n_lines = len(MODULES[module].read_text(encoding="utf-8").splitlines())
    assert n_lines <= MOST_LINES


def test_the_top_of_the_package_is_its_face_and_its_ground():
    assert {path.name for path in (ROOT / "nbutils").glob("*.py")} == {"__init__.py", "files.py", "privacy.py"}


def test_the_face_is_light():
    """`import nbutils` loads neither torch nor pandas."""
    import subprocess
    import sys

    heavy = ("torch", "pandas", "transformers", "matplotlib")
    code = f"import sys, nbutils; print(*[m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == ""
