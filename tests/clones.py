"""A copy of the repository as git would clone it: what a newcomer has, without runs, models and anything ignored."""

import os
import shutil
import subprocess
from pathlib import Path

from nbutils import ROOT

IGNORED = shutil.ignore_patterns(
    ".git", ".venv", "runs", "models", "report", "tagged", "__pycache__", ".*cache", "*.egg-info", ".snakemake",
    ".hypothesis", ".ipynb_checkpoints", ".coverage", "*.part", "jmed-llm",
)  # fmt: skip


def clone(folder: Path) -> Path:
    """Copy the working tree to a folder of its own, as a git repository whose only commit is all of it."""
    shutil.copytree(ROOT, folder, ignore=IGNORED)
    (folder / ".venv").symlink_to((ROOT / ".venv").resolve() if (ROOT / ".venv").exists() else Path(os.sys.prefix))
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        git(folder, *command)
    return folder


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=A tester", "-c", "user.email=tester@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def changes(folder: Path) -> str:
    """What git sees changed or new in a clone."""
    return git(folder, "status", "--porcelain")


def environment(folder: Path) -> dict[str, str]:
    """The environment of a command in a clone: its modules, one thread."""
    return os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
