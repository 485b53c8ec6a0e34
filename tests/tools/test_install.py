"""What an installation promises: which index, what an image holds, and a word when something is missing."""

import json
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from nbutils import ROOT
from tools import verify

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
IGNORE = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
# What the repository holds and an image does not need.
OUTSIDE = {".ci", ".github", ".gitignore", ".dockerignore", "Dockerfile", "postBuild", "myst.yml"}


def in_image(path: str) -> bool:
    """Whether Docker would send a file: the last rule that matches it or a folder above it decides."""
    parts, sent = path.split("/"), True
    places = ["/".join(parts[: k + 1]) for k in range(len(parts))]
    for rule in IGNORE:
        pattern, back = rule.removeprefix("!"), rule.startswith("!")
        names = parts if pattern.startswith("**/") else [p for p in places if p.count("/") == pattern.count("/")]
        if any(fnmatch(name, pattern.removeprefix("**/")) for name in names):
            sent = back
    return sent


def test_an_image_holds_what_the_repository_holds():
    tracked = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True).stdout.split("\n")[:-1]
    if not tracked:
        pytest.skip("not a git repository")
    missing = {path.split("/")[0] for path in tracked if not in_image(path)}
    assert missing <= OUTSIDE


@pytest.mark.parametrize(
    "path",
    [
        "my_notes/ward7.txt", "notes.xml", "data/ward7/a.xml", "data/jmed-llm/CRNER.csv",
        "runs/demo/crf/CR/seed-0/run.json", "models/hub/config.json",
        "tagged/a/tagged.jsonl", "report/index.html", ".git/config", ".venv/bin/python",
        "tests/__pycache__/a.pyc", ".env",
    ],
)  # fmt: skip
def test_no_notes_no_models_and_nothing_of_this_machine_gets_into_an_image(path):
    assert not in_image(path)


def test_every_file_that_the_image_copies_is_there_and_enough_to_install_the_package(tmp_path):
    copies = [line.split()[2:] for line in DOCKERFILE.splitlines() if line.startswith("COPY")]
    (*first, folder), _ = copies[0], copies[1]
    for *sources, _target in copies[:-1]:
        for source in sources:
            (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, tmp_path / source)
            assert in_image(source)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        "out",
        ".",
    ]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert list((tmp_path / "out").glob("nbutils-*.whl")) and folder == "./" and "Makefile" in first


def test_the_image_is_not_roots_and_asks_for_no_network_when_it_runs():
    lines = DOCKERFILE.splitlines()
    assert lines.index("USER study") < lines.index("RUN PIP_NO_CACHE_DIR=1 make install")
    assert not any(line.startswith("USER root") for line in lines) and "HF_HUB_OFFLINE=1" in DOCKERFILE
    assert not re.search(r"https?://", DOCKERFILE + (ROOT / "Makefile").read_text(encoding="utf-8"))


def test_the_workflow_is_off_until_somebody_starts_it():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    assert list(workflow[True]) == ["workflow_dispatch"]  # YAML 1.1 reads `on` as true
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    assert len(matrix["os"]) == 2 and matrix["python"] == ["3.11", "3.12", "3.13"]


def install(folder: Path, *values: str, **environment: str) -> subprocess.CompletedProcess:
    """`make install` in a folder of its own, with a Python that only writes down what it is asked."""
    for name in ("Makefile", "torch.lock", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    fake = folder / "python"
    fake.write_text(
        '#!/bin/sh\necho "$@" >> asked\n'
        '[ "$1 $2" = "-m venv" ] && mkdir -p .venv/bin && cp "$0" .venv/bin/python\nexit 0\n'
    )
    fake.chmod(0o755)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "TORCH", "MAKE"))}
    return subprocess.run(
        ["make", "install", f"PYTHON={fake}", *values],
        cwd=folder, env=clean | environment, capture_output=True, text=True,
    )  # fmt: skip


def test_a_cpu_build_comes_from_the_index_that_is_named_and_everything_else_from_pips_own(tmp_path):
    done = install(tmp_path, "TORCH=cpu", "TORCH_INDEX=https://mirror.example.org/cpu; echo")
    assert done.returncode == 0, done.stderr
    assert "comes from https://mirror.example.org/cpu; echo" in done.stdout  # nothing of it is syntax
    pip = [line for line in (tmp_path / "asked").read_text().splitlines() if " pip install " in line]
    assert len(pip) == 4 and [("mirror.example.org" in line) for line in pip] == [True, False, False, False]
    assert pip[0].endswith("torch==2.13.0") and "--no-deps" in pip[0] and "--quiet" not in "".join(pip)
    # In .venv itself pip 23.0 would build seqeval with a setuptools_scm that lacks one of its own packages.
    assert "--use-pep517" in pip[2] and "requirements.lock" in pip[2]


@pytest.mark.skipif(sys.platform == "darwin", reason="there the usual build has no CUDA")
def test_a_cpu_build_without_an_index_is_refused_in_a_sentence(tmp_path):
    done = install(tmp_path, "TORCH=cpu")
    assert done.returncode != 0 and "TORCH_INDEX=URL" in done.stdout and not (tmp_path / "asked").exists()


def test_another_word_for_the_build_is_refused(tmp_path):
    done = install(tmp_path, "TORCH=gpu")
    assert done.returncode != 0 and "TORCH=gpu" in done.stdout


def test_the_usual_installation_names_no_index_and_says_how_much_it_is(tmp_path):
    done = install(tmp_path)
    assert done.returncode == 0 and "2 GB" in done.stdout and "minutes" in done.stdout
    assert "--index-url" not in (tmp_path / "asked").read_text()
    n_packages = sum(len(re.findall(r"^[\w.-]+==", (ROOT / f"{lock}.lock").read_text(), re.MULTILINE))
                     for lock in ("torch", "requirements"))  # fmt: skip
    assert abs(n_packages - int(re.search(r"Installing (\d+)", done.stdout)[1])) < 12  # some are in both


def test_a_whole_installation_is_called_whole(capsys):
    assert verify.main() == 0
    said = capsys.readouterr().out
    assert said.rstrip().endswith("The installation is whole.") and said.count("  ok  ") == len(verify.CHECKS)


def test_a_kernel_that_does_not_answer_is_told_with_what_to_do(tmp_path, monkeypatch):
    spec = {"argv": [sys.executable, "-c", "import time; time.sleep(60)"], "language": "python", "display_name": "x"}
    (tmp_path / "kernels" / "python3").mkdir(parents=True)
    (tmp_path / "kernels" / "python3" / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setattr(verify, "STARTUP", 1)
    with pytest.raises(verify.Broken, match=r"no Jupyter kernel answers .*127\.0\.0\.1"):
        verify.jupyter()


def test_what_is_missing_is_named_with_what_to_do(capsys, monkeypatch):
    monkeypatch.setattr(verify, "_installed", lambda name: None if name == "fugashi" else "0")
    monkeypatch.setattr(verify, "CHECKS", {"versions": verify.versions})
    assert verify.main() == 1
    said = capsys.readouterr().out
    assert "fugashi is missing" in said or "more; remove .venv" in said
    assert "not whole: versions" in said
