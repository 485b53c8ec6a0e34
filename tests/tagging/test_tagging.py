"""A finished run tags notes: exact offsets on every kind of character, cut off or not, in shards or whole."""

import codecs
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from itertools import cycle, islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils import ROOT
from nbutils.corpus import Corpus, Document, Entity, Prediction
from nbutils.corpus.formats import read_corpus, write_corpus
from nbutils.corpus.formats.jsonl import jsonl_document, jsonl_line
from nbutils.corpus.formats.medtxt import MEDTXT_HEAD, MEDTXT_TAIL, medtxt_article, medtxt_problem
from nbutils.files import DataError
from nbutils.study.runs import write_run
from nbutils.taggers import bert, crf, lora
from nbutils.taggers.settings import BertSettings, CrfSettings, LoraSettings
from nbutils.tagging import __main__, job
from nbutils.tagging.notes import read_notes, survey
from tools import tagging_memory

TEXTS = (
    "発熱を主訴に来院した。\r\n胸水なし、咳嗽あり。\r\n",
    "発熱。\r咳嗽あり。\n\n",
    "　全角空白　発熱　と　咳嗽",
    "😀発熱👨‍👩‍👧と𩸽、咳嗽🩺",
    "か\u3099ん、ｶﾞﾝ、é\u0301、葛\U000e0100城、発熱 ㎎ ① ㌔ \u200b咳嗽",
    "発熱<d>咳嗽</d> & p<0.05 ]]> \"'\t発熱",
    "[SEP]発熱<|end|>\u2028咳嗽\x85",
)


class Finder:
    """A tagger that finds every 発熱 and 咳嗽; counts its notes, and fails in the call of its number."""

    def __init__(self, fails_in=None, error=None):
        self.calls, self.seen, self.fails_in, self.error = 0, [], fails_in, error

    def predict(self, documents):
        self.calls += 1
        if self.calls == self.fails_in:
            raise self.error
        self.seen += [d.id for d in documents]
        return [Prediction(d.id, tuple(found(d.text))) for d in documents]


def found(text):
    places = [
        (text.find(word, k), word) for word in ("発熱", "咳嗽") for k in range(len(text)) if text.startswith(word, k)
    ]
    return [Entity(k, k + 2, "d-positive" if word == "発熱" else "d-unmarked", score=0.5) for k, word in sorted(places)]


@pytest.fixture(scope="module")
def run(notes, tmp_path_factory):
    """A finished run of a CRF on the small notes."""
    folder = tmp_path_factory.mktemp("run") / "seed-0"
    crf.fit(notes, CrfSettings(iterations=15), progress=False).save(folder / "model")
    return finished(folder, "crf")


def finished(folder, kind):
    write_run(folder, {"study": "s", "system": kind, "kind": kind, "train": "A", "seed": 0})
    return folder


@pytest.fixture
def finder(monkeypatch):
    """Put a `Finder` in the place of the run's own tagger, and let a batch have four notes."""

    def use(**how):
        tagger = Finder(**how)
        monkeypatch.setattr(job, "load", lambda run: tagger)
        return tagger

    monkeypatch.setattr(job, "BATCH", 4)
    return use


def write_notes(path, texts=TEXTS):
    write_corpus(Corpus("notes", tuple(Document(f"n{k:05}", text) for k, text in enumerate(texts))), path)
    return path


def many(n):
    return [f"{k}日目、発熱{'' if k % 3 else 'と咳嗽'}あり。" for k in range(n)]


# --- offsets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".jsonl", ".xml"])
def test_offsets_are_exact_on_every_kind_of_character_and_both_files_agree(run, finder, tmp_path, suffix):
    finder()
    out = __main__.tag(run, write_notes(tmp_path / f"notes{suffix}"), tmp_path / "out", progress=False)
    tagged, xml = (read_corpus(out / f"tagged{s}", f) for s, f in ((".jsonl", "jsonl"), (".xml", "medtxt")))
    assert [d.text for d in tagged] == [d.text for d in xml] == list(TEXTS)
    assert [d.entities for d in tagged] == [d.entities for d in xml]
    assert all({d.surface(e) for e in d.entities} == {"発熱", "咳嗽"} for d in tagged)


