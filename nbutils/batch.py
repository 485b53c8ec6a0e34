"""Asking through the Batch API (half the price, within a day), and what a study's prompting will cost.

    python -m nbutils.batch price   STUDY.yaml            what every row would cost at most; sends nothing
    python -m nbutils.batch submit  STUDY.yaml SYSTEM     hand in all open requests of a row
    python -m nbutils.batch collect STUDY.yaml SYSTEM     fetch what is ready; then `make study` finds it answered

The answers land in the same file as all others, under the same guard and the same budget.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio

from nbutils import guard, icl, study
from nbutils.answers import Answers, OverBudget
from nbutils.calls import Request, limit_of, open_answers, price_sentence
from nbutils.endpoint import Endpoint, read_completion
from nbutils.files import DataError
from nbutils.settings import IclSettings

ENDED = ("failed", "expired", "cancelled")  # batches that may have answered a part, and will not answer the rest


def study_requests(plan: study.Study, system: study.System) -> tuple[list[Request], IclSettings]:
    """Every request that a row of a study needs, each once: all training corpora, seeds and evaluation corpora."""
    corpora = study.open_corpora(plan)
    found: dict[str, Request] = {}
    for train in plan.train:
        settings = study.settings(plan, system, train)
        if settings.endpoint is None:
            raise DataError(f"{plan.path}, systems.{system.name}: runs in this process; it has no endpoint to ask")
        for seed in system.seeds:
            tagger = icl.fit(study.split(plan, corpora[train])[0], settings, seed=seed)
            for name in plan.evaluate:
                target = study.evaluation_corpus(plan, corpora, train, name)
                pieces = tagger.pieces([d.without_entities() for d in target])
                found |= {r.key: r for r in tagger.requests(pieces, icl.private_names(target, settings))}
    return list(found.values()), settings


def batch_lines(requests: Sequence[Request]) -> str:
    """The requests as JSON Lines for /v1/batches."""
    rows = ({"custom_id": r.key, "method": "POST", "url": "/v1/chat/completions", "body": r.body} for r in requests)
    return "".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows)


def submit(requests: Sequence[Request], settings: IclSettings) -> str:
    """Hand in all requests that are not answered; the id of the batch, or "" when none is open.

    Each request is noted, and its cost held back, before anything is sent. Killed in between, the next call finds the
    batch at the endpoint by its fingerprint, or hands in what never arrived.

    Raises:
        DataError: text may not go there, or the budget does not suffice.
    """
    for private in {r.private_corpora for r in requests}:
        guard.allow(settings.endpoint, settings, private)
    answers = open_answers(settings)
    try:
        done, batched = answers.settled(r.key for r in requests), answers.batched(r.key for r in requests)
        unnamed = {key for key, batch in batched.items() if not batch}
        new = [r for r in requests if r.key not in done and (r.key not in batched or r.key in unnamed)]
        if not new:
            return ""
        limit = limit_of(settings)
        try:
            for r in new:
                if r.key not in unnamed:
                    answers.ask(r.key, r.at_most, limit, state="batched", batch="")
        except OverBudget:
            _take_back(answers, [r for r in new if r.key not in unnamed])
            raise DataError(f"the budget for {settings.model} does not suffice for this batch; raise it") from None
        except ValueError:
            _take_back(answers, [r for r in new if r.key not in unnamed])
            raise DataError("some of these requests are being asked right now; wait for that run to end") from None
        batch = anyio.run(_submit, new, settings)
        answers.name_batch([r.key for r in new], batch)
        return batch
    finally:
        answers.close()


def _take_back(answers: Answers, requests: Sequence[Request]) -> None:
    for key in answers.batched(r.key for r in requests):
        answers.give_up(key, "failed", "not handed in", False)


async def _submit(requests: Sequence[Request], settings: IclSettings) -> str:
    fingerprint = hashlib.sha256("".join(sorted(r.key for r in requests)).encode()).hexdigest()[:32]
    endpoint = Endpoint(settings)
    try:
        async for known in await endpoint.call("batches.list", limit=100):
            if (known.metadata or {}).get("nbutils") == fingerprint and known.status not in ENDED:
                return known.id
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "requests.jsonl"
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            path.write_text(batch_lines(requests), encoding="utf-8")
            private = tuple(sorted({name for r in requests for name in r.private_corpora}))
            file = await endpoint.upload(path, private)
        created = await endpoint.call(
            "batches.create", input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h",
            metadata={"nbutils": fingerprint},
        )  # fmt: skip
        return created.id
    finally:
        await endpoint.close()


def collect(requests: Sequence[Request], settings: IclSettings) -> dict[str, int]:
    """Fetch the answers of all batches that have ended; how many requests are `answered`, `failed` and `waiting`.

    What failed in a batch is open again: a run or another batch asks for it.
    """
    answers = open_answers(settings)
    try:
        batched = answers.batched(r.key for r in requests)
        counts = {"answered": 0, "failed": 0, "waiting": 0}
        for batch in sorted(set(batched.values()) - {""}):
            keys = {key for key, name in batched.items() if name == batch}
            status, lines = anyio.run(_fetch, batch, settings)
            if status not in ("completed", *ENDED):
                counts["waiting"] += len(keys)
                continue
            for line in lines.splitlines():
                key, attempt = _read_line(line)
                if key in keys and attempt is not None and attempt.outcome is not None:
                    answers.settle(key, attempt.outcome, attempt.used)
                    keys.discard(key)
                    counts["answered"] += 1
            for key in keys:
                answers.give_up(key, "failed", f"batch {status}", False)
            counts["failed"] += len(keys)
        return counts
    finally:
        answers.close()


async def _fetch(batch: str, settings: IclSettings) -> tuple[str, bytes]:
    endpoint = Endpoint(settings)
    try:
        found = await endpoint.call("batches.retrieve", batch_id=batch)
        lines = b""
        if found.status in ("completed", *ENDED) and found.output_file_id:
            lines = (await endpoint.call("files.content", file_id=found.output_file_id)).content
        return found.status, lines
    finally:
        await endpoint.close()


def _read_line(line: bytes) -> tuple[str, Any]:
    try:
        row = json.loads(line)
        response = row["response"]
        good = response is not None and response["status_code"] == 200
        return row["custom_id"], read_completion(json.dumps(response["body"]).encode()) if good else None
    except (ValueError, KeyError, TypeError):
        return "", None


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the price of a study's rows, hand in a batch, or collect it."""
    parser = argparse.ArgumentParser(prog="python -m nbutils.batch", description=main.__doc__)
    parser.add_argument("command", choices=["price", "submit", "collect"])
    parser.add_argument("file", help="the study file")
    parser.add_argument("system", nargs="?", help="the row; all rows with an endpoint when left out")
    chosen = parser.parse_args(arguments)
    try:
        plan = study.load(chosen.file)
        rows = [s for s in plan.systems.values() if s.kind == "icl" and s.settings.get("endpoint")]
        rows = [s for s in rows if chosen.system in (None, s.name)]
        if not rows:
            raise DataError(f"{plan.path}: no row of kind icl with an endpoint to {chosen.command}; correct the name")
        for system in rows:
            print(f"{system.name}: {_command(chosen.command, *study_requests(plan, system))}")
    except (ValueError, OSError) as error:  # DataError is a ValueError
        print(error, file=sys.stderr)
        return 1
    return 0


def _command(command: str, requests: Sequence[Request], settings: IclSettings) -> str:
    if command == "price":
        return price_sentence(requests, settings)
    if command == "submit":
        batch = submit(requests, settings)
        return f"handed in as {batch}" if batch else "nothing is open"
    return ", ".join(f"{n} {what}" for what, n in collect(requests, settings).items())


if __name__ == "__main__":
    sys.exit(main())
