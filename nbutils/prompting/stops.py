"""What a person is told when asking an endpoint stops: what happened, and what to change."""

from __future__ import annotations

from collections.abc import Sequence

from nbutils.prompting.reply import Attempt
from nbutils.taggers.settings import IclSettings
from nbutils.taggers.usage import Tokens


def down(host: str, n: int, failure: str) -> str:
    return f"{host} failed {n} notes in a row, the last one with {failure}; run the study again when it is up"


def over_budget(spent: Tokens, settings: IclSettings) -> str:
    money = f" ({spent.cost(settings.price):.2f})" if settings.price else ""
    return (
        f"the budget for {settings.model} does not suffice for the next request: {spent.prompt + spent.answer:,} "
        f"tokens{money} are spent. Raise it and run the study again; what is answered is kept"
    )


def undecided(keys: Sequence[str], settings: IclSettings) -> str:
    return (
        f"{len(keys)} requests to {settings.model} were under way when an earlier run was cut off, and may have been "
        "paid for. Write interrupted: resend for this system to ask again (they may be paid twice), or "
        "interrupted: count to count them as failed; all other answers are kept."
    )


def without_text(host: str, n: int, state: str) -> str:
    """Why a run of answers without any text is stopped, and what to change."""
    ended = ", all of it used up before any text," if state == "length" else ""
    return (f"{host} gave {n} answers in a row without any text (the last one: {state}). What a model reasons counts "
            f"against the limit of its answer{ended} so raise tokens_per_character, or let the model reason less; "
            "if it does not reason, check model and chat template. The answers are kept and not asked for again "
            "unless a setting is changed")  # fmt: skip


def refused(host: str, refusals: Sequence[tuple[str, Attempt]]) -> str:
    """What was refused, for which notes (their names, as they may be shown), and which setting to look at."""
    attempt = refusals[-1][1]
    names = list(dict.fromkeys(f'"{name}"' for name, _ in refusals))
    notes = f"note{'s' if len(names) > 1 else ''} {', '.join(names[:3])}{' and others' if len(names) > 3 else ''}"
    why = attempt.failure or attempt.outcome.state
    if attempt.parameter:
        return f"{host} answered {why} ({notes}): it does not take {attempt.parameter}; {_SETTINGS[attempt.parameter]}"
    if attempt.outcome is not None:
        return (f"{host} refused {len(refusals)} notes in a row ({notes}: {why}) and answered none; check whether "
                "guideline, note and answer fit into the model, or lower tokens_per_character")  # fmt: skip
    return (f"{host} answered {why} ({notes}), and asking again does not change that; check model, key and endpoint in "
            "the study file, and whether the server takes what temperature, seed_name and limit_name send. When the "
            "study is run again, these notes are asked last")  # fmt: skip


_SETTINGS = {
    "temperature": "write temperature: null for this system, or another value",
    "seed": "write seed_name: null for this system, or the server's own name for it",
    "random_seed": "write seed_name: seed for this system, or null",
    "max_tokens": "write limit_name: max_completion_tokens for this system, the server's own name for it, or null",
    "max_completion_tokens": "write limit_name: max_tokens for this system, the server's own name for it, or null",
}