def test_a_plain_text_file_is_a_note_to_the_last_line_end(run, finder, tmp_path):
    finder()
    (tmp_path / "notes" / "ward").mkdir(parents=True)
    for k, text in enumerate(TEXTS):
        (tmp_path / "notes" / "ward" / f"{k}.txt").write_bytes(text.encode("utf-8"))
    tagged = read_corpus(
        __main__.tag(run, tmp_path / "notes", tmp_path / "out", progress=False) / "tagged.jsonl", "jsonl"
    )
    assert {d.id: d.text for d in tagged} == {f"ward/{k}": text for k, text in enumerate(TEXTS)}


@settings(max_examples=30, deadline=None)
@given(text=st.text(min_size=1).filter(lambda t: t.strip()))
def test_any_text_comes_back_from_jsonl_and_from_xml_if_xml_is_said_to_hold_it(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("any")
    note = Document("n", text, (Entity(0, 1, "d", "positive"),))
    (folder / "n.jsonl").write_text(jsonl_line(note), encoding="utf-8")
    assert [d.text for d in read_notes(folder / "n.jsonl")] == [text]
    if medtxt_problem(note) is None:
        (folder / "n.xml").write_text(MEDTXT_HEAD + medtxt_article(note) + MEDTXT_TAIL, encoding="utf-8", newline="")
        assert [d.text for d in read_notes(folder / "n.xml")] == [text]


def test_every_trained_system_tags_as_it_did_in_memory(run, notes, micro_encoder, micro_llm, tmp_path):
    bare = write_notes(tmp_path / "notes.jsonl", [d.text for d in notes] + list(TEXTS))
    encoder = BertSettings(model=str(micro_encoder), epochs=3, learning_rate=3e-3)
    llm = LoraSettings(model=str(micro_llm), prompt="tiny_ja", epochs=1, max_length=100, train_tags=True)
    for room, how in ((crf, CrfSettings(iterations=15)), (bert, encoder), (lora, llm)):
        kind = room.__name__.rpartition(".")[2]
        tagger = room.fit(notes, how, seed=0, progress=False)
        tagger.save(tmp_path / kind / "model")
        out = __main__.tag(finished(tmp_path / kind, kind), bare, tmp_path / f"{kind}-out", progress=False)
        expected = [[e.key for e in p.entities] for p in tagger.predict(list(read_notes(bare)))]
        lines = (out / "tagged.jsonl").read_text(encoding="utf-8").strip("\n").split("\n")
        assert [[e.key for e in jsonl_document(line, "").entities] for line in lines] == expected, kind
        assert kind != "crf" or any(expected)


def test_a_language_models_cache_lives_for_one_call(micro_llm, notes):
    how = LoraSettings(model=str(micro_llm), prompt="tiny_ja", epochs=0, max_length=100)
    tagger = lora.fit(notes, how, seed=0, progress=False)
    sizes = []
    for note in notes[:4]:
        tagger.predict([note])
        sizes.append(len(tagger.tags._pieces))
    tagger.predict([notes[0]])
    assert len(tagger.tags._pieces) == sizes[0]


def test_a_notebook_in_a_folder_of_its_own_needs_two_lines(run, finder, tmp_path, monkeypatch):
    finder()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, "ROOT", ROOT)
    out = __main__.tag(run, "data/pn/phys-01.xml", tmp_path / "out", progress=False)
    assert len(read_corpus(out / "tagged.xml")) == 10


