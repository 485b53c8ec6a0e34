"""One set of versions behind three doors: pyproject.toml, requirements.lock and environment.yml."""

import re
import tomllib

import yaml

from nbutils import ROOT, __version__

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DIRECT = set(PROJECT["dependencies"]) | set(PROJECT["optional-dependencies"]["test"])


def normal(requirement: str) -> str:
    name, version = requirement.split("==")
    return f"{re.sub('[-_.]+', '-', name).lower()}=={version}"


def pins(name: str) -> set[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return {normal(pin) for pin in re.findall(r"^[\w.-]+==[\w.]+", text, re.MULTILINE)}


def locked() -> set[str]:
    return pins("requirements.lock") | pins("torch.lock")


def test_every_direct_dependency_is_pinned_exactly():
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", d) for d in DIRECT)


def test_the_lock_file_has_every_direct_dependency_at_its_version():
    assert {normal(d) for d in DIRECT} <= locked()


def test_the_lock_file_names_each_package_once():
    names = [line.split("==")[0] for line in locked()]
    assert len(names) == len(set(names))


def test_the_conda_environment_has_the_same_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    (pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    assert set(pip) == DIRECT


def test_every_locked_package_but_torch_carries_the_hashes_of_its_files():
    entries = re.split(r"\n(?=[\w.-]+==)", (ROOT / "requirements.lock").read_text(encoding="utf-8"))[1:]
    assert len(entries) > 100
    for entry in entries:
        first, *hashes = entry.rstrip("\n").split(" \\\n")
        assert re.fullmatch(r"[\w.-]+==[\w.]+", first), first
        assert hashes and all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}", h) for h in hashes), first


def test_torch_and_what_it_needs_are_installed_first_by_version():
    assert "torch==2.13.0" in pins("torch.lock") and "torch==2.13.0" not in pins("requirements.lock")
    assert pins("torch.lock") - {"torch==2.13.0"} <= pins("requirements.lock")
    assert not any("+" in line or "@" in line for line in locked())


def test_the_package_the_project_file_and_the_citation_agree_on_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["version"] == __version__ == citation["version"]
