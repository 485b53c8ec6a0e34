"""A list of checksums beside what was saved, so that cut or changed files are noticed before anything reads them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from nbutils.files import DataError, written_whole

NAME = "checksums.json"


def write(folder: str | Path, pattern: str = "*") -> None:
    """Note the SHA-256 of the files in a folder; written last, so a folder that was cut off has no list."""
    files = sorted(path for path in Path(folder).glob(pattern) if path.is_file() and path.name != NAME)
    with written_whole(Path(folder) / NAME) as file:
        json.dump({path.name: _digest(path) for path in files}, file, indent=1)


def problem(folder: str | Path) -> str | None:
    """What is wrong with a folder, in a few words; None when its files are those of the list."""
    try:
        listed = json.loads((Path(folder) / NAME).read_text(encoding="utf-8"))
        wrong = [name for name, digest in listed.items() if _digest(Path(folder) / Path(name).name) != digest]
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, AttributeError, TypeError):
        return f"{NAME} cannot be read"
    if not listed:
        return f"{NAME} lists nothing"
    return f"{wrong[0]} is cut or was changed" if wrong else None


def check(folder: str | Path) -> None:
    """Refuse a folder whose files are not those that were saved.

    Raises:
        DataError: a file is missing, cut or changed, or there is no list of checksums.
    """
    if (wrong := problem(folder)) is not None:
        raise DataError(f"{folder}: {wrong}, so the model is not loaded; train it again")


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
