"""The Slurm profile fits the Snakefile. That a study completes on a real Slurm is shown by tests/slurm/run.sh."""

import subprocess
import tomllib

import pytest
import yaml

from nbutils import ROOT
from nbutils.study import grid
from nbutils.study.file import load_study
from nbutils.study.notebooks import NOTEBOOKS

PROFILE = ROOT / "profiles" / "slurm"


@pytest.fixture(scope="module")
def profile():
    return yaml.safe_load((PROFILE / "config.yaml").read_text(encoding="utf-8"))


def test_the_profile_sends_jobs_to_slurm_tries_again_and_goes_on_after_a_failure(profile):
    assert profile["executor"] == "slurm" and profile["retries"] >= 1 and profile["rerun-incomplete"]
    assert profile["slurm-no-requeue"]  # one authority decides on trying again


def test_the_profile_gives_resources_to_kinds_of_runs_that_exist_and_a_gpu_to_the_neural_ones(profile):
    assert set(profile["set-resources"]) <= set(NOTEBOOKS)
    assert {kind for kind, r in profile["set-resources"].items() if r.get("gpu")} == {"bert", "lora"}


def test_the_plugin_is_pinned_exactly():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert all("==" in requirement for requirement in project["optional-dependencies"]["slurm"])


@pytest.mark.parametrize("with_profile", [True, False])
def test_jobs_run_where_the_profile_says_or_on_the_given_cores(monkeypatch, tmp_path, with_profile):
    asked = []
    monkeypatch.setattr(grid, "watched", lambda command, *_, **__: asked.extend(command) or 1)
    monkeypatch.setattr(grid, "ROOT", tmp_path)
    study = load_study(ROOT / "studies" / "demo.yaml")
    assert grid.run_grid(study, 3, str(PROFILE) if with_profile else None) == 1
    assert ("--profile" in asked) == with_profile and ("--cores" in asked) == (not with_profile)


def test_the_script_is_sound_shell():
    subprocess.run(["bash", "-n", str(ROOT / "tests" / "slurm" / "run.sh")], check=True)
