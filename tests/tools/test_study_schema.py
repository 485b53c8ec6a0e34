"""The schema of study files for editors says what the check says."""

import jsonschema
import pytest
import yaml

from nbutils import ROOT
from tools import study_schema

STUDIES = sorted((ROOT / "studies").glob("*.yaml"))


def faults(study):
    return list(jsonschema.Draft7Validator(study_schema.schema()).iter_errors(study))


def test_the_schema_in_the_repository_is_that_of_the_code():
    assert study_schema.PATH.read_text(encoding="utf-8") == study_schema.text(), "run `make schema`"


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_names_the_schema_in_its_first_line_and_fits_it(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# yaml-language-server: $schema={study_schema.PATH.name}\n")
    assert not faults(yaml.safe_load(text))


@pytest.mark.parametrize(
    "system",
    [{"crf": {"iteratons": 3}}, {"x": {}}, {"x": {"kind": "crv"}}, {"x": {"kind": "bert"}}, {"crf": {"labels": ["d"]}},
     {"bert": {"model": "m", "epochs": "2"}}, {"crf": {"kind": "bert", "iterations": 3}}],
)  # fmt: skip
def test_the_schema_refuses_what_the_check_refuses(system):
    good = {"corpora": {"A": {"path": "a"}}, "systems": {"crf": None, "mine": {"kind": "crf", "title": "T"}}}
    assert not faults(good)
    assert faults(good | {"systems": system})
