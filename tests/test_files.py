"""Files are read within bounds, decoded strictly, written whole, and what killed processes left is swept."""

import os
import pickle
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbutils import files
from nbutils.files import DataError, Fault, Place, Remark


def test_an_empty_and_a_huge_file_are_refused(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b" \n")
    with pytest.raises(DataError, match="empty"):
        files.bytes_of(tmp_path / "a")
    assert files.bytes_of(tmp_path / "a", empty=True) == b" \n"
    monkeypatch.setattr(files, "MAX_BYTES", 1)
    with pytest.raises(DataError, match="has more than 1 bytes; split it"):
        files.bytes_of(tmp_path / "a")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "dangling link", "link to itself", "missing", "NUL"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "a"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind in ("device", "dangling link", "link to itself"):
        path.symlink_to({"device": "/dev/zero", "dangling link": "nowhere", "link to itself": path}[kind])
    elif kind == "NUL":
        path = tmp_path / "a\0b"
    with pytest.raises(DataError, match=r"pipe or a device|is a folder|cannot be opened"):
        files.text_of(path)


def test_bytes_of_another_encoding_are_placed_and_what_they_may_be_is_named(tmp_path):
    for encoding, hint in (("cp932", "cp932"), ("euc_jp", "euc_jp"), ("utf-16", "utf-16")):
        with pytest.raises(DataError) as caught:
            files.decoded("a", "咳嗽\r咳嗽".encode(encoding), "utf-8")
        assert "a, line 1, byte 1: not utf-8" in str(caught.value) and hint in str(caught.value)
    with pytest.raises(DataError, match=r"line 3, byte 2: not utf-8"):
        files.decoded("a", b"a\rb\r\nc\xff", "utf-8")


@pytest.mark.parametrize("encoding", ["no-such", "zlib", "punycode", "undefined", "idna", "raw_unicode_escape", "a\0b"])
def test_an_encoding_that_is_none_of_text_is_refused(encoding):
    with pytest.raises(DataError, match="unknown encoding"):
        files.decoded("a", b"abc", encoding)


@given(st.text())
def test_what_is_printed_obeys_no_terminal_and_fits_every_encoding(text):
    shown = files.printable(text)
    assert "\x1b" not in shown and "\n" not in shown and isinstance(shown.encode("utf-8"), bytes)
    assert str(DataError(text)) == files.printable(text, keep="\n")


def test_remarks_of_one_kind_are_one_sentence_with_their_count_and_three_places():
    remarks = [Remark(f"a.ann, line {k}", 'the label "{}" is {}', "correct it", ("病", k)) for k in range(5)]
    other = Remark("b", "empty", "")
    assert files.summarised([*remarks, other], hidden=False) == [
        'a.ann, line 0: the label "病" is 0 (5 such; also line 1, line 2, …); correct it',
        "b: empty",
    ]
    assert files.summarised(remarks[:1], hidden=True) == ['a.ann, line 0: the label "■■■" is 0; correct it']


def test_a_fault_quotes_nothing_by_itself_and_survives_a_process_border():
    fault = Fault(Place("a"), "the id {} stands in {}", "keep one", "田中", Place("line 2"))
    assert str(fault) == "a: the id ■■■ stands in line 2; keep one"
    assert pickle.loads(pickle.dumps(fault)).remark == fault.remark


def test_numbers_nesting_and_keys_of_json_are_within_bounds():
    assert files.json_of('{"a": [1, 2.5, null]}', "x", "fix") == {"a": [1, 2.5, None]}
    assert files.json_of(f"[{'9' * 5000}]", "x", "fix") == [float("inf")]
    for text, sentence in (("[" * 100_000, "too deep"), ('{"a": 1, "a": 2}', "twice"), ("{", "x, column 2: not JSON")):
        with pytest.raises(DataError, match=sentence):
            files.json_of(text, "x", "fix")


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_finished_leaves_nothing_behind(tmp_path):
    with pytest.raises(KeyboardInterrupt), files.written_whole(tmp_path / "b.txt") as file:
        file.write("half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("private", [True, False])
def test_a_private_file_is_its_owners_alone_from_the_first_byte(tmp_path, private):
    before = os.umask(0o022)
    try:
        with files.written_whole(tmp_path / "a.txt", private=private) as file:
            (beside,) = tmp_path.iterdir()
            assert stat.S_IMODE(beside.stat().st_mode) == (0o600 if private else 0o644)
            file.write("x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == (0o600 if private else 0o644)


def test_a_file_with_a_long_name_can_be_written(tmp_path):
    path = tmp_path / ("病" * 80 + ".txt")
    with files.written_whole(path) as file:
        file.write("x")
    assert path.read_text() == "x"


def test_only_what_dead_processes_left_is_swept(tmp_path):
    dead, living = (tmp_path / "deep" / files.part_of(tmp_path / name).name for name in ("a", "b"))
    dead = dead.with_name(dead.name.replace(f"-{os.getpid()}.", "-4194999."))  # beyond the largest number of a process
    dead.mkdir(parents=True)
    (dead / "own.jsonl").write_text("half a corpus")
    for path in (living, tmp_path / ".mine.part", tmp_path / "note.txt"):
        path.write_text("x")
    assert files.sweep(tmp_path) == [dead]
    assert sorted(p.name for p in tmp_path.rglob("*")) == sorted(["deep", living.name, ".mine.part", "note.txt"])


def test_parts_of_files_are_in_no_commit(tmp_path):
    from nbutils import ROOT

    assert files.part_of(tmp_path / "x").suffix == ".part"
    assert "*.part" in (ROOT / ".gitignore").read_text().split()
