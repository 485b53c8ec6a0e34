"""Badges that open a notebook in a hosted Jupyter: links need the repository's public address, which only you know."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from urllib.parse import quote

from nbutils import readmes
from nbutils.files import DataError
from nbutils.outputs import notebooks

START = "notebooks/01_data_exploration.ipynb"  # what Binder opens first


def table(repository: str, branch: str = "main") -> str:
    """A Binder badge for the whole repository, and a Colab badge for each notebook.

    Args:
        repository: `owner/name` on GitHub; both services read from there.

    Raises:
        DataError: this is no such name.
    """
    if not re.fullmatch(r"[A-Za-z0-9-]+/[A-Za-z0-9._-]+", repository):
        raise DataError(f'"{repository}" is no owner/name of a repository on GitHub (such as someone/medical-ner)')
    if not re.fullmatch(r"[\w./-]+", branch):
        raise DataError(f'"{branch}" is no name of a branch')
    binder = f"https://mybinder.org/v2/gh/{repository}/{quote(branch, safe='')}?labpath={quote(START, safe='')}"
    lines = [f"[![Open in Binder](https://mybinder.org/badge_logo.svg)]({binder})", "", "In Colab:"]
    for path in notebooks():
        colab = f"https://colab.research.google.com/github/{repository}/blob/{branch}/notebooks/{path.name}"
        lines.append(f"[{path.stem.split('_')[0]} {' '.join(path.stem.split('_')[1:])}]({colab}) ·")
    return "\n".join(lines).removesuffix(" ·")


def main(arguments: Sequence[str] | None = None) -> int:
    """Put badges that open the notebooks in hosted Jupyters into the READMEs."""
    parser = argparse.ArgumentParser(prog="python -m nbutils.badges", description=main.__doc__)
    parser.add_argument("repository", nargs="?", default="", help="owner/name on GitHub")
    parser.add_argument("--branch", default="main")
    chosen = parser.parse_args(arguments)
    try:
        readmes.fill("badges", table(chosen.repository, chosen.branch))
    except (ValueError, OSError) as error:
        print(f"{error}\nUsage: make badges REPO=owner/name", file=sys.stderr)
        return 1
    print(f"{', '.join(readmes.READMES)}: badges for {chosen.repository}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
