"""What guides and notebooks say of the bundled notes is what the notes are, and nothing they say was found untrue."""

import json

import pytest

from nbutils import ROOT, load_study, open_corpora

TEXTS = [*(ROOT / "docs").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]
UNTRUE = {
    "the change\nof hospital costs": "Δ compares two sets of notes",
    "what the change of hospital costs": "Δ compares two sets of notes",
    "has no reason to be used": "a difference of two F1s is uncertain, too",
    "five entities of the first were corrected": "of the first edition",
    "every SD of the CRF is 0.0": "it is trained once",
}


@pytest.mark.parametrize("claim", UNTRUE)
def test_no_text_says_again_what_was_found_untrue(claim):
    assert not [path.name for path in TEXTS if claim in _text(path)], UNTRUE[claim]


def _text(path):
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells)


def test_the_guide_shows_the_counts_that_its_command_prints():
    guide = (ROOT / "docs" / "your_own_notes.md").read_text(encoding="utf-8")
    for name, corpus in open_corpora(load_study(ROOT / "studies" / "own_notes.yaml")).items():
        assert f"{name}: {len(corpus)} notes, {sum(len(d.entities) for d in corpus):,} entities" in guide
