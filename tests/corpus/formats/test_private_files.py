"""No sentence about the files of a private corpus quotes them, or names them by anything that they are called."""

import stat

import pytest
from exports import brat, lines, medtxt, task, written

from nbutils import privacy
from nbutils.corpus import Corpus, Document, Entity
from nbutils.corpus.formats import FORMATS, read_corpus, write_corpus
from nbutils.files import DataError

SECRET = "田中太郎"  # whatever it is: a word of the note, a name in the wrong column, an id, a file's name
ROW = {"id": SECRET, "text": f"{SECRET}は肺癌", "label": [[0, 4, SECRET]]}

FAULTY = {
    "a label that is no label": ("conll", f"-DOCSTART-\n肺癌 {SECRET}\n咳 B-d\n", {"join": "none"}),
    "columns swapped": ("conll", f"-DOCSTART-\nB-d\t{SECRET}は肺癌\n", {"join": "none"}),
    "an I that begins": ("conll", f"-DOCSTART-\n肺癌 I-{SECRET}\n", {"join": "none"}),
    "text in angle brackets": ("medtxt", medtxt(f"<{SECRET}>は肺癌</{SECRET}>"), {}),
    "a certainty that is text": ("medtxt", medtxt(f'<d certainty="{SECRET}">肺癌</d>'), {}),
    "an article's id": ("medtxt", medtxt("<x>肺癌</x>").replace('id="1"', f'id="{SECRET}"'), {}),
    "outside an article": ("medtxt", f"<root><{SECRET}>肺癌</{SECRET}></root>", {}),
    "metadata twice": ("medtxt", f"<root><metadata><{SECRET}/><{SECRET}/></metadata></root>", {}),
    "a key that is text": ("jsonl", lines({"id": "1", "text": "x", SECRET: 1}), {}),
    "a key of an entity": ("jsonl", lines({"id": "1", "text": "x", "entities": [{SECRET: 1}]}), {}),
    "a key twice": ("jsonl", f'{{"{SECRET}": 1, "{SECRET}": 2}}', {}),
    "an id twice": ("jsonl", lines({"id": SECRET, "text": "x"}, {"id": SECRET, "text": "y"}), {}),
    "a quote that does not fit": (
        "jsonl",
        lines({"id": "1", "text": "肺癌", "entities": [{"start": 0, "end": 2, "text": SECRET}]}),
        {},
    ),
    "types that are not named": ("doccano", lines(ROW), {"labels_as": {"d": "d"}}),
    "no JSON": ("doccano", SECRET, {}),
    "a task without text": ("labelstudio", [{"data": {SECRET: SECRET}}], {}),
    "a task that quotes another text": ("labelstudio", [task(f"{SECRET}は肺癌", (5, 7, SECRET))], {}),
    "tags that are text": ("jmed", f"tag,question,answer\n{SECRET},「{SECRET}」,['{SECRET}']\n", {}),
    "strings that do not occur": ("jmed", f"tag,question,answer\nd,「肺癌」,['{SECRET}']\n", {}),
    "another encoding": ("jsonl", SECRET.encode("cp932"), {}),
    "nothing": ("jsonl", "", {}),
}


@pytest.mark.parametrize("name", FAULTY)
@pytest.mark.parametrize("in_folder", [False, True])
def test_a_faulty_private_file_is_neither_quoted_nor_named(tmp_path, name, in_folder):
    format, content, how = FAULTY[name]
    (tmp_path / "notes").mkdir()
    path = written(tmp_path / "notes", f"{SECRET}{FORMATS[format].suffix}", content)
    with pytest.raises(DataError) as caught:
        read_corpus(path.parent if in_folder else path, format, "MINE", private=True, **how)
    said = str(caught.value)
    assert SECRET not in said and said.startswith('corpus "MINE"') and ";" in said
    assert not in_folder or "file 1 of 1 by name" in said or name.startswith("types")


