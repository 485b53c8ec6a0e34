"""Put the SHA-256 of every published file behind each locked version: `python -m tools.lock`, for maintainers.

`requirements.lock` then installs on any system and Python that the versions support, and nothing but these files is
accepted. PyTorch and what it needs stand in `torch.lock`, by version alone: its builds differ by machine (a CUDA build
brings packages that a CPU build does not), so they are installed first.
"""

from __future__ import annotations

import json
import os
import re
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from pip._internal.models.index import PyPI

from nbutils import ROOT
from nbutils.files import DataError, written_whole

LOCK = ROOT / "requirements.lock"


def main() -> int:
    """Write the hashes into requirements.lock; nothing is written when one version has no file."""
    text = LOCK.read_text(encoding="utf-8")
    head = [line for line in text.splitlines() if line.startswith("#")]
    pins = re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE)
    try:
        with ThreadPoolExecutor(4) as pool:
            hashes = list(pool.map(lambda pin: published(*pin), pins))
    except (DataError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    with written_whole(LOCK) as file:
        file.write("\n".join(head) + "\n")
        for (name, version), found in zip(pins, hashes, strict=True):
            file.write(f"{name}=={version}" + "".join(f" \\\n    --hash=sha256:{h}" for h in found) + "\n")
    print(f"{LOCK.name}: {len(pins)} packages, {sum(map(len, hashes))} files")
    return 0


def published(name: str, version: str) -> list[str]:
    """The SHA-256 of every file of a version, from the package index that pip uses (PEP 691)."""
    index = os.environ.get("PIP_INDEX_URL", PyPI.simple_url).rstrip("/")
    page = f"{index}/{re.sub('[-_.]+', '-', name).lower()}/"
    request = urllib.request.Request(page, headers={"Accept": "application/vnd.pypi.simple.v1+json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        files = json.load(answer)["files"]
    wanted = re.compile(
        rf"{re.sub('[-_.]+', '[-_.]+', name)}-{re.escape(version)}(?:-|\.tar\.gz$|\.zip$)", re.IGNORECASE
    )
    found = sorted(
        {file["hashes"]["sha256"] for file in files if wanted.match(file["filename"]) and not file.get("yanked")}
    )
    if not found:
        raise DataError(f"{LOCK.name}: the index has no file of {name} {version}; correct the version")
    return found


if __name__ == "__main__":
    sys.exit(main())
