"""Asking an endpoint for many answers: concurrently, within a budget, and every one of them exactly once.

Each request goes through the file of answers: noted before it is sent, settled before it is used.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.to_thread
from anyio.from_thread import start_blocking_portal
from tqdm.auto import tqdm

from nbutils import ROOT
from nbutils.files import DataError
from nbutils.prompting import guard, stops
from nbutils.prompting.endpoint import Endpoint
from nbutils.prompting.ledger import Answers, Limit, Outcome, OverBudget, Taken
from nbutils.prompting.reply import Attempt
from nbutils.taggers.settings import IclSettings
from nbutils.taggers.usage import Tokens

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0  # seconds between attempts, doubled each time, with jitter
LONGEST_RETRY_AFTER = 600.0  # seconds; a server that asks for more gets no further attempt in this run
FAILURES_IN_A_ROW = 10  # notes that used up all attempts, or whose answers have no text; then something is wrong
REFUSED_ALIKE = 3  # notes; when no other note was answered, the fault is not theirs
REFUSED = "refused"  # the state of a note that the endpoint will not answer, for whatever reason
WITHOUT_TEXT = ("empty", "length")
ABOUT_A_NOTE = ("too long", "content_filter", REFUSED, "interrupted")  # these states show no working endpoint
BYTES_IN_A_TOKEN = 64  # at most, on average; real tokenizers have 2 to 8
TOO_MANY = 100


@dataclass(frozen=True)
class Request:
    """One question: the body of a chat completion, and whose text is in it. repr shows no text."""

    key: str
    body: dict[str, Any] = field(repr=False)
    at_most: Tokens
    private_corpora: tuple[str, ...] = ()
    note: str = ""  # its name as a message may show it


def ask_all(requests: Sequence[Request], settings: IclSettings, *, progress: bool = True) -> list[Outcome]:
    """The outcome of every request, in their order; what the file of answers has is not asked again.

    Raises:
        DataError: text may not go there; the endpoint refuses everything or is down; no answer has any text; the budget
            does not suffice; or requests were under way when an earlier run was killed. What was answered is kept.
    """
    for private in {r.private_corpora for r in requests}:
        guard.allow(settings.endpoint, settings, private)
    if settings.dry_run:
        raise DataError(f"dry run, nothing was sent: {price_sentence(requests, settings)}")
    with start_blocking_portal() as portal:  # a loop of its own: a notebook's loop is running already
        return portal.call(_ask_all, requests, settings, progress)


def tokens_of(requests: Iterable[Request], settings: IclSettings) -> Tokens | None:
    """The tokens that these requests and their answers had, whenever they were asked; None if not all were counted."""
    with closing(open_answers(settings)) as answers:
        return answers.used({r.key for r in requests})


def open_answers(settings: IclSettings) -> Answers:
    return Answers(ROOT / settings.cache, settings.endpoint, settings.model)


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
    """The state of one `ask_all`: what is stopped and why, what was refused, and what came in a row."""

    def __init__(self, settings: IclSettings, answers: Answers, endpoint: Endpoint, bar: tqdm):
        self.settings, self.answers, self.endpoint, self.bar = settings, answers, endpoint, bar
        self.limit = Limit(settings.price, settings.budget, settings.budget_tokens)
        self.stop: str | None = None
        self.queue: list[Request] = []  # the next one last
        self.done: set[str] = set()
        self.answered_any = False  # so that what is refused is refused for its own sake
        self.refused_before: set[str] = set()  # in an earlier run, which stopped; a person wants it to go on
        self.refusals: list[tuple[Request, Attempt]] = []  # not known yet to be about their notes alone
        self.failed_in_a_row = self.empty_in_a_row = self.under_way = 0

    async def work(self) -> None:
        """Ask until the queue is empty. No error leaves it: it would cancel what others have paid for."""
        try:
            while self.queue and not self.stop:
                await self.ask(self.queue.pop())
        except DataError as error:
            self.stop = str(error).rstrip(".")
        except Exception as error:  # its text may quote a note
            self.stop = f"an error in this program ({type(error).__name__}) stopped it; what is answered is kept"

    async def ask(self, request: Request) -> None:
        """Attempt after attempt, until the request is settled, has failed, or everything is stopped."""
        failure = "not attempted"
        for number in range(self.settings.attempts):
            if self.stop or not await self.hold_back(request):
                return
            attempt = await self.attempt(request)
            if attempt.refused:
                return await self.refused(request, attempt)
            if attempt.outcome is not None:
                return await self.answered(request, attempt)
            failure = attempt.failure
            last = number + 1 == self.settings.attempts or (attempt.retry_after or 0) > LONGEST_RETRY_AFTER
            await on_disk(self.answers.give_up, request.key, "failed" if last else "waiting", failure,
                          attempt.may_be_paid)  # fmt: skip
            if last:
                break
            await anyio.sleep(wait_before(number + 1, attempt.retry_after))
        self.failed_in_a_row += 1
        await self.show(request)
        if self.failed_in_a_row >= FAILURES_IN_A_ROW:
            self.stop = stops.down(self.endpoint.host, self.failed_in_a_row, failure)

    async def attempt(self, request: Request) -> Attempt:
        self.under_way += 1
        try:
            return await self.endpoint.send(request.body, request.key, request.private_corpora)
        finally:
            self.under_way -= 1

    async def answered(self, request: Request, attempt: Attempt) -> None:
        """Write an answer; it also shows that what was refused before was not refused for a reason common to all."""
        outcome = attempt.outcome
        await on_disk(self.answers.settle, request.key, outcome, believed(attempt.used, outcome, request.at_most))
        self.answered_any, self.failed_in_a_row = True, 0
        await self.settle_refusals()
        await self.show(request)
        if outcome.content:
            self.empty_in_a_row = 0
        elif outcome.state in WITHOUT_TEXT:
            self.empty_in_a_row += 1
            if self.empty_in_a_row >= FAILURES_IN_A_ROW:
                self.stop = stops.without_text(self.endpoint.host, self.empty_in_a_row, outcome.state)

    async def refused(self, request: Request, attempt: Attempt) -> None:
        """Record a refusal for its note if other notes are answered; until one is, ask the shortest ones first.

        Stops when nothing can work, or when the first few are all refused alike.
        """
        why = attempt.failure or attempt.outcome.state
        await on_disk(self.answers.give_up, request.key, "failed", f"{REFUSED}: {why}", False)
        self.refusals.append((request, attempt))
        await self.show(request)
        if not self.answered_any:
            self.queue.sort(key=lambda r: (r.key not in self.refused_before, -r.at_most.prompt))
        hopeless = attempt.stops and not self.refused_before
        in_doubt = hopeless or self.refused_alike(attempt)
        while in_doubt and self.under_way and not (attempt.always or self.answered_any or self.stop):
            await anyio.sleep(0.02)  # an answer takes longer than a refusal
        if self.answered_any and not attempt.stops:
            await self.settle_refusals()
        elif attempt.always or self.refused_alike(attempt) or (hopeless and not self.answered_any):
            self.stop = self.stop or stops.refused(self.endpoint.host, [(r.note, a) for r, a in self.refusals])

    def refused_alike(self, attempt: Attempt) -> bool:
        """Whether so many refusals came since the last answer that the fault is hardly that of their notes."""
        alike = [a for _, a in self.refusals if (a.failure, a.outcome) == (attempt.failure, attempt.outcome)]
        few = FAILURES_IN_A_ROW if attempt.outcome else REFUSED_ALIKE
        return len(alike) >= few or len(self.refusals) >= FAILURES_IN_A_ROW

    async def settle_refusals(self) -> None:
        refusals, self.refusals = self.refusals, []
        for request, attempt in refusals:
            outcome = attempt.outcome or Outcome(REFUSED, reason=attempt.failure)
            await on_disk(self.answers.settle, request.key, outcome, Tokens())

    async def end(self, outcomes: Mapping[str, Outcome]) -> None:
        """Decide on what is left undecided when all were asked, and on answers that are there from earlier runs."""
        if self.refusals and (self.answered_any or all(a.outcome for _, a in self.refusals)):
            await self.settle_refusals()
        elif self.refusals:
            self.stop = stops.refused(self.endpoint.host, [(r.note, a) for r, a in self.refusals])
        empty = [o.state for o in outcomes.values() if not o.content and o.state in WITHOUT_TEXT]
        if len(empty) == len(outcomes) >= FAILURES_IN_A_ROW:
            self.stop = stops.without_text(self.endpoint.host, len(empty), empty[-1])

    async def hold_back(self, request: Request) -> bool:
        """Note the request and what it may cost; waits while what others hold back may still come free.

        False when all is stopped, or when another process has just asked the same.
        """
        while not self.stop:
            try:
                await on_disk(self.answers.ask, request.key, request.at_most, self.limit)
                return True
            except Taken:
                return False
            except OverBudget:
                if not self.under_way:
                    self.stop = stops.over_budget(await on_disk(self.answers.spent), self.settings)
            await anyio.sleep(0.05)
        return False

    async def show(self, request: Request | None = None, n: int = 1) -> None:
        """Move the progress bar on: one request that ended, or some that were answered before."""
        if request is not None:
            self.done.add(request.key)
        self.bar.update(n)
        spent = await on_disk(self.answers.spent)
        cost = f"{spent.cost(self.settings.price):.4f}" if self.settings.price else f"{spent.prompt + spent.answer:,}"
        bound = "" if await on_disk(self.answers.is_counted) else "at most "
        what = "cost" if self.settings.price else "tokens"
        self.bar.set_postfix_str(f"{what} so far {bound}{cost}", refresh=False)


def believed(used: Tokens | None, outcome: Outcome, at_most: Tokens) -> Tokens | None:
    """The endpoint's count of tokens, or None when it cannot be right; the budget then counts what was held back.

    A token has `BYTES_IN_A_TOKEN` bytes at most on average, so that an answer with text cannot have used 0; a count of
    more than `TOO_MANY` times what was held back says nothing either. What lies between is taken, also above it.
    """
    if used is None:
        return None
    written = len((outcome.content or "").encode())
    low = used.prompt * BYTES_IN_A_TOKEN < at_most.prompt or used.answer * BYTES_IN_A_TOKEN < written
    high = used.prompt > TOO_MANY * at_most.prompt or used.answer > TOO_MANY * at_most.answer
    return None if low or high else used


# The file of answers is written in a thread: a slow disk must not use up the time of the answers that are on their way.
on_disk = anyio.to_thread.run_sync


async def _ask_all(requests: Sequence[Request], settings: IclSettings, progress: bool) -> list[Outcome]:
    wanted = {r.key: r for r in requests}
    endpoint, answers = Endpoint(settings), open_answers(settings)
    bar = tqdm(total=len(wanted), disable=not progress, desc="asking", unit="note")
    try:
        asking = _Asking(settings, answers, endpoint, bar)
        undecided = await _all_asked(asking, wanted)
        settled = answers.settled(wanted)
        if undecided:
            raise DataError(stops.undecided(undecided, settings))
        await asking.end(settled)
        if asking.stop:
            raise DataError(f"{asking.stop}.")
        settled = answers.settled(wanted)
        return [settled.get(r.key) or Outcome("failed") for r in requests]
    finally:
        bar.close()
        answers.close()
        await endpoint.close()


async def _all_asked(asking: _Asking, wanted: dict[str, Request]) -> list[str]:
    """Ask for all that is not settled; the keys that a person must decide on.

    Raises:
        DataError: everything was stopped.
    """
    undecided: list[str] = []
    left, is_told = dict(wanted), False
    while left:
        settled = asking.answers.settled(left)
        asking.answered_any |= any(o.state not in ABOUT_A_NOTE for o in settled.values())
        await asking.show(n=len(settled.keys() - asking.done))
        elsewhere, lost = asking.answers.under_way(left)  # another process asks for the same
        undecided += _take_up(asking.answers, lost, asking.settings)
        here = left.keys() - settled.keys() - asking.done - {*undecided, *elsewhere}
        asking.refused_before |= asking.answers.refused_before(here)
        queue = [left[key] for key in left if key in here][::-1]
        asking.queue = sorted(queue, key=lambda r: r.key not in asking.refused_before)
        async with anyio.create_task_group() as group:
            for _ in range(min(asking.settings.concurrency, len(asking.queue))):
                group.start_soon(asking.work)
        if asking.stop:
            raise DataError(f"{asking.stop}.")
        gone = settled.keys() | asking.done | set(undecided)
        if left := {key: request for key, request in left.items() if key not in gone}:
            if not is_told:
                print(f"Waiting for {len(left)} requests that another process has under way.", file=sys.stderr)
            is_told = True
            await anyio.sleep(0.2)
    return undecided


def _take_up(answers: Answers, lost: list[str], settings: IclSettings) -> list[str]:
    """Decide on requests that were under way when an earlier run was killed; those that a person must decide on.

    Nobody knows whether they were paid for. What costs nothing (this machine, no price) is asked again.
    """
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


def wait_before(attempt: int, retry_after: float | None) -> float:
    """Seconds to wait: at least what the server asks for, else doubling; with jitter, so that not all return at once.

    Source: exponential backoff with jitter (Brooker 2015), here half fixed and half random.
    """
    wait = min(FIRST_WAIT * 2 ** (attempt - 1), LONGEST_WAIT)
    if retry_after is not None:
        return retry_after + random.uniform(0, 0.25) * min(wait, 1.0)
    return wait * random.uniform(0.5, 1.0)
