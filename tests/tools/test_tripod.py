"""The items of TRIPOD-LLM: all of them, answered by numbers of the study or said to be open."""

import re

import pytest

from nbutils import ROOT
from nbutils.study.file import load_study
from nbutils.study.results import open_results
from tools import tripod

# The numbers of the 49 items: Gallifant et al. 2025, Table 2.
NUMBERS = (
    "1 2 3a 3b 4 5a 5b 5c 5d 5e 6a 6b 6c 6d 6e 7a 7b 7c 7d 7e 8a 8b 8c 9a 9b 10 11 12 13 14a 14b 14c 14d 14e 14f 15 "
    "16a 16b 16c 16d 17 18 19a 19b 19c 19d 19e 19f 19g"
).split()
DEMO = ROOT / "studies" / "demo.yaml"


@pytest.fixture(scope="module")
def demo():
    return tripod.page(open_results(load_study(DEMO)))


def answers(page):
    rows = [re.fullmatch(r"\| (\d+[a-g]?) \| (.+?) \| (.+) \|", line) for line in page.splitlines()]
    return {row[1]: row[3] for row in rows if row}


def test_every_item_is_there_once_in_order(demo):
    assert list(answers(demo)) == NUMBERS == [number for number, *_ in tripod.ITEMS]


def test_numbers_come_from_the_study(demo):
    said = answers(demo)
    assert "148 notes" in said["5b"] and "118 notes for training" in said["16a"] and "24 runs" in said["16a"]
    assert re.search(r"two annotators on 148 of 148 notes, F1 \d\d\.\d", said["8b"])
    assert "Tiny BERT (fine-tuned) against Tiny Llama" in said["4"]


def test_what_only_people_can_say_stays_open(demo):
    said = answers(demo)
    assert {said[number] for number in ("2", "3b", "14a", "14b", "15")} == {f"**{tripod.OPEN}**"}
    assert f"{sum(tripod.OPEN in a for a in said.values())} of 49 items are for its authors" in demo


def test_every_file_that_is_named_is_there(demo):
    for name in re.findall(r"\b(?:data|docs|nbutils)/[\w/]+\.?\w*", demo):
        assert (ROOT / name).exists(), name


def test_private_corpora_are_said_to_be_private_and_no_place_of_this_machine_is_named(tmp_path):
    text = DEMO.read_text(encoding="utf-8").replace("path: data/pn,", "private: true, path: data/pn,")
    path = tmp_path / "demo.yaml"
    path.write_text(text.replace("data/", f"{ROOT}/data/"), encoding="utf-8")
    page = tripod.page(open_results(load_study(path)))
    assert answers(page)["14e"] == "Private: PN" and "PN-01" not in page and str(tmp_path) not in page
