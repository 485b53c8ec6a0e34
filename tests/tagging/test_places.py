"""Where results of tagging go: never where a run.json from elsewhere points, and for their owner alone."""

import json
import os
import subprocess
import sys

import pytest

from nbutils import ROOT
from nbutils.corpus import Corpus, Document
from nbutils.corpus.formats import write_corpus
from nbutils.study.runs import write_run
from nbutils.taggers import crf
from nbutils.taggers.settings import CrfSettings
from nbutils.tagging import __main__, job


@pytest.fixture(scope="module")
def model(notes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "seed-0"
    crf.fit(notes, CrfSettings(iterations=5), progress=False).save(folder / "model")
    return folder


def run_with(model, **record):
    """A run whose record somebody else wrote."""
    (model / "run.json").unlink(missing_ok=True)
    write_run(model, {"study": "s", "system": "crf", "kind": "crf", "train": "A", "seed": 0} | record)
    return model


@pytest.fixture
def my_notes(tmp_path):
    path = tmp_path / "my notes.jsonl"
    write_corpus(Corpus("n", tuple(Document(f"n{k}", f"{k}日目、発熱あり。") for k in range(70))), path)
    return path


@pytest.mark.parametrize("key", ["study", "system", "train", "seed"])
@pytest.mark.parametrize("value", ["../../../elsewhere", "/elsewhere", "..", "a\x00b", ["x"], "x" * 5000, "~/x", ""])
def test_a_run_from_elsewhere_cannot_choose_where_files_are_written(model, my_notes, key, value):
    out = job.prepare(run_with(model, **{key: value}), my_notes).out
    assert out.parent.parent == ROOT / "tagged" and out.resolve().parent.parent == (ROOT / "tagged").resolve()
    assert len(os.fsencode(out.parent.name)) < 256 and out.name == "my notes"


def test_what_is_tagged_is_for_its_owner_alone(model, my_notes, tmp_path):
    out = __main__.tag(run_with(model), my_notes, tmp_path / "out", progress=False)
    assert {path.name for path in out.iterdir()} >= {"tagged.jsonl", "tagged.xml"}
    assert all((out / name).stat().st_mode & 0o077 == 0 for name in ("tagged.jsonl", "tagged.xml"))


def test_shards_work_whatever_the_folders_are_called(model, my_notes, tmp_path):
    place = tmp_path / "ward {7} 'x' $(touch PWNED) #"
    place.mkdir()
    notes, out = place / "notes {k}.jsonl", place / "out {}"
    my_notes.rename(notes)
    whole = __main__.tag(run_with(model), notes, tmp_path / "whole", progress=False)
    command = [sys.executable, "-m", "nbutils.tagging", f"--run={model}", f"--notes={notes}", f"--out={out}",
               "--shards=2", "--cores=1"]  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (out / "tagged.jsonl").read_bytes() == (whole / "tagged.jsonl").read_bytes()
    assert json.loads((out / "tagging.json").read_text())["notes"] == 70
    assert {path.name for path in out.iterdir()} == {"tagged.jsonl", "tagged.xml", "tagging.json"}
    assert not [*tmp_path.rglob("PWNED"), *ROOT.glob("PWNED")]
