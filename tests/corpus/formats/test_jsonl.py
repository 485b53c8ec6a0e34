"""JSON Lines hold any text, and a faulty line is named."""

import json

import pytest
from exports import lines, refused, refused_whole, written
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils.corpus.formats import jsonl_document, read_corpus
from nbutils.files import DataError


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("{", "column 2: not JSON"),
        ('{"id": "1"}', '"text"'),
        ('{"id": "1", "text": "ab", "entities": [{"start": 1, "end": 1}]}', "entity 1: the entity 1–1 is empty"),
        ('{"id": "1", "text": "ab", "entities": [{"start": 0, "end": 3}]}', "does not lie in the text (0–2)"),
        ('{"id": "1", "text": "ab", "entities": [{"start": 0, "end": 2}, {"start": 1, "end": 2}]}', "overlap"),
        ('{"id": "1", "text": "ab", "entities": [{"start": "0", "end": 2}]}', "whole numbers"),
        ('{"id": "1", "text": "ab", "entities": [{"start": 0, "end": %s}]}' % ("9" * 5000), "whole numbers"),
        ('{"id": "1", "text": "ab", "entities": [{"start": 0, "end": 2, "text": "cd"}]}', "quotes another text"),
        ('{"id": "1", "text": "ab", "entities": [{"start": 0, "end": 2, "text": 5}]}', "must be a string"),
        ('{"id": "1", "text": "ab", "entities": 5}', "must be a list of objects"),
        ('{"id": "1", "text": "ab", "meta": {"a": 1}}', "whose values are strings"),
        ('{"id": "1", "text": "ab", "note": 1}', 'unknown key "note"'),
        ('{"id": "0", "text": "ab"}', 'the id "0" stands already in'),
    ],
)
def test_a_faulty_json_line_gives_its_number_and_fix(tmp_path, row, sentence):
    good = json.dumps({"id": "0", "text": "x", "entities": [{"start": 0, "end": 1}]})
    path = written(tmp_path, "a.jsonl", f"{good}\n{row}\n")
    message = refused(path, "jsonl").removeprefix(str(path))
    assert message.startswith(", line 2") and sentence in message


def test_every_faulty_entity_is_told_at_once(tmp_path):
    row = {"id": "1", "text": "ab", "entities": [{"start": 0, "end": 9}, {"start": 1, "end": 9}, {"start": 0}]}
    sentences = refused_whole(written(tmp_path, "a.jsonl", lines(row)), "jsonl")
    assert "(2 such; also line 1, entity 2)" in sentences and "entity 3: every entity needs" in sentences


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), lambda inner:
       st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
           ["id", "text", "entities", "meta", "start", "end", "label", "attributes", "score", "certainty", "data",
            "annotations", "result", "value", "labels", "type", "choices", "completions", "drafts", "relations"]),
           inner, max_size=6)))  # fmt: skip
@settings(max_examples=200, deadline=None)
@pytest.mark.parametrize("format", ["jsonl", "doccano", "labelstudio"])
def test_json_of_any_shape_is_read_or_refused_in_a_sentence(tmp_path_factory, format, value):
    path = written(tmp_path_factory.mktemp("any"), "a.json", json.dumps(value))
    try:
        read_corpus(path, format, unannotated=True)
    except DataError:
        pass


def test_a_line_alone_gives_a_sentence_that_quotes_nothing():
    with pytest.raises(DataError) as caught:
        jsonl_document('{"id": "田中", "text": "秘密", "秘密": 1}', "line 1")
    assert "田中" not in str(caught.value) and "秘密" not in str(caught.value)