@pytest.mark.parametrize(
    "ann",
    [
        "T1\td 0 3\t肺癌\n",
        f"T1\td 0 2;4 5\t{SECRET}\n",
        f"{SECRET}\n",
        f"T1\td 0 4\t{SECRET}\nA1\t{SECRET} T1\nA1\tx T1\n",
    ],
)
def test_brat_files_named_after_a_patient_are_neither_quoted_nor_named(tmp_path, ann):
    folder = brat(tmp_path / "b", ann, f"{SECRET}は肺癌", name=SECRET)
    brat(folder, ann, name="stray")
    (folder / "stray.txt").rename(folder / f"{SECRET}2.txt")
    with pytest.raises(DataError) as caught:
        read_corpus(folder, "brat", "MINE", private=True)
    assert SECRET not in str(caught.value)


def test_tables_and_templates_of_a_private_corpus_are_not_quoted(tmp_path):
    folder = brat(tmp_path / "b", "T1\td 0 2\t発熱\n", name=SECRET)
    for content in (f"id,case\n{SECRET}2,x\n", f"id,case\n{SECRET},x\n{SECRET},y\n"):
        written(folder, "notes.csv", content)
        with pytest.raises(DataError) as caught:
            read_corpus(folder, "brat", "MINE", private=True, meta="notes.csv")
        assert SECRET not in str(caught.value) and 'corpus "MINE", notes.csv' in str(caught.value)
    (folder / "notes.csv").unlink()
    with pytest.raises(DataError) as caught:
        read_corpus(folder, "brat", "MINE", private=True, names="{physician}_{case}")
    assert SECRET not in str(caught.value)


def test_notices_about_a_private_corpus_count_and_do_not_name(tmp_path):
    ann = f"T1\td 0 5\t発熱と咳嗽\nT2\t{SECRET} 0 2\t発熱\nT3\td 3 4\t咳\n"
    folder = brat(tmp_path / "b", ann, name=SECRET)
    corpus = read_corpus(folder, "brat", "MINE", private=True, overlaps="longest", labels_as={"d": "d"})
    said = " ".join(corpus.notices)
    assert SECRET not in said and "left out 1 entities of the type" in said and "3–4 overlaps 0–5" in said


def test_a_person_in_jupyterlab_may_see_what_the_sentences_hide(tmp_path, monkeypatch):
    path = written(tmp_path, "a.conll", f"-DOCSTART-\n肺癌 {SECRET}\n")
    monkeypatch.setitem(privacy._State, "revealed", True)
    with pytest.raises(DataError, match=SECRET):
        read_corpus(path, "conll", private=True, join="none")


def test_a_public_corpus_is_quoted_and_named(tmp_path):
    path = written(tmp_path, "a.conll", "-DOCSTART-\n肺癌 Disease\n")
    with pytest.raises(DataError, match=r'a\.conll, line 2: the label "Disease" is not IOB2'):
        read_corpus(path, "conll", join="none")


@pytest.mark.parametrize("format", [name for name, f in FORMATS.items() if f.write])
def test_files_of_a_private_corpus_are_their_owners_alone(tmp_path, format):
    marked = () if format == "text" else (Entity(0, 2),)
    note = Document("n1", "発熱あり", marked, {"case": "c"})
    for private in (True, False):
        path = tmp_path / f"{private}{'' if FORMATS[format].folder else FORMATS[format].suffix}"
        write_corpus(Corpus("A", (note,), private=private), path, format)
        files = [p for p in (path, *path.rglob("*")) if p.is_file()]
        modes = {stat.S_IMODE(p.stat().st_mode) for p in files}
        assert files and (modes == {0o600}) is private


def test_a_fault_of_a_private_corpus_that_is_written_names_it_by_number(tmp_path):
    note = Document(SECRET, "発\n熱", (Entity(1, 3),))
    for format in ("brat", "conll", "jsonl", "medtxt"):
        with pytest.raises(DataError) as caught:
            write_corpus(Corpus("A", (note,), private=True), tmp_path / "out", format)
        assert SECRET not in str(caught.value), format
