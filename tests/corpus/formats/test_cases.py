"""Small inputs modelled on public bug reports, kept beside the repository; skipped where they are absent."""

import pytest
from exports import surfaces

from nbutils import ROOT
from nbutils.corpus.formats import read_corpus
from nbutils.files import DataError

CASES = ROOT.parent / "shared" / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the cases are absent")
LF = {"offsets": "codepoints-lf"}


@pytest.mark.parametrize(
    ("path", "format", "how", "expected"),
    [
        ("01-doccano-crlf/all.jsonl", "doccano", LF, ["発熱", "咳嗽", "頭痛"]),
        ("02-labelstudio-crlf-no-quote/p.json", "labelstudio", LF, ["咳嗽"]),
        ("03-white-space-at-the-edge/all.jsonl", "doccano", {}, ["発熱", "咳嗽"]),
        ("04-conll-ideographic-space/a.conll", "conll", {"join": "none"}, ["右　下葉肺炎"]),
        ("05-conll-cr-line-ends/a.conll", "conll", {"join": "none"}, ["発熱", "咳嗽"]),
        ("07-labelstudio-hypertextlabels/p.json", "labelstudio", {"labels_as": {"d": "d"}}, ["発熱"]),
        ("09-capital-endings/notes", "brat", {}, ["咳嗽", "発熱"]),
        ("20-brat-wrapped-and-indented/notes", "brat", {}, ["右下葉\n　浸潤影"]),
    ],
)
def test_a_case_is_read_as_meant(path, format, how, expected):
    assert surfaces(read_corpus(CASES / path, format, **how)) == expected


@pytest.mark.parametrize(
    ("path", "format", "how", "sentence"),
    [
        ("01-doccano-crlf/all.jsonl", "doccano", {}, "all.jsonl, line 1: the text has line ends of Windows"),
        ("02-labelstudio-crlf-no-quote/p.json", "labelstudio", {}, "task 1: the text has line ends of Windows"),
        ("03-white-space-at-the-edge/only", "brat", {}, "nothing but white space"),
        ("06-no-entity-at-all/all.jsonl", "doccano", {"labels_as": {"Disease": "d"}}, 'labels_as names "Disease"'),
        ("06-no-entity-at-all/all.jsonl", "doccano", {}, "not one entity in 6 notes"),
        ("19-sentences-that-mislead/completions.json", "labelstudio", {}, "Annotation Lab"),
        ("19-sentences-that-mislead/html.json", "labelstudio", {}, "HTML-escaped"),
        ("19-sentences-that-mislead/mixed", "brat", {"encoding": "cp932"}, "the .ann is UTF-8"),
        ("19-sentences-that-mislead/nfd", "brat", {}, "the same but for Unicode normalisation"),
    ],
)
def test_a_case_is_refused_with_its_cause(path, format, how, sentence):
    with pytest.raises(DataError, match=sentence):
        read_corpus(CASES / path, format, **how)


def test_left_out_types_are_in_sight_however_much_else_there_is_to_tell():
    how = {"discontinuous": "fragments", "labels_as": {"Disease": "d"}}
    first, second = read_corpus(CASES / "08-notices-hidden" / "notes", "brat", **how).notices
    assert first.endswith('left out 30 entities of the type "Symptom", which labels_as does not name')
    assert "30 such" in second