# --- what cannot be read or written ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["発熱\x0c改頁", "発熱\x00", "発熱\ufffe", "発熱\ud83d"])
def test_what_xml_cannot_hold_goes_to_jsonl_alone_with_one_sentence(run, finder, tmp_path, capsys, text):
    finder()
    out = __main__.tag(run, write_notes(tmp_path / "notes.jsonl", [TEXTS[0], text]), tmp_path / "out", progress=False)
    said = capsys.readouterr().out
    assert f"XML cannot hold the character U+{ord(text[2]):04X}" in said and '"n00001"' in said
    assert not (out / "tagged.xml").exists()
    assert [d.text for d in read_corpus(out / "tagged.jsonl", "jsonl")] == [TEXTS[0], text]


def test_an_empty_note_is_tagged_with_nothing(run, finder, tmp_path, capsys):
    finder()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("")
    (tmp_path / "notes" / "b.txt").write_text("発熱", encoding="utf-8")
    out = __main__.tag(run, tmp_path / "notes", tmp_path / "out", progress=False)
    assert [len(d.entities) for d in read_corpus(out / "tagged.jsonl", "jsonl")] == [0, 1]
    assert 'tagged.xml was not written: document "a"' in capsys.readouterr().out


def test_a_types_name_that_is_no_medtxt_tag_goes_to_jsonl_alone(tmp_path, notes, capsys):
    diseases = [Document(d.id, d.text, tuple(Entity(e.start, e.end, "disease") for e in d.entities)) for d in notes]
    crf.fit(diseases, CrfSettings(labels=("disease",), iterations=15), progress=False).save(tmp_path / "r" / "model")
    out = __main__.tag(
        finished(tmp_path / "r", "crf"), write_notes(tmp_path / "n.xml"), tmp_path / "out", progress=False
    )
    assert '"disease" is no MedTxt tag' in capsys.readouterr().out and not (out / "tagged.xml").exists()


@pytest.mark.parametrize("encoding", ["cp932", "euc_jp", "utf-16-le", "utf-16"])
def test_an_encoding_that_is_named_is_read(tmp_path, encoding):
    (tmp_path / "n.txt").write_bytes("発熱①".encode("utf-16" if encoding == "utf-16" else encoding, "replace"))
    (note,) = read_notes(tmp_path / "n.txt", encoding)
    assert note.text.startswith("発熱")


@pytest.mark.parametrize(
    ("data", "encoding", "sentence"),
    [
        ("発熱①".encode("cp932"), None, "line 1, byte 1: not utf-8; state the true encoding"),
        ("発熱".encode("utf-16"), None, "begins with the byte-order mark of UTF-16, but is read as utf-8"),
        ("発熱".encode("utf-32"), None, "byte-order mark of UTF-32"),
        (codecs.BOM_UTF8 + "発熱".encode(), "cp932", "byte-order mark of UTF-8, but is read as cp932"),
        ("発熱".encode("utf-16-le"), "utf-16", "name utf-16-le or utf-16-be"),
        ("発熱".encode(), "utf-eight", 'unknown encoding "utf-eight"'),
    ],
)
@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
def test_an_encoding_is_never_guessed(tmp_path, data, encoding, sentence, suffix):
    (tmp_path / f"n{suffix}").write_bytes(data)
    with pytest.raises(DataError) as caught:
        list(read_notes(tmp_path / f"n{suffix}", encoding))
    said = str(caught.value)
    assert str(tmp_path) in said and "発" not in said
    assert sentence in said or (suffix == ".jsonl" and ("line by line in utf-16" in said or "line 1" in said))


