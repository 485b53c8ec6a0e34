"""JSON Lines hold any text, and a faulty line is named."""

import json
from contextlib import suppress

import pytest
from exports import lines, refused, refused_whole, task, written
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils.corpus.formats import read_corpus
from nbutils.corpus.formats.jsonl import jsonl_document
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


# --- JSON of any shape, for every format that is JSON ----------------------------------------------------------------

SOUND = {
    "jsonl": {"id": "1", "text": "発熱", "meta": {"case": "c"}, "entities": [
        {"start": 0, "end": 2, "label": "d", "certainty": "positive", "attributes": {"a": "b"}, "score": 0.5,
         "text": "発熱"}]},
    "doccano": {"id": 1, "text": "発熱", "relations": [], "entities": [
        {"id": 1, "label": "d", "start_offset": 0, "end_offset": 2}], "meta": {"case": "c"}},
    "labelstudio": [task("発熱", (0, 2, "発熱"), drafts=[{"result": []}])],
}  # fmt: skip
SOUND["labelstudio"][0]["annotations"][0]["result"] += [
    {"id": "r0", "type": "choices", "from_name": "certainty", "value": {"choices": ["negative"]}},
    {"id": "r1", "type": "hypertextlabels", "value": {"start": "/p", "globalOffsets": {"start": 0, "end": 1}}},
]
ANYTHING = st.sampled_from(
    [None, True, 7, -1, 2.5, 10**30, float("nan"), "", "x", "\ud800", [], {}, [1], {"a": 1}, [[]]]
)


@st.composite
def damaged(draw, value):
    """The value with one part of it, anywhere, exchanged for anything or taken out."""
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 3)) == 0:
        return draw(ANYTHING)
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key = draw(st.sampled_from(keys))
    changed = value.copy()
    if draw(st.integers(0, 4)) == 0:
        del changed[key]
    else:
        changed[key] = draw(damaged(value[key]))
    return changed


@pytest.mark.parametrize("format", SOUND)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_file_damaged_anywhere_is_read_or_refused_in_a_sentence(tmp_path_factory, format, data):
    content = json.dumps(data.draw(damaged(SOUND[format])))
    with suppress(DataError):
        read_corpus(written(tmp_path_factory.mktemp("any"), "a.json", content), format, unannotated=True)


def test_a_line_alone_gives_a_sentence_that_quotes_nothing():
    with pytest.raises(DataError) as caught:
        jsonl_document('{"id": "田中", "text": "秘密", "秘密": 1}', "line 1")
    assert "田中" not in str(caught.value) and "秘密" not in str(caught.value)
