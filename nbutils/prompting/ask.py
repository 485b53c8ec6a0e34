"""Asking an endpoint for many answers: concurrently, within a budget, and every one of them exactly once.

Each request goes through the file of answers: noted before it is sent, settled before it is used. Knows requests and
outcomes. Knows nothing of prompts and tags.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.to_thread
from anyio.from_thread import start_blocking_portal
from tqdm.auto import tqdm

from nbutils import ROOT
from nbutils.files import DataError
from nbutils.prompting import guard
from nbutils.prompting.endpoint import Attempt, Endpoint
from nbutils.prompting.ledger import Answers, Limit, Outcome, OverBudget
from nbutils.taggers.settings import IclSettings
from nbutils.taggers.usage import Tokens

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0  # seconds between attempts, doubled each time, with jitter
LONGEST_RETRY_AFTER = 600.0  # seconds; a server that asks for more gets no further attempt in this run
FAILURES_IN_A_ROW = 10  # notes that used up all attempts; then the endpoint is taken to be down


@dataclass(frozen=True)
class Request:
    """One question: the body of a chat completion, and whose text is in it. repr shows no text."""

    key: str
    body: dict[str, Any] = field(repr=False)
    at_most: Tokens
    private_corpora: tuple[str, ...] = ()


def ask_all(requests: Sequence[Request], settings: IclSettings, *, progress: bool = True) -> list[Outcome]:
    """The outcome of every request, in their order; what the file of answers has is not asked again.

    Raises:
        DataError: text may not go there; the endpoint refuses (400, 401, 403, 404, …) or is down; the budget does not
            suffice; or requests were under way when an earlier run was killed. What was answered until then is kept.
    """
    for private in {r.private_corpora for r in requests}:
        guard.allow(settings.endpoint, settings, private)
    if settings.dry_run:
        raise DataError(f"dry run, nothing was sent: {price_sentence(requests, settings)}")
    with start_blocking_portal() as portal:  # a loop of its own: a notebook's loop is running already
        return portal.call(_ask_all, requests, settings, progress)


def tokens_of(requests: Iterable[Request], settings: IclSettings) -> Tokens:
    """The tokens that these requests and their answers had, whenever they were asked."""
    with closing(open_answers(settings)) as answers:
        return answers.used({r.key for r in requests})


def open_answers(settings: IclSettings) -> Answers:
    return Answers(ROOT / settings.cache, settings.endpoint, settings.model)


def limit_of(settings: IclSettings) -> Limit:
    return Limit(settings.price, settings.budget, settings.budget_tokens)


def price_sentence(requests: Sequence[Request], settings: IclSettings) -> str:
    """What these requests would cost at most, without those that are answered already."""
    with closing(open_answers(settings)) as answers:
        done = answers.settled(r.key for r in requests)
    new = {r.key: r.at_most for r in requests if r.key not in done}
    total = sum(new.values(), Tokens())
    money = f", at most {total.cost(settings.price):.2f}" if settings.price else ""
    return (
        f"{len(new)} of {len(requests)} requests to {settings.model} are not answered yet; at most {total.prompt:,} "
        f"tokens of prompts and {total.answer:,} of answers{money}"
    )


class _Asking:
    """The state of one `ask_all`: what is stopped and why, and how many failures came in a row."""

    def __init__(self, settings: IclSettings, answers: Answers, endpoint: Endpoint, bar: tqdm):
        self.settings, self.answers, self.endpoint, self.bar = settings, answers, endpoint, bar
        self.limit = limit_of(settings)
        self.stop: str | None = None
        self.done: set[str] = set()
        self.in_a_row = self.under_way = 0

    async def work(self, queue: list[Request]) -> None:
        try:
            while queue and not self.stop:
                await self.ask(queue.pop())
        except sqlite3.Error as error:
            self.stop = f"{self.answers.path}: cannot be written ({error}); make room, and run the study again"

    async def ask(self, request: Request) -> None:
        """Attempt after attempt, until the request is settled, has failed, or everything is stopped."""
        failure = "not attempted"
        for number in range(self.settings.attempts):
            if self.stop or not await self.hold_back(request):
                return
            attempt = await self.attempt(request)
            if attempt.outcome is not None:
                self.in_a_row = 0
                await on_disk(self.answers.settle, request.key, attempt.outcome, attempt.used)
                await self.show(request)
                return
            failure = attempt.failure
            last = number + 1 == self.settings.attempts or (attempt.retry_after or 0) > LONGEST_RETRY_AFTER
            state = "failed" if last or attempt.fatal else "waiting"
            await on_disk(self.answers.give_up, request.key, state, failure, attempt.may_be_paid)
            if attempt.fatal:
                self.stop = (f"{self.endpoint.host} answered {failure}, which asking again does not mend; check model, "
                             "key and endpoint in the study file")  # fmt: skip
                return
            if last:
                break
            await anyio.sleep(wait_before(number + 1, attempt.retry_after))
        self.in_a_row += 1
        await self.show(request)
        if self.in_a_row >= FAILURES_IN_A_ROW:
            self.stop = (f"{self.endpoint.host} failed {self.in_a_row} notes in a row, the last one with {failure}; "
                         "run the study again when it is up")  # fmt: skip

    async def attempt(self, request: Request) -> Attempt:
        self.under_way += 1
        try:
            return await self.endpoint.send(request.body, request.key, request.private_corpora)
        finally:
            self.under_way -= 1

    async def hold_back(self, request: Request) -> bool:
        """Note the request and what it may cost; waits while what others hold back may still come free.

        False when all is stopped, or when another process has just asked the same.
        """
        while not self.stop:
            try:
                await on_disk(self.answers.ask, request.key, request.at_most, self.limit)
                return True
            except ValueError:
                return False
            except OverBudget:
                if not self.under_way:
                    spent = await on_disk(self.answers.spent)
                    money = f" ({spent.cost(self.settings.price):.2f})" if self.settings.price else ""
                    self.stop = (f"the budget for {self.settings.model} does not suffice for the next request: "
                                 f"{spent.prompt + spent.answer:,} tokens{money} are spent. Raise it and run the study "
                                 "again; what is answered is kept")  # fmt: skip
            await anyio.sleep(0.05)
        return False

    async def show(self, request: Request | None = None, n: int = 1) -> None:
        """Move the progress bar on: one request that ended, or some that were answered before."""
        if request is not None:
            self.done.add(request.key)
        self.bar.update(n)
        spent = await on_disk(self.answers.spent)
        cost = f"{spent.cost(self.settings.price):.4f}" if self.settings.price else f"{spent.prompt + spent.answer:,}"
        self.bar.set_postfix_str(f"{'cost' if self.settings.price else 'tokens'} so far {cost}", refresh=False)


# The file of answers is written in a thread: a slow disk must not use up the time of the answers that are on their way.
on_disk = anyio.to_thread.run_sync


async def _ask_all(requests: Sequence[Request], settings: IclSettings, progress: bool) -> list[Outcome]:
    wanted = {r.key: r for r in requests}
    answers, endpoint = open_answers(settings), Endpoint(settings)
    bar = tqdm(total=len(wanted), disable=not progress, desc="asking", unit="note")
    try:
        asking = _Asking(settings, answers, endpoint, bar)
        undecided: list[str] = []
        left = dict(wanted)
        while left:
            settled = answers.settled(left)
            await asking.show(n=len(settled.keys() - asking.done))
            undecided += _take_up(answers, left, settings)
            elsewhere, _ = answers.under_way(left)  # another process asks for the same
            here = left.keys() - settled.keys() - asking.done - {*undecided, *elsewhere}
            queue = [left[key] for key in left if key in here][::-1]
            async with anyio.create_task_group() as group:
                for _ in range(min(settings.concurrency, len(queue))):
                    group.start_soon(asking.work, queue)
            if asking.stop:
                raise DataError(f"{asking.stop}.")
            gone = settled.keys() | asking.done | set(undecided)
            if left := {key: request for key, request in left.items() if key not in gone}:
                await anyio.sleep(0.2)
        if undecided:
            raise DataError(_question(undecided, settings))
        settled = answers.settled(wanted)
        return [settled.get(r.key) or Outcome("failed") for r in requests]
    finally:
        bar.close()
        answers.close()
        await endpoint.close()


def _take_up(answers: Answers, wanted: dict[str, Request], settings: IclSettings) -> list[str]:
    """Decide on requests that were under way when an earlier run was killed; those that a person must decide on.

    Nobody knows whether they were paid for. What costs nothing (this machine, no price) is asked again.
    """
    if batched := answers.batched(wanted):
        raise DataError(f"{len(batched)} answers are part of a batch that was not collected; see docs/icl.md, Batches")
    _, lost = answers.under_way(wanted)
    free = guard.is_loopback(guard.host_of(settings.endpoint)) and not settings.price
    if settings.interrupted == "resend" or (free and settings.interrupted == "ask"):
        for key in lost:
            answers.give_up(key, "waiting", "interrupted", not free)
        return []
    if settings.interrupted == "count":
        for key in lost:
            answers.settle(key, Outcome("interrupted"))
        return []
    return lost


def _question(keys: Sequence[str], settings: IclSettings) -> str:
    return (
        f"{len(keys)} requests to {settings.model} were under way when an earlier run was cut off, and may have been "
        "paid for. Write interrupted: resend for this system to ask again (they may be paid twice), or "
        "interrupted: count to count them as failed; all other answers are kept."
    )


def wait_before(attempt: int, retry_after: float | None) -> float:
    """Seconds to wait: at least what the server asks for, else doubling; with jitter, so that not all return at once.

    Source: exponential backoff with jitter (Brooker 2015), here half fixed and half random.
    """
    wait = min(FIRST_WAIT * 2 ** (attempt - 1), LONGEST_WAIT)
    if retry_after is not None:
        return retry_after + random.uniform(0, 0.25) * min(wait, 1.0)
    return wait * random.uniform(0.5, 1.0)
