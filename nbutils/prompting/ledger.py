"""Every paid answer on disk, in one SQLite file: looked up before asking, written before anything is done with it.

It holds answers, which repeat the text of notes, so the file is for its owner only (mode 600). SQLite comes with
Python; the alternatives at hand keep pickles, which run code when read, or are no longer kept up.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_IMODE, S_ISREG
from typing import Any

from nbutils.files import DataError
from nbutils.prompting import owner
from nbutils.taggers.usage import Tokens

# Not settled: asked (under way, or lost when its process was killed), waiting (between two attempts), failed, and
# batched, which only earlier versions wrote. Settled: how the answer ended, refused, or interrupted (lost, and counted
# so by the study's owner).
OPEN = ("asked", "waiting", "failed", "batched")
ELSEWHERE = 3600.0  # seconds for which a request sent by another machine counts as under way; clocks differ by less
PATIENCE = 60.0  # seconds that a write waits for another process to finish its own
SURROGATE = re.compile("[\ud800-\udfff]")  # UTF-8 has none; json makes them of escapes like "\ud83d" alone
_MAGIC = b"SQLite format 3\0"
SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, endpoint TEXT NOT NULL, model TEXT NOT NULL, state TEXT NOT NULL, reason TEXT, content TEXT,
    prompt_tokens INTEGER NOT NULL, answer_tokens INTEGER NOT NULL,        -- at most, unless counted by the endpoint
    lost_prompt_tokens INTEGER NOT NULL DEFAULT 0, lost_answer_tokens INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0, owner TEXT, changed REAL NOT NULL, counted INTEGER
)"""


@dataclass(frozen=True)
class Outcome:
    """How asking for one note ended: `stop`, `length`, `content_filter`, `refusal`, `refused`, `empty`, `failed`, …

    The text is never shown by repr, so that no log or traceback can.
    """

    state: str
    content: str | None = field(default=None, repr=False)
    reason: str | None = None


@dataclass(frozen=True)
class Limit:
    """What may be spent on one model of one endpoint, by this file: money, tokens, or both."""

    price: Mapping[str, float] = field(default_factory=dict)
    money: float | None = None
    tokens: int | None = None

    def holds(self, spent: Tokens) -> bool:
        return (self.money is None or spent.cost(self.price) <= self.money) and (
            self.tokens is None or spent.prompt + spent.answer <= self.tokens
        )


class OverBudget(Exception):
    """The next request could pass the budget."""


class Taken(Exception):
    """The request is under way or answered already."""


