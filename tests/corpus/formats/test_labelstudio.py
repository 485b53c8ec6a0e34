"""Label Studio's exports are read as meant, or one sentence says which task is not."""

import pytest
from exports import refused, refused_whole, surfaces, task, written

from nbutils.corpus import Entity
from nbutils.corpus.formats import read_corpus


def test_a_label_studio_task_is_read_with_its_choices_and_facts(tmp_path):
    one = task("発熱なし", (0, 2, "発熱"))
    one["annotations"][0]["result"] += [
        {"id": "r0", "type": "choices", "from_name": "certainty", "value": {"choices": ["negative"]}},
        {"type": "relation", "from_id": "r0", "to_id": "r0"},
    ]  # fmt: skip
    one["annotations"].append({"result": [], "was_cancelled": True})
    corpus = read_corpus(written(tmp_path, "a.json", [one]), "labelstudio")
    assert corpus.documents[0].entities == (Entity(0, 2, "d", "negative"),)
    assert corpus.documents[0].meta == {"case": "c1"} and '1 results of the type "relation"' in corpus.notices[0]


@pytest.mark.parametrize(
    ("tasks", "sentence"),
    [
        ([task("発熱", (0, 2, "咳嗽"))], "task 1, result 1: the file quotes another text"),
        ([task("CRP<3", (0, 5, "CRP&lt;3"))], "the quote is HTML-escaped"),
        ([task("発熱", (0, 2, None), (1, 2, None))], "task 1, result 2: 1–2 overlaps 0–2 (result 1)"),
        ([task("発熱", (1, 1, None))], "task 1, result 1: the entity 1–1 is empty"),
        ([task("発熱", (0, 3, None))], "task 1, result 1: the entity 0–3 does not lie in the text"),
        ([task("発熱", annotations=[])], "task 1: 0 finished annotations"),
        ([task("発熱", annotations=[], drafts=[{"result": []}])], "task 1: no finished annotation, only a draft"),
        ([task("発熱", annotations=[{"result": []}, {"result": []}])], "task 1: 2 finished annotations"),
        ([task("発熱", annotations=5)], "task 1: annotations must be a list of objects"),
        ([task("発熱", annotations=[{"result": 5}])], "task 1: result must be a list of objects"),
        ([task("発熱", annotations=[{"result": [5]}])], "task 1: result must be a list of objects"),
        ([{"data": {"text": "発熱"}, "completions": []}], 'task 1: the annotations are called "completions"'),
        ([{"text": "発熱", "label": []}], 'task 1: there is no string "text" under "data"'),
        ([task("発熱", (0, 2, None)), task("咳嗽", (0, 2, None))], 'task 2: the id "1" stands already in'),
        ([task("発熱", (0, 2, None), id=[])], 'task 1: "id" must be a number or a string'),
        ({"data": {}}, "a list of tasks is needed"),
        ("[{", "line 1, column"),
    ],
)
def test_a_faulty_label_studio_export_gives_the_task_and_fix(tmp_path, tasks, sentence):
    assert sentence in refused(written(tmp_path, "a.json", tasks), "labelstudio")


@pytest.mark.parametrize("choices", [7, None, "negative", ["a", "b"], [{}]])
def test_choices_of_any_shape_do_not_stop_the_reading(tmp_path, choices):
    one = task("発熱なし", (0, 2, "発熱"))
    one["annotations"][0]["result"].append({"id": "r0", "type": "choices", "value": {"choices": choices}})
    assert surfaces(read_corpus(written(tmp_path, "a.json", [one]), "labelstudio")) == ["発熱"]


def test_tasks_that_nobody_finished_are_counted(tmp_path):
    tasks = [task("発熱", (0, 2, None)), *(task("咳嗽", id=k, annotations=[], drafts=[{}]) for k in range(2, 6))]
    sentence = refused(written(tmp_path, "a.json", tasks), "labelstudio")
    assert "task 2: no finished annotation, only a draft (4 such; also task 3, task 4, …)" in sentence


# --- spans of other tags than <Text> ---------------------------------------------------------------------------------


def test_spans_of_hypertext_are_read_where_the_quoted_text_proves_them(tmp_path):
    path = written(tmp_path, "a.json", [task("発熱と咳嗽", (0, 2, "発熱"), kind="hypertextlabels")])
    assert surfaces(read_corpus(path, "labelstudio", labels_as={"d": "d"})) == ["発熱"]
    one = task("発熱と咳嗽", ("/p[1]/text()[1]", "/p[1]/text()[1]", "咳嗽"), kind="hypertextlabels")
    one["annotations"][0]["result"][0]["value"] |= {"globalOffsets": {"start": 3, "end": 5}, "startOffset": 3}
    assert surfaces(read_corpus(written(tmp_path, "a.json", [one]), "labelstudio")) == ["咳嗽"]


@pytest.mark.parametrize(
    ("span", "kind"),
    [
        ((0, 2, None), "hypertextlabels"),
        ((1, 3, "発熱"), "hypertextlabels"),
        (("/p[1]", "/p[1]", "発熱"), "hypertextlabels"),
        (("0", "0", "発熱"), "paragraphlabels"),
    ],
)
def test_spans_whose_offsets_count_markup_are_refused(tmp_path, span, kind):
    sentence = refused(written(tmp_path, "a.json", [task("発熱と咳嗽", span, kind=kind)]), "labelstudio")
    assert "are not read, since their offsets count markup; annotate with <Text" in sentence


def test_every_faulty_task_is_told_at_once(tmp_path):
    tasks = [task("発熱", (0, 9, None), id=k) for k in range(3)] + [{"data": {"text": "x"}, "completions": []}]
    sentences = refused_whole(written(tmp_path, "a.json", tasks), "labelstudio")
    assert "(3 such; also task 2, result 1, task 3, result 1)" in sentences and "completions" in sentences
