"""Which formats there are, and how a file or folder of one is named."""

import os
import signal
import subprocess
import sys

import pytest
from exports import lines, written

from nbutils.corpus import Corpus, Document, Entity
from nbutils.corpus import formats as f
from nbutils.files import DataError
from nbutils.study.__main__ import main
from nbutils.study.file import load_study


def test_unknown_formats_missing_paths_and_empty_folders_are_named(tmp_path):
    for path, format, sentence in (
        (tmp_path, "word", "unknown format"),
        (tmp_path / "no", "medtxt", "no such file"),
        (tmp_path, "medtxt", "holds no .xml"),
    ):
        with pytest.raises(DataError, match=sentence):
            f.read_corpus(path, format)


def test_bare_text_is_read_to_be_tagged_but_not_to_learn_from(tmp_path):
    written(tmp_path, "n.txt", "発熱")
    plan = "corpora:\n  A: {path: data/cr}\n  N: {path: %s, format: text}\nsystems:\n  crf:\n"
    path = written(tmp_path, "s.yaml", plan % tmp_path)
    assert load_study(path).train == load_study(path).evaluate == ("A",)
    path = written(tmp_path, "s.yaml", plan % tmp_path + "evaluate: [N]\n")
    with pytest.raises(DataError, match="N is bare text"):
        load_study(path)


@pytest.mark.parametrize("private", [False, True])
def test_the_check_tells_what_was_read_and_what_was_left_out(tmp_path, capsys, private):
    row = {"text": "発熱と咳嗽あり", "label": [[0, 2, "Disease"], [3, 5, "Drug"]]}
    notes = written(tmp_path, "n.jsonl", lines(row))
    mine = f"{{path: {notes}, format: doccano, private: {str(private).lower()}, labels_as: {{Disease: d}}}}"
    path = written(
        tmp_path, "s.yaml", f"corpora:\n  A: {{path: data/cr}}\n  MINE: {mine}\nsystems:\n  crf:\ntrain: [A]\n"
    )
    assert main(["check", str(path)]) == 0
    out = capsys.readouterr().out
    assert f"MINE{' (private)' * private}: 1 notes, 1 entities" in out and "発熱" not in out
    assert f'left out 1 entities of the type "{"■■■" if private else "Drug"}"' in out


def test_a_folder_with_notes_in_it_is_never_overwritten(tmp_path):
    corpus = Corpus("a", (Document("1", "発熱", (Entity(0, 2),)),))
    f.write_corpus(corpus, tmp_path / "out", "brat")
    with pytest.raises(DataError, match="is there already"):
        f.write_corpus(corpus, tmp_path / "out", "brat")


def test_a_corpus_is_written_by_the_ending_of_the_file_in_any_case(tmp_path):
    corpus = Corpus("a", (Document("1", "発熱", (Entity(0, 2),)),))
    for name, format in (("a.xml", "medtxt"), ("b.XML", "medtxt"), ("a.jsonl", "jsonl"), ("b.JSONL", "jsonl")):
        f.write_corpus(corpus, tmp_path / name)
        assert f.read_corpus(tmp_path / name, format).documents == corpus.documents
    with pytest.raises(DataError, match="name a format"):
        f.write_corpus(corpus, tmp_path / "a.doc")


def test_what_a_killed_process_leaves_of_a_corpus_is_swept_by_the_next_start(tmp_path):
    code = (
        "import os, signal, sys; from nbutils.corpus import Corpus, Document; from nbutils.corpus import formats as f\n"
        "f._write_and_judge = lambda c, draft, *_: (draft.write_text('secret'), os.kill(os.getpid(), signal.SIGKILL))\n"
        "f.write_corpus(Corpus('a', (Document('1', 'x'),), private=True), sys.argv[1], 'jsonl')"
    )
    process = subprocess.run([sys.executable, "-c", code, str(tmp_path / "own.jsonl")], check=False)
    assert process.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.suffix == ".part" and "own" not in left.name and left.stat().st_mode & 0o777 == 0o700
    from nbutils.files import sweep

    assert sweep(tmp_path) == [left] and not os.listdir(tmp_path)
