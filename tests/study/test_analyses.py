"""Which analyses a study's corpora allow: a notebook that cannot say anything is left out, not started and failed."""

from itertools import product

import pytest

from nbutils import ROOT
from nbutils.corpus import Corpus, Document, Entity
from nbutils.corpus.formats import write_medtxt
from nbutils.files import DataError
from nbutils.study.__main__ import main
from nbutils.study.corpora import annotator_files, open_annotators
from nbutils.study.file import load_study
from nbutils.study.notebooks import analyses

ALWAYS = {"08_error_analysis", "09_efficiency"}


def corpus(path, cells):
    """A note for each (physician, case); a cell of None has neither."""
    notes = [
        Document(f"n{k}", "発熱あり。\n", (Entity(0, 2, certainty="positive"),),
                 {"physician": cell[0], "case": cell[1]} if cell else {})
        for k, cell in enumerate(cells)
    ]  # fmt: skip
    write_medtxt(Corpus(path.stem, tuple(notes)), path)


def plan(tmp_path, cells=(None,) * 6, *, second=False, evaluate="[CR, PN]"):
    corpus(tmp_path / "cr.xml", [None] * 6)
    corpus(tmp_path / "pn.xml", cells)
    corpus(tmp_path / "pn2.xml", cells[:2])
    of_pn = f"{{path: {tmp_path}/pn.xml" + (f", second: {tmp_path}/pn2.xml}}" if second else "}")
    text = f"corpora:\n  CR: {{path: {tmp_path}/cr.xml}}\n  PN: {of_pn}\nevaluate: {evaluate}\nsystems: {{crf: }}\n"
    (tmp_path / "s.yaml").write_text(text, encoding="utf-8")
    return load_study(tmp_path / "s.yaml")


GRID = tuple(product(("p1", "p2"), ("c1", "c2", "c3")))


def test_the_demo_study_allows_every_analysis():
    allowed = analyses(load_study(ROOT / "studies" / "demo.yaml"))
    more = {"02_inter_annotator_agreement", "07_stratification", "10_generalisation", "12_adaptation"}
    assert set(allowed) == ALWAYS | more
    assert allowed["07_stratification"] == {"runs_folder": "runs", "train": "CR", "evaluate": "PN"}
    assert allowed["10_generalisation"] == {"target": "PN", "source": "CR"}
    assert allowed["12_adaptation"] == {"runs_folder": "runs", "train_missing": "yes"}


def test_notes_without_physicians_are_not_stratified(tmp_path):
    assert set(analyses(plan(tmp_path))) == ALWAYS | {"10_generalisation"}


def test_notes_of_two_physicians_are_stratified_with_a_hole_in_their_grid_too(tmp_path):
    assert "07_stratification" in analyses(plan(tmp_path, GRID))
    assert "07_stratification" in analyses(plan(tmp_path, GRID[:5]))


@pytest.mark.parametrize("cells", [GRID[:3], (*GRID, None)], ids=["every note its own case", "a bare note"])
def test_a_key_that_puts_no_notes_together_or_is_missing_once_makes_no_strata(tmp_path, cells):
    assert "07_stratification" not in analyses(plan(tmp_path, cells))


def test_hospitals_are_strata_like_any_other():
    allowed = analyses(load_study(ROOT / "studies" / "hospitals.yaml"))
    assert allowed["07_stratification"]["evaluate"] == allowed["10_generalisation"]["target"] == "HOSPITALS"


def test_a_study_of_one_document_type_has_no_gap_to_take_apart(tmp_path):
    chosen = load_study(plan(tmp_path, GRID).path)
    alone = chosen.__class__(**{**chosen.__dict__, "train": ("CR",), "evaluate": ("CR",)})
    assert set(analyses(alone)) == ALWAYS


def test_agreement_needs_a_second_annotator(tmp_path):
    chosen = plan(tmp_path, second=True)
    assert "02_inter_annotator_agreement" in analyses(chosen)
    assert len(open_annotators(chosen, "PN")[1]) == 2 and open_annotators(chosen, "CR") is None
    assert f"{tmp_path}/pn2.xml" in annotator_files(chosen)


def test_a_second_annotator_of_another_text_stops_the_study_before_it_starts(tmp_path, capsys):
    chosen = plan(tmp_path, second=True)
    other = Document("n0", "咳嗽あり。\n", (Entity(0, 2, certainty="positive"),))
    write_medtxt(Corpus("pn2", (other,)), tmp_path / "pn2.xml")
    assert main(["check", str(chosen.path)]) == 1
    assert "did not have the same text" in capsys.readouterr().err


def test_a_second_annotator_who_is_not_there_is_named(tmp_path):
    chosen = plan(tmp_path, second=True)
    (tmp_path / "pn2.xml").unlink()
    with pytest.raises(DataError, match=r"corpora.PN: there is no .*pn2\.xml"):
        open_annotators(chosen, "PN")
