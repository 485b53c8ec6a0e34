"""JMED-LLM's strings are projected onto their documents, and files of another shape are refused."""

import csv

import pytest
from conftest import JMED, needs_jmed
from exports import refused, written

from nbutils.corpus import lines
from nbutils.corpus.formats import read_corpus
from nbutils.corpus.formats.jmed import project_strings

ROWS = "tag,question,answer\nd,「発熱あり」,['発熱']\nm-key,「発熱あり」,[]\n"


@pytest.mark.parametrize("answer", ["__import__('os').system('touch owned')", "[1]", "['肺癌'", "['胃癌']", "['　']"])
def test_an_answer_that_is_no_list_of_strings_of_the_text_is_refused_and_never_run(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    with open(tmp_path / "x.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["tag", "question", "answer"], ["d", "「肺癌」", answer]])
    assert "line 2" in refused(tmp_path / "x.csv", "jmed")
    assert not (tmp_path / "owned").exists()


def test_the_longest_string_is_marked_first_and_every_occurrence():
    entities = project_strings("肺癌と右肺癌と肺癌", ["肺癌", "右肺癌"])
    assert [(e.start, e.end) for e in entities] == [(0, 2), (3, 6), (7, 9)]


def test_entities_are_positive_and_rows_that_ask_for_something_else_are_counted(tmp_path):
    corpus = read_corpus(written(tmp_path, "n.csv", ROWS), "jmed")
    assert [(*e.key, e.certainty) for e in corpus.documents[0].entities] == [(0, 2, "d", "positive")] and corpus.silver
    assert '1 rows with the tag "m-key"' in corpus.notices[0]


def test_a_file_without_disease_rows_names_the_tags_that_it_has(tmp_path):
    path = written(tmp_path, "n.csv", ROWS.replace("d,「", "a,「"))
    assert 'no row has the tag "d", which marks disease names; the tags here: a (1), m-key (1)' in refused(path, "jmed")


def test_a_csv_with_line_ends_of_the_old_mac_is_read(tmp_path):
    assert len(read_corpus(written(tmp_path, "n.csv", ROWS.replace("\n", "\r")), "jmed")) == 1


@needs_jmed
def test_real_case_reports_give_the_known_numbers_of_silver_spans():
    corpus = read_corpus(JMED / "CRNER.csv", "jmed")
    n_lines = sum(len(lines(d.text)) for d in corpus)
    assert (len(corpus), sum(len(d.entities) for d in corpus), n_lines, corpus.silver) == (147, 1986, 1907, True)
