"""The file of answers: what is wrong with it is told with its fix, and nothing that was paid is lost or paid twice."""

import os
import sqlite3
import stat
import subprocess
import sys
import time

import psutil
import pytest

from nbutils import ROOT
from nbutils.files import DataError
from nbutils.prompting import ledger, owner
from nbutils.prompting.ledger import Answers, Limit, Outcome, Taken, why_not
from nbutils.taggers.usage import Tokens


@pytest.fixture
def path(tmp_path):
    """A file with one paid answer in it."""
    answers = Answers(tmp_path / "a.sqlite", "e", "m")
    answers.ask("k", Tokens(10, 10), Limit())
    answers.settle("k", Outcome("stop", "<d>発熱</d>"), Tokens(5, 5))
    answers.close()
    return tmp_path / "a.sqlite"


def refused(path):
    with pytest.raises(DataError) as caught:
        Answers(path, "e", "m").close()
    assert "move" not in str(caught.value) and str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def test_a_file_that_another_process_holds_is_in_use_and_to_be_kept(path, monkeypatch):
    monkeypatch.setattr(ledger, "PATIENCE", 0.1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA journal_mode = DELETE")
    other.execute("BEGIN EXCLUSIVE")
    assert "holds the file of answers locked" in (told := refused(path)) and "Keep the file" in told


def test_a_write_that_waits_too_long_is_a_sentence_as_well(path, monkeypatch):
    monkeypatch.setattr(ledger, "PATIENCE", 0.1)
    answers = Answers(path, "e", "m")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DataError, match="locked"):
        answers.ask("l", Tokens(1, 1), Limit())


def sqlite_error(name, text=""):
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode, error.sqlite_errorname = getattr(sqlite3, name), name
    return error


@pytest.mark.parametrize(
    ("name", "said"),
    [("SQLITE_PROTOCOL", "no working file locks"), ("SQLITE_BUSY", "locked"), ("SQLITE_BUSY_SNAPSHOT", "locked"),
     ("SQLITE_READONLY", "may not be written"), ("SQLITE_CANTOPEN", "may not be written"),
     ("SQLITE_FULL", "disk is full"), ("SQLITE_CORRUPT", "damaged"), ("SQLITE_IOERR_WRITE", "check the disk")],
)  # fmt: skip
def test_each_trouble_of_sqlite_has_its_own_sentence_and_none_gives_the_file_up(tmp_path, name, said):
    sentence = why_not(tmp_path / "a.sqlite", sqlite_error(name))
    assert said in sentence and ("Keep" in sentence or "kept" in sentence)


def test_a_page_of_noise_is_damage_and_the_file_stays(path):
    data = bytearray(path.read_bytes())
    data[100 : len(data) // 2] = os.urandom(len(data) // 2 - 100)
    path.write_bytes(data)
    assert "damaged" in refused(path)
    assert path.read_bytes() == bytes(data)


def test_half_a_file_is_damage(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 100])
    try:
        with pytest.raises(DataError, match="damaged"):
            answers = Answers(path, "e", "m")
            answers.spent()
            answers.settled(["k"])
            answers.ask("l", Tokens(1, 1), Limit())
    finally:
        assert path.exists()


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"SQLite format 2\0" + bytes(90), b"\0" * 4096], ids=range(3))
def test_a_file_that_is_no_cache_is_not_touched(tmp_path, content):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    path.chmod(0o644)
    before = path.stat()
    assert "not a file of answers" in refused(path)
    after = path.stat()
    assert (after.st_mode, after.st_mtime_ns, path.read_bytes()) == (before.st_mode, before.st_mtime_ns, content)
    assert list(tmp_path.iterdir()) == [path]


def test_another_program_s_database_is_not_touched(tmp_path):
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE answers (question TEXT)")
    path.chmod(0o644)
    content = path.read_bytes()
    assert "not a file of answers" in refused(path)
    assert path.read_bytes() == content and stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_folder_or_a_pipe_under_the_name_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    assert "not a file of answers" in refused(tmp_path / "folder")
    assert "not a file of answers" in refused(tmp_path / "pipe")


