"""Every paid answer on disk, in one SQLite file: looked up before asking, written before anything is done with it.

Knows keys, states and tokens. Holds answers, which repeat the text of notes: the file is for its owner only (mode 600).
SQLite comes with Python; the alternatives at hand keep pickles, which run code when read, or are no longer kept up.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from nbutils.files import DataError
from nbutils.taggers.usage import Tokens

# Not settled: asked (under way, or lost when its process was killed), waiting (between two attempts), batched, failed.
# Settled: what the model said of its own end, and interrupted (lost, and counted so by the study's owner).
OPEN = ("asked", "waiting", "batched", "failed")
SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, endpoint TEXT NOT NULL, model TEXT NOT NULL, state TEXT NOT NULL, reason TEXT, content TEXT,
    prompt_tokens INTEGER NOT NULL, answer_tokens INTEGER NOT NULL,        -- at most, while asked or batched
    lost_prompt_tokens INTEGER NOT NULL DEFAULT 0, lost_answer_tokens INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0, owner TEXT, batch TEXT, changed REAL NOT NULL
)"""


@dataclass(frozen=True)
class Outcome:
    """How asking for one note ended: `stop`, `length`, `content_filter`, `refusal`, `empty`, `failed`, …

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


def answer_key(endpoint: str, body: Mapping[str, Any], text_hash: str) -> str:
    """A hash of everything that decides an answer: endpoint, model, prompt, parameters, seed, and the note's text."""
    whole = json.dumps([endpoint, body, text_hash], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(whole.encode()).hexdigest()


class Answers:
    """The file, open; any thread may use it. Every method is one transaction, on the disk when it returns."""

    def __init__(self, path: str | Path, endpoint: str, model: str):
        self.path, self.endpoint, self.model = Path(path), endpoint, model
        self.lock = threading.RLock()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        self.path.chmod(0o600)  # SQLite gives its journal the same mode
        try:
            self.db = sqlite3.connect(self.path, timeout=60, isolation_level=None, check_same_thread=False)
            self.db.execute("PRAGMA journal_mode = WAL")  # one write to the disk a commit; wants a local disk
            self.db.execute("PRAGMA synchronous = FULL")  # kept even if the power fails
            self.db.execute(SCHEMA)
        except sqlite3.DatabaseError:
            raise DataError(f"{path}: not a file of answers; move it away or name another one under cache") from None

    def close(self) -> None:
        self.db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self.lock:
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield self.db
            except BaseException:
                self.db.execute("ROLLBACK")
                raise
            self.db.execute("COMMIT")

    def _row(self, query: str, *values: Any) -> Any:
        """The first row of a query, or None. Locked, too: threads that share a connection share its statements."""
        with self.lock:
            return self.db.execute(query, values).fetchone()

    def settled(self, keys: Iterable[str]) -> dict[str, Outcome]:
        """The answers that are there for good."""
        found = {}
        for key in keys:
            row = self._row("SELECT state, content, reason FROM answers WHERE key = ?", key)
            if row and row[0] not in OPEN:
                found[key] = Outcome(*row)
        return found

    def under_way(self, keys: Iterable[str]) -> tuple[list[str], list[str]]:
        """Keys asked by a process that still runs (another one, in parallel), and by one that is gone."""
        alive, lost = [], []
        for key in keys:
            row = self._row("SELECT owner FROM answers WHERE key = ? AND state = 'asked'", key)
            if row:
                (alive if _is_alive(row[0]) else lost).append(key)
        return alive, lost

    def batched(self, keys: Iterable[str]) -> dict[str, str]:
        """Keys that were handed in as part of a batch and not collected yet, each with the batch's id."""
        rows = ((k, self._row("SELECT batch FROM answers WHERE key = ? AND state = 'batched'", k)) for k in keys)
        return {key: row[0] for key, row in rows if row}

    def used(self, keys: Iterable[str]) -> Tokens:
        """The tokens of these answers, without those of attempts that failed."""
        query = "SELECT prompt_tokens, answer_tokens FROM answers WHERE key = ?"
        rows = (self._row(query, key) for key in keys)
        return sum((Tokens(*row) for row in rows if row), Tokens())

    def spent(self) -> Tokens:
        """All tokens that this file has paid, may have paid, or is about to pay to this model of this endpoint."""
        row = self._row(
            "SELECT sum(prompt_tokens + lost_prompt_tokens), sum(answer_tokens + lost_answer_tokens) FROM answers "
            "WHERE endpoint = ? AND model = ?",
            self.endpoint,
            self.model,
        )
        return Tokens(row[0] or 0, row[1] or 0)

    def ask(self, key: str, at_most: Tokens, limit: Limit, *, state: str = "asked", batch: str | None = None) -> None:
        """Note that a request is about to be sent, and hold back what it may cost at most; before it is sent.

        Raises:
            OverBudget: together with all that was spent and is held back, it could pass the limit.
            ValueError: the key is asked, batched or settled already.
        """
        with self._transaction() as db:
            row = self._row("SELECT state FROM answers WHERE key = ?", key)
            if row and row[0] not in ("waiting", "failed"):
                raise ValueError(f"this request is {row[0]} already")
            if not limit.holds(self.spent() + at_most):
                raise OverBudget
            db.execute(
                "INSERT INTO answers (key, endpoint, model, state, prompt_tokens, answer_tokens, attempts, owner, "
                "batch, changed) VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
                "state = excluded.state, prompt_tokens = excluded.prompt_tokens, reason = NULL, "
                "answer_tokens = excluded.answer_tokens, attempts = attempts + 1, owner = excluded.owner, "
                "batch = excluded.batch, changed = excluded.changed",
                (key, self.endpoint, self.model, state, at_most.prompt, at_most.answer, _me(os.getpid()), batch,
                 time.time()),
            )  # fmt: skip

    def settle(self, key: str, outcome: Outcome, used: Tokens | None = None) -> None:
        """Write an answer, with the tokens that it used (None: as many as were held back)."""
        with self._transaction() as db:
            db.execute(
                "UPDATE answers SET state = ?, content = ?, reason = ?, changed = ? WHERE key = ?",
                (outcome.state, outcome.content, outcome.reason, time.time(), key),
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

    def name_batch(self, keys: Iterable[str], batch: str) -> None:
        with self._transaction() as db:
            db.executemany("UPDATE answers SET batch = ? WHERE key = ?", [(batch, key) for key in keys])


@cache
def _me(pid: int) -> str:
    process = psutil.Process(pid)
    return f"{os.uname().nodename}/{process.pid}/{process.create_time():.2f}"


def _is_alive(owner: str | None) -> bool:
    """Whether the process that asked still runs; one on another machine counts as gone."""
    node, pid, created = (owner or "//").rsplit("/", 2)
    try:
        return node == os.uname().nodename and f"{psutil.Process(int(pid)).create_time():.2f}" == created
    except (psutil.Error, ValueError):
        return False