def answer_key(endpoint: str, body: Mapping[str, Any], text_hash: str) -> str:
    """A hash of everything that decides an answer: endpoint, model, prompt, parameters, seed, and the note's text."""
    whole = json.dumps([endpoint, body, text_hash], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(whole.encode()).hexdigest()


class Answers:
    """The file, open; any thread may use it. Every method is one transaction, on the disk when it returns.

    Raises:
        DataError: by every method, when the file cannot be used; says why and what to do, and never to remove it.
    """

    def __init__(self, path: str | Path, endpoint: str, model: str):
        self.path, self.endpoint, self.model = Path(path), endpoint, model
        self.lock = threading.RLock()
        with self._told():
            is_new = _check_file(self.path)
            self.db = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
            try:
                self._open(is_new)
            except BaseException:
                self.db.close()
                raise

    def _open(self, is_new: bool) -> None:
        tables = {name for (name,) in self.db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        columns = {row[1] for row in self.db.execute("PRAGMA table_info(answers)")}
        if tables and not {"key", "state", "content", "owner", "lost_answer_tokens"} <= columns:
            raise DataError(_no_cache(self.path))
        for file in [] if is_new else [self.path, *_journal(self.path)]:  # a new journal gets the mode of its file
            with suppress(FileNotFoundError):  # another process has just closed the journal
                if (mode := S_IMODE(file.stat().st_mode)) & 0o077:
                    file.chmod(mode & 0o700)
        self.db.execute("PRAGMA journal_mode = WAL")  # one write to the disk a commit; wants a local disk
        self.db.execute("PRAGMA synchronous = FULL")  # kept even if the power fails
        self.db.execute(SCHEMA)
        if columns and "counted" not in columns:
            self.db.execute("ALTER TABLE answers ADD COLUMN counted INTEGER")

    def close(self) -> None:
        self.db.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What SQLite or the system says against the file, as a sentence for a person."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise DataError(why_not(self.path, error)) from None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._told(), self.lock, self.db:  # the connection commits, or rolls back what SQLite itself has not
            self.db.execute("BEGIN IMMEDIATE")
            yield self.db

    def _row(self, query: str, *values: Any) -> Any:
        """The first row of a query, or None. Locked, too: threads that share a connection share its statements."""
        with self._told(), self.lock:
            return self.db.execute(query, values).fetchone()

    def settled(self, keys: Iterable[str]) -> dict[str, Outcome]:
        """The answers that are there for good."""
        rows = ((key, self._row("SELECT state, content, reason FROM answers WHERE key = ?", key)) for key in keys)
        return {key: Outcome(*row) for key, row in rows if row and row[0] not in OPEN}

    def refused_before(self, keys: Iterable[str]) -> set[str]:
        """Keys that an earlier run gave up because the endpoint refused them."""
        query = "SELECT 1 FROM answers WHERE key = ? AND state = 'failed' AND reason LIKE 'refused%'"
        return {key for key in keys if self._row(query, key)}

    def under_way(self, keys: Iterable[str]) -> tuple[list[str], list[str]]:
        """Keys asked by a process that still runs (another one, in parallel), and by one that is gone.

        Whether a process of another machine still runs cannot be seen: it counts as running for `ELSEWHERE` seconds
        after it sent its request, since taking it for dead may pay twice.
        """
        alive, lost = [], []
        for key in keys:
            row = self._row("SELECT owner, changed, state FROM answers WHERE key = ? "
                            "AND state IN ('asked', 'batched')", key)  # fmt: skip
            if row:
                runs = owner.is_alive(row[0]) if row[2] == "asked" else False
                runs = abs(time.time() - row[1]) < ELSEWHERE if runs is None else runs
                (alive if runs else lost).append(key)
        return alive, lost

    def used(self, keys: Iterable[str]) -> Tokens | None:
        """The tokens of these answers, without those of attempts that failed.

        None when the endpoint did not say them of every answer: the file then holds an upper bound, which is no count.
        """
        query = "SELECT prompt_tokens, answer_tokens, counted FROM answers WHERE key = ?"
        rows = [row for key in keys if (row := self._row(query, key))]
        if any(row[2] == 0 for row in rows):
            return None
        return sum((Tokens(*row[:2]) for row in rows), Tokens())

    def spent(self) -> Tokens:
        """All tokens that this file has paid, may have paid, or is about to pay to this model of this endpoint."""
        row = self._row(
            "SELECT sum(prompt_tokens + lost_prompt_tokens), sum(answer_tokens + lost_answer_tokens) FROM answers "
            "WHERE endpoint = ? AND model = ?",
            self.endpoint,
            self.model,
        )
        return Tokens(row[0] or 0, row[1] or 0)

    def is_counted(self) -> bool:
        """Whether what is spent is the endpoint's count; else it holds upper bounds of answers or of lost attempts."""
        query = ("SELECT 1 FROM answers WHERE endpoint = ? AND model = ? "
                 "AND (counted = 0 OR lost_prompt_tokens + lost_answer_tokens > 0)")  # fmt: skip
        return self._row(query, self.endpoint, self.model) is None

    def ask(self, key: str, at_most: Tokens, limit: Limit) -> None:
        """Note that a request is about to be sent, and hold back what it may cost at most; before it is sent.

        Raises:
            OverBudget: together with all that was spent and is held back, it could pass the limit.
            Taken: the key is asked or settled already.
        """
        with self._transaction() as db:
            row = self._row("SELECT state FROM answers WHERE key = ?", key)
            if row and row[0] not in ("waiting", "failed"):
                raise Taken(row[0])
            if not limit.holds(self.spent() + at_most):
                raise OverBudget
            db.execute(
                "INSERT INTO answers (key, endpoint, model, state, prompt_tokens, answer_tokens, attempts, owner, "
                "changed) VALUES (?, ?, ?, 'asked', ?, ?, 1, ?, ?) ON CONFLICT (key) DO UPDATE SET "
                "state = 'asked', prompt_tokens = excluded.prompt_tokens, reason = NULL, counted = NULL, "
                "answer_tokens = excluded.answer_tokens, attempts = attempts + 1, owner = excluded.owner, "
                "changed = excluded.changed",
                (key, self.endpoint, self.model, at_most.prompt, at_most.answer, owner.me(), time.time()),
            )

    def settle(self, key: str, outcome: Outcome, used: Tokens | None = None) -> None:
        """Write an answer, with the tokens that it used (None: unknown; at most as many as were held back).

        A lone surrogate becomes U+FFFD, of the same length: no UTF-8 holds it, and the rest of the answer was paid.
        """
        content = outcome.content and SURROGATE.sub("\ufffd", outcome.content)
        with self._transaction() as db:
            db.execute(
                "UPDATE answers SET state = ?, content = ?, reason = ?, changed = ?, counted = ? WHERE key = ?",
                (outcome.state, content, outcome.reason, time.time(), used is not None, key),
            )
            if used is not None:
                db.execute("UPDATE answers SET prompt_tokens = ?, answer_tokens = ? WHERE key = ?",
                           (used.prompt, used.answer, key))  # fmt: skip

    def give_up(self, key: str, state: str, reason: str | None, may_be_paid: bool) -> None:
        """End an attempt without an answer: `waiting` for the next one, or `failed`.

        What it may have cost stays counted when the server may have done the work (a time-out, a broken answer).
        """
        lost = ("lost_prompt_tokens = lost_prompt_tokens + prompt_tokens, "
                "lost_answer_tokens = lost_answer_tokens + answer_tokens, ") if may_be_paid else ""  # fmt: skip
        with self._transaction() as db:
            db.execute(
                f"UPDATE answers SET {lost}prompt_tokens = 0, answer_tokens = 0, state = ?, reason = ?, changed = ? "
                "WHERE key = ?",
                (state, reason, time.time(), key),
            )


def _check_file(path: Path) -> bool:
    """Make the file if there is none, for its owner only; whether it was made. One that is there is only looked at.

    Raises:
        DataError: what is there is no database.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        return True
    except FileExistsError:
        if not S_ISREG(path.stat().st_mode):  # a folder, a pipe, a device
            raise DataError(_no_cache(path)) from None
    with open(path, "rb") as file:
        head = file.read(len(_MAGIC))
    if head and head != _MAGIC:
        raise DataError(_damaged(path) if _journal(path) else _no_cache(path))
    return False


def _journal(path: Path) -> list[Path]:
    """What SQLite keeps beside a file while it is open."""
    return [file for end in ("-wal", "-shm") if (file := path.with_name(path.name + end)).exists()]


def _no_cache(path: Path) -> str:
    return (f"{path}: not a file of answers. It was left as it is; name another file under cache, or, if paid answers "
            "were in it, bring back a copy of it")  # fmt: skip


def _damaged(path: Path) -> str:
    return (
        f"{path}: the file of answers is damaged. Keep it, since it may still hold paid answers: bring back a copy "
        "or save what can be read with `sqlite3 FILE .recover`, and name another file under cache until then"
    )


def why_not(path: Path, error: sqlite3.Error | OSError) -> str:
    """What keeps the file of answers from being used and what to do about it; keeping the file is always part of it."""
    if isinstance(error, OSError):
        return f"{path}: {error.strerror or type(error).__name__}; correct the path under cache, or the rights to it"
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return (f"{path}: another process holds the file of answers locked (a backup, or a program that looks into "
                "it); wait until it is done and run the study again. Keep the file: it holds paid answers")  # fmt: skip
    if code == sqlite3.SQLITE_PROTOCOL or "locking protocol" in str(error):
        return (f"{path}: the disk with the file of answers has no working file locks, as many network drives; copy "
                "the file to a local disk and name that under cache. Keep it: it holds paid answers")  # fmt: skip
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(path)
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH):
        return (f"{path}: the file of answers or its folder may not be written; give yourself the right to, or copy "
                "the file to where you have it and name that under cache. Keep it: it holds paid answers")  # fmt: skip
    if code == sqlite3.SQLITE_FULL:
        return f"{path}: the disk is full; free some space and run the study again. What is answered is kept"
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return (f"{path}: the file of answers cannot be read or written ({name}); check the disk and the space on it, and "
            "run the study again. Keep the file: it holds paid answers")  # fmt: skip