def test_a_file_and_its_journal_are_for_their_owner_only(path):
    path.chmod(0o644)
    answers = Answers(path, "e", "m")
    answers.ask("l", Tokens(1, 1), Limit())
    files = list(path.parent.iterdir())
    assert len(files) == 3 and {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_file_of_an_earlier_version_opens_with_its_answers(tmp_path):
    with sqlite3.connect(tmp_path / "a.sqlite") as db:
        db.execute(
            "CREATE TABLE answers (key TEXT PRIMARY KEY, endpoint TEXT NOT NULL, model TEXT NOT NULL, state TEXT NOT "
            "NULL, reason TEXT, content TEXT, prompt_tokens INTEGER NOT NULL, answer_tokens INTEGER NOT NULL, "
            "lost_prompt_tokens INTEGER NOT NULL DEFAULT 0, lost_answer_tokens INTEGER NOT NULL DEFAULT 0, attempts "
            "INTEGER NOT NULL DEFAULT 0, owner TEXT, batch TEXT, changed REAL NOT NULL)"
        )
        row = "INSERT INTO answers VALUES (?, 'e', 'm', ?, NULL, ?, 7, 3, 0, 0, 1, 'host/1/1.00', ?, 0)"
        db.execute(row, ("k", "stop", "発熱", None))
        db.execute(row, ("b", "batched", None, "batch-1"))
    answers = Answers(tmp_path / "a.sqlite", "e", "m")
    assert answers.settled(["k", "b"]) == {"k": Outcome("stop", "発熱")}
    assert answers.used(["k"]) == Tokens(7, 3) and answers.under_way(["b"]) == ([], ["b"])


def test_an_answer_with_a_lone_surrogate_is_kept(path):
    answers = Answers(path, "e", "m")
    answers.ask("l", Tokens(1, 1), Limit())
    answers.settle("l", Outcome("stop", "abc \ud800 def"))
    assert answers.settled(["l"])["l"].content == "abc \ufffd def"


# --- whether the process that asked still runs -----------------------------------------------------------------------

ASKING = """
import sys, time
from nbutils.prompting.ledger import Answers, Limit
from nbutils.taggers.usage import Tokens
Answers(sys.argv[1], "e", "m").ask("l", Tokens(1, 1), Limit())
print("asked", flush=True)
time.sleep(60)
"""


def test_a_process_counts_as_running_until_it_is_gone_whatever_the_clock_says(path, monkeypatch):
    process = subprocess.Popen([sys.executable, "-c", ASKING, str(path)], env=os.environ | {"PYTHONPATH": str(ROOT)},
                               stdout=subprocess.PIPE, text=True)  # fmt: skip
    try:
        assert process.stdout.readline() == "asked\n"
        answers = Answers(path, "e", "m")
        boot, now = psutil.boot_time(), time.time()
        for step in (0, 1, -3600, 10**7):
            monkeypatch.setattr(psutil, "boot_time", lambda step=step: boot + step)
            monkeypatch.setattr(time, "time", lambda step=step: now + step)
            assert answers.under_way(["l"]) == (["l"], [])
    finally:
        process.kill()
        process.wait()
    assert answers.under_way(["l"]) == ([], ["l"])


def test_a_process_of_another_machine_counts_as_running_for_an_hour(path, monkeypatch):
    answers = Answers(path, "e", "m")
    answers.ask("l", Tokens(1, 1), Limit())
    answers.db.execute("UPDATE answers SET owner = 'v2|ward-2|boot|17|99' WHERE key = 'l'")
    assert answers.under_way(["l"]) == (["l"], [])
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + ledger.ELSEWHERE + 1)
    assert answers.under_way(["l"]) == ([], ["l"])


def test_a_number_that_another_process_got_or_another_boot_is_not_the_process_that_asked():
    mine = owner.me()
    mark, machine, boot, pid, _ = mine.split("|")
    assert owner.is_alive(mine) is True
    assert owner.is_alive("|".join([mark, machine, boot, pid, "1"])) is False
    assert owner.is_alive("|".join([mark, machine, boot + "x", pid, "1"])) is False
    assert owner.is_alive("|".join([mark, "other", boot, pid, "1"])) is None
    assert owner.is_alive("host/1/1.00") is None and owner.is_alive(None) is None


def test_what_is_under_way_is_not_asked_a_second_time(path):
    answers = Answers(path, "e", "m")
    answers.ask("l", Tokens(1, 1), Limit())
    for key in ("k", "l"):
        with pytest.raises(Taken):
            answers.ask(key, Tokens(1, 1), Limit())


SPENDING = """
import sys
from nbutils.prompting.ledger import Answers, Limit, OverBudget
from nbutils.taggers.usage import Tokens
answers = Answers(sys.argv[1], "e", "m")
for k in range(50):
    try:
        answers.ask(f"{sys.argv[2]}.{k}", Tokens(20, 10), Limit(tokens=1000))
    except OverBudget:
        break
"""


def test_several_processes_share_one_budget(path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SPENDING, str(path)]
    processes = [subprocess.Popen([*command, str(k)], env=environment) for k in range(3)]
    assert [p.wait() for p in processes] == [0, 0, 0]
    spent = Answers(path, "e", "m").spent()
    assert 970 < spent.prompt + spent.answer <= 1000


FULL = """
import resource, signal, sys
from nbutils.files import DataError
from nbutils.prompting.ledger import Answers, Limit, Outcome
from nbutils.taggers.usage import Tokens
answers = Answers(sys.argv[1], "e", "m")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
try:
    for k in range(100):
        answers.ask(str(k), Tokens(1, 1), Limit())
        answers.settle(str(k), Outcome("stop", "x" * 5_000))
except DataError as error:
    print(error)
"""


def test_a_disk_without_space_is_one_sentence_and_what_was_written_stays(path):
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], env=os.environ | {"PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert str(path) in done.stdout and "Traceback" not in done.stderr and done.stdout.count("\n") == 1
    assert Answers(path, "e", "m").settled(["k", "0"]).keys() >= {"k", "0"}
