"""doccano's exports are read as meant, or one sentence says which line is not."""

import pytest
from exports import lines, refused, refused_whole, surfaces, written

from nbutils.corpus import Entity
from nbutils.corpus.formats import read_corpus


def test_both_shapes_of_doccano_are_read_and_strings_beside_the_text_are_kept(tmp_path):
    old = {"id": 7, "text": "発熱あり", "label": [[0, 2, "D"]], "physician": "A", "Comments": []}
    new = {"id": 8, "text": "咳嗽", "entities": [{"id": 1, "label": "D", "start_offset": 0, "end_offset": 2}],
           "relations": [{"id": 1, "from_id": 1, "to_id": 1, "type": "x"}]}  # fmt: skip
    path = written(tmp_path, "a.jsonl", lines(old, new))
    first, second = (corpus := read_corpus(path, "doccano", labels_as={"D": "d"})).documents
    assert (first.id, first.entities, first.meta) == ("7", (Entity(0, 2),), {"physician": "A"})
    assert (second.id, second.entities) == ("8", (Entity(0, 2),))
    assert corpus.notices == (f"{path}: left out 1 relations",)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"text": "発熱", "label": [[0, 3, "d"]]}, "line 1, label 1: the entity 0–3 does not lie"),
        ({"text": "発熱", "label": [[0, 2, "d"], [0, 1, "d"]]}, "line 1, label 2: 0–1 overlaps 0–2 (label 1)"),
        ({"text": "発熱", "label": [["0", 2, "d"]]}, "line 1, label 1: start, end and type"),
        ({"text": "発熱", "label": [[0, 10**20, "d"]]}, "line 1, label 1: start, end and type"),
        ({"text": "発熱", "label": [[True, 2, "d"]]}, "line 1, label 1: start, end and type"),
        ({"text": "発熱", "label": 5}, "line 1: label must be a list"),
        ({"text": "発熱", "label": [5]}, "line 1, label 1: start, end and type"),
        ({"text": "発熱", "label": [], "relations": 5}, "not one entity in 1 notes"),
        ({"text": "発熱", "label": [[0, 2, "d"]], "id": {}}, 'line 1: "id" must be'),
        ({"text": "発熱"}, 'line 1: exactly one of "entities" and "label"'),
        ({"label": []}, 'line 1: an object with the string "text"'),
        ('{"text": "発熱", "text": "咳", "label": []}', 'line 1: the key "text" stands twice'),
        ("{", "line 1, column 2: not JSON"),
        ("[" * 100_000, "line 1: not JSON of this kind: brackets lie too deep"),
        (f'{{"text": "発熱", "label": [[0, {"9" * 5000}, "d"]]}}', "line 1, label 1: start, end and type"),
    ],
)
def test_a_faulty_doccano_line_gives_its_place_and_fix(tmp_path, row, sentence):
    assert sentence in refused(written(tmp_path, "a.jsonl", row), "doccano")


def test_all_faulty_lines_are_told_at_once(tmp_path):
    rows = [{"text": "発熱", "label": [[0, 9, "d"]]}] * 4 + [{"text": 1}]
    sentences = refused_whole(written(tmp_path, "a.jsonl", lines(*rows)), "doccano")
    assert (
        "line 1, label 1: the entity 0–9 does not lie in the text (0–2) (4 such; also line 2, label 1, line 3"
        in sentences
    )
    assert 'line 5: an object with the string "text"' in sentences


def test_lines_that_end_in_cr_alone_are_lines(tmp_path):
    rows = lines({"text": "発熱", "label": [[0, 2, "d"]]}, {"text": "咳嗽", "label": [[0, 2, "d"]]})
    assert surfaces(read_corpus(written(tmp_path, "a.jsonl", rows.replace("\n", "\r")), "doccano")) == ["発熱", "咳嗽"]