def test_a_byte_order_mark_is_reported_and_is_no_part_of_the_note(run, finder, tmp_path, capsys):
    finder()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_bytes(codecs.BOM_UTF8 + "発熱".encode())
    out = __main__.tag(run, tmp_path / "notes", tmp_path / "out", progress=False)
    (note,) = read_corpus(out / "tagged.jsonl", "jsonl")
    assert note.text == "発熱" and note.entities[0].start == 0
    assert "begin with a byte-order mark: 1 (the first: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "there is no note in it"),
        ({"a.docx": "x"}, "a.docx: neither .txt, .jsonl nor .xml"),
        ({"a.txt": "発熱", "a.TXT": "咳嗽"}, "notes 1 and 2, counted in"),
        ({"a.jsonl": '{"id": "1", "text": "発熱"}\n{"id": "1", "text": "咳嗽"}\n'}, "notes 1 and 2, counted in"),
        ({"a.jsonl": '{"id": "1", "text": "発熱"}\n{"id": "2"}\n'}, "a.jsonl, line 2: an object with"),
        ({"a.jsonl": '{"id": "1", "text": "発熱"'}, "line 1, column"),
        ({"a.xml": "<root><articles>発熱</articles></root>"}, "text outside an article"),
    ],
)
def test_faulty_notes_are_refused_before_anything_is_written_and_are_not_quoted(
    run, finder, tmp_path, capsys, files, sentence
):
    tagger = finder()
    (tmp_path / "notes").mkdir()
    for name, text in files.items():
        (tmp_path / "notes" / name).write_text(text, encoding="utf-8")
    where = ["--run", str(run), "--notes", str(tmp_path / "notes"), "--out", str(tmp_path / "out")]
    assert __main__.main(where) == 1
    said = capsys.readouterr()
    assert sentence in said.err and said.err.count("\n") == 1 and said.out == "" and "発" not in said.err
    assert not (tmp_path / "out").exists() and not tagger.calls


@pytest.mark.parametrize("what", ["--run", "--notes"])
def test_a_run_or_notes_that_are_not_there_are_named(run, tmp_path, capsys, what):
    where = {"--run": str(run), "--notes": str(write_notes(tmp_path / "n.jsonl"))} | {what: str(tmp_path / "nowhere")}
    assert __main__.main([*sum(where.items(), ()), "--out", str(tmp_path / "out")]) == 1
    assert str(tmp_path / "nowhere") in capsys.readouterr().err


def test_a_run_without_a_model_is_refused(tmp_path):
    with pytest.raises(DataError, match="no model to tag with"):
        __main__.load_tagger(finished(tmp_path / "r", "crf"))


def test_results_of_other_notes_are_not_overwritten(run, finder, tmp_path):
    finder()
    out = __main__.tag(run, write_notes(tmp_path / "a.jsonl"), tmp_path / "out", progress=False)
    with pytest.raises(DataError, match="holds what another run or other notes gave"):
        __main__.tag(run, write_notes(tmp_path / "b.jsonl", ["胸痛"]), out, progress=False)


def test_the_output_may_not_lie_among_the_notes(run, tmp_path):
    write_notes(tmp_path / "a.jsonl")
    with pytest.raises(DataError, match="lies inside the folder of notes"):
        __main__.prepare(run, tmp_path, tmp_path / "out")


def test_no_error_or_record_quotes_a_note(run, finder, tmp_path, capsys):
    finder(fails_in=1, error=ValueError(f"cannot tag {TEXTS[0]}"))
    where = ["--run", str(run), "--notes", str(write_notes(tmp_path / "n.jsonl")), "--out", str(tmp_path / "out")]
    assert __main__.main(where) == 1
    said = capsys.readouterr()
    assert 'notes "n00000" to "n00003": the tagger failed (ValueError in test_tagging.py' in said.err
    finder()
    assert __main__.main(where) == 0
    said = said.err + capsys.readouterr().out + (tmp_path / "out" / "tagging.json").read_text(encoding="utf-8")
    assert not any(word in said for word in ("発熱", "咳嗽", "主訴"))


# --- cut off, in shards, in numbers ----------------------------------------------------------------------------------


def files_of(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.fixture
def whole(run, finder, tmp_path):
    """Fourteen notes and what an uninterrupted run makes of them."""
    finder()
    notes = write_notes(tmp_path / "notes.jsonl", many(14))
    return notes, files_of(__main__.tag(run, notes, tmp_path / "whole", progress=False))


@pytest.mark.parametrize("fails_in", [1, 2, 4])
def test_a_job_that_was_cut_off_tags_nothing_twice_and_ends_the_same(run, finder, whole, tmp_path, fails_in):
    notes, expected = whole
    first = finder(fails_in=fails_in, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        __main__.tag(run, notes, tmp_path / "out", progress=False)
    second = finder()
    assert files_of(__main__.tag(run, notes, tmp_path / "out", progress=False)) == expected
    assert first.seen + second.seen == [f"n{k:05}" for k in range(14)]


def test_wherever_the_file_was_cut_the_result_is_the_same(run, finder, whole, tmp_path):
    notes, expected = whole
    job = __main__.prepare(run, notes, tmp_path / "out")
    part, tagged = job.out / f".tagged.{job.recipe}.part", expected["tagged.jsonl"]
    for at in range(0, len(tagged) + 1, 61):
        job.out.mkdir(exist_ok=True)
        part.write_bytes(tagged[:at])
        tagger = finder()
        assert files_of(__main__.tag(run, notes, job.out, progress=False)) == expected
        whole_lines = tagged[:at].count(b"\n")
        assert len(tagger.seen) == (0 if whole_lines == 14 else 14 - whole_lines // 4 * 4)
        for file in job.out.iterdir():
            file.unlink()


def test_a_finished_job_does_nothing_and_says_so(run, finder, whole, tmp_path, capsys):
    tagger = finder()
    __main__.tag(run, whole[0], tmp_path / "whole", progress=False)
    assert not tagger.calls and "Nothing was left to tag" in capsys.readouterr().out


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_shards_in_order_are_the_whole(run, finder, whole, tmp_path, n):
    notes, expected = whole
    tagger = finder()
    for k in reversed(range(1, n + 1)):
        __main__.tag_shard(__main__.prepare(run, notes, tmp_path / "out"), k, n)
    assert files_of(__main__.merge(__main__.prepare(run, notes, tmp_path / "out"), n)) == expected
    assert sorted(tagger.seen) == [f"n{k:05}" for k in range(14)]


def test_a_shard_that_was_cut_off_goes_on(run, finder, whole, tmp_path):
    notes, expected = whole
    job = __main__.prepare(run, notes, tmp_path / "out")
    first = finder(fails_in=2, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        __main__.tag_shard(job, 2, 2)
    second = finder()
    for k in (1, 2):
        __main__.tag_shard(job, k, 2)
    __main__.merge(job, 2)
    assert files_of(job.out) == expected
    assert sorted(first.seen + second.seen) == [f"n{k:05}" for k in range(14)]


def test_nothing_of_a_job_that_was_not_gone_on_with_is_left(run, finder, whole, tmp_path):
    notes, expected = whole
    finder(fails_in=2, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        __main__.tag(run, write_notes(tmp_path / "other.jsonl", many(20)), tmp_path / "out", progress=False)
    finder()
    job = __main__.prepare(run, notes, tmp_path / "out")
    for k in (1, 2):
        __main__.tag_shard(job, k, 2)
    __main__.merge(job, 2)
    assert files_of(tmp_path / "out") == expected


def test_two_processes_do_not_tag_into_one_file(run, finder, whole, tmp_path):
    finder()
    job = __main__.prepare(run, whole[0], tmp_path / "out")
    job.out.mkdir()
    with open(job.out / f".tagged.{job.recipe}.part", "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process is tagging"):
            __main__.tag(run, whole[0], job.out, progress=False)


def test_a_missing_shard_is_named(run, finder, whole, tmp_path):
    job = __main__.prepare(run, whole[0], tmp_path / "out")
    __main__.tag_shard(job, 1, 2)
    with pytest.raises(DataError, match="shard 2 of 2 is not finished; tag it with --shard 2/2"):
        __main__.merge(job, 2)


@pytest.mark.parametrize("text", ["0/2", "3/2", "a/b", "1"])
def test_a_shard_that_is_none_is_refused(run, tmp_path, capsys, text):
    with pytest.raises(SystemExit):
        __main__.main(["--run", str(run), "--notes", str(tmp_path), "--shard", text])
    assert "write 3/8" in capsys.readouterr().err


def test_a_kill_in_the_middle_leaves_whole_batches_and_the_grid_ends_the_same(run, tmp_path):
    notes = write_notes(tmp_path / "my notes.jsonl", list(islice(cycle(many(97)), 1500)))
    command = [sys.executable, "-m", "nbutils.tagging", "--run", str(run), "--notes", str(notes), "--out"]
    process = subprocess.Popen([*command, str(tmp_path / "cut")], cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.time() + 120
    while not any(p.stat().st_size for p in (tmp_path / "cut").glob(".*.part")) and time.time() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (part,) = (tmp_path / "cut").glob(".*.part")
    assert 0 < part.read_bytes().count(b"\n") < 1500
    __main__.tag(run, notes, tmp_path / "cut", progress=False)
    grid = subprocess.run([*command, str(tmp_path / "a grid"), "--shards", "2", "--cores", "2"], cwd=ROOT,
                          capture_output=True, text=True, timeout=300)  # fmt: skip
    assert grid.returncode == 0, grid.stderr
    assert files_of(tmp_path / "a grid") == files_of(tmp_path / "cut")
    assert json.loads((tmp_path / "cut" / "tagging.json").read_text())["notes"] == 1500


def test_memory_does_not_grow_with_the_number_of_notes(run):
    texts = [f"発熱{k}" for k in range(10)]
    (_, small), (_, large) = (tagging_memory.measured(run, n, texts) for n in (1_000, 10_000))
    assert large < 1.03 * small, (small, large)


def test_shards_are_measured_side_by_side(run, capsys):
    assert tagging_memory.main([str(run), "--sizes", "64", "192"]) == 0
    *sizes, memory, shards = capsys.readouterr().out.splitlines()
    assert len(sizes) == 2 and memory.startswith("memory: ratio") and shards.startswith("2 processes:")


def test_the_survey_tells_notes_apart_by_id_text_and_order(tmp_path):
    notes = [["発熱", "咳嗽"], ["咳嗽", "発熱"], ["発熱"], ["発熱", "咳嗽 "]]
    marks = {survey(write_notes(tmp_path / f"{k}.jsonl", texts)).fingerprint for k, texts in enumerate(notes)}
    assert len(marks) == 4


# --- codes -----------------------------------------------------------------------------------------------------------


def test_names_in_a_list_of_terms_carry_their_code_and_the_others_are_counted(finder, tmp_path, run, capsys):
    finder()
    (tmp_path / "terms.csv").write_text("term,code\n発熱,R50.9\n", encoding="utf-8")
    (tmp_path / "n.txt").write_text("発熱、咳嗽、発熱", encoding="utf-8")
    where = ["--run", str(run), "--notes", str(tmp_path / "n.txt"), "--out", str(tmp_path / "out")]
    assert __main__.main([*where, "--codes", str(tmp_path / "terms.csv")]) == 0
    row = json.loads((tmp_path / "out/tagged.jsonl").read_text(encoding="utf-8"))
    assert [e.get("attributes") for e in row["entities"]] == [{"code": "R50.9"}, None, {"code": "R50.9"}]
    assert json.loads((tmp_path / "out/tagging.json").read_text())["with_code"] == 2
    assert "2 entities have a code, 1 have none" in capsys.readouterr().out
    assert __main__.main(where) == 1 and "holds what another run" in capsys.readouterr().err  # no codes: another result
    (tmp_path / "terms.csv").write_text("term\n発熱\n", encoding="utf-8")
    assert __main__.main([*where, "--codes", str(tmp_path / "terms.csv")]) == 1
    assert "no term in it has a code" in capsys.readouterr().err
