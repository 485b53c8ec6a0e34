"""What a server's reply to one request means, as plain data in words of our own: no text of the server is kept but the
answer itself, since any other may quote the note.

Source: replies as OpenAI, Azure, vLLM, llama.cpp, TGI, Mistral, DeepSeek and gateways before them send them.
"""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nbutils.prompting.ledger import SURROGATE, Outcome
from nbutils.taggers.usage import Tokens

# How servers say that an answer ended, in lower case, and what it is called here; whatever else they say is "other".
ENDS = {
    "stop": ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "stop_token", "end", "end_of_text", "complete",
             "completed", "finish_reason_stop", "finished", "done", "success", "normal", ""),
    "length": ("length", "max_tokens", "max_token", "max_length", "max_output_tokens", "max_completion_tokens",
               "max_new_tokens", "model_length", "token_limit", "model_context_window_exceeded", "truncated",
               "incomplete", "finish_reason_max_tokens", "limit"),
    "content_filter": ("content_filter", "content_filtered", "safety", "recitation", "blocklist", "prohibited_content",
                       "spii", "guardrail_intervened", "moderation", "sensitive", "risky", "language"),
    "refusal": ("refusal", "refused"),
    "error": ("error", "failed", "failure", "abort", "aborted", "cancelled", "canceled", "network_error", "timeout",
              "insufficient_system_resource", "malformed_function_call", "finish_reason_unspecified"),
    "ended by tool_calls": ("tool_calls", "tool_call", "tool_use", "function_call"),
}  # fmt: skip
_END = {word: state for state, words in ENDS.items() for word in words}
STOP_AT_ONCE = frozenset([401, 402, 403, 404, 405, 407])  # no request of this run can work, as long as none has
PASSING = frozenset([408, 409, 425, 429])  # and every 5xx: may work when asked again
QUOTA = frozenset(["insufficient_quota", "billing_hard_limit_reached", "exceeded_current_quota_error"])
PARAMETERS = ("temperature", "max_tokens", "max_completion_tokens", "random_seed", "seed")
# What servers say about a note that is too long for them; about length, so that another note may be answered.
_TOO_LONG = re.compile(
    r"context.{0,3}(?:length|size|window|limit)|exceed_context|n_ctx|max_model_len|max_seq_len"
    r"|(?:too|very)[ _](?:long|large|many (?:input |prompt )?tokens)|longer than the (?:model|max)"
    r"|reduce (?:the|your) (?:length|prompt|message|input)|maximum.{0,40}(?:tokens|length)"
    r"|at least 1, got|exceed.{0,60}(?:tokens|maximum|limit of \d|length)|(?:tokens|length|prompt|input).{0,60}exceed",
    re.IGNORECASE | re.DOTALL,
)
_FILTERED = re.compile(r"content.?(?:filter|management policy|policy)|moderation|flagged|safety (?:system|policy)|"
                       r"responsible.?ai|guardrail", re.IGNORECASE)  # fmt: skip
_UNSUPPORTED = re.compile(
    r"un(?:supported|recognized|known|expected|processable)|not (?:supported|permitted|allowed|recognized|valid)|extra|"
    r"(?:does|do|is|are)(?: not|n't) (?:support|allow|accept)|invalid|only.{0,30}default|deprecated|forbidden|must be",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Attempt:
    """What came of sending one request: an outcome, or a failure that may pass, or a refusal.

    A refusal is about this request alone or about all of them; other requests show which.
    """

    outcome: Outcome | None = None
    used: Tokens | None = None  # None: the endpoint did not say
    failure: str | None = None  # such as "HTTP 429"
    refused: bool = False  # asking the same again will not help
    stops: bool = False  # as long as nothing else was answered, nothing can work
    always: bool = False  # nothing can work, whatever was answered before
    parameter: str | None = None  # what the endpoint does not take, one of `PARAMETERS`
    retry_after: float | None = None  # seconds
    may_be_paid: bool = False


def read_completion(content: bytes) -> Attempt:
    """The outcome in the body of a chat completion; a body that is none is a failure that may pass."""
    try:
        body = json.loads(content)
        if isinstance(error := body.get("error"), dict) and not body.get("choices"):  # a gateway's, with HTTP 200
            return refusal(error["code"] if _is_status(error.get("code")) else 500, body)
        choice = body["choices"][0]
        message, end = choice["message"], choice.get("finish_reason")
        text, refused = _text_of(message.get("content")), message.get("refusal")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return Attempt(failure="not a chat completion", may_be_paid=True)
    used = _usage(body.get("usage"))
    state = "stop" if end is None else state_of_end(end)
    if state == "error" and not text:
        return Attempt(failure="an answer that ended in an error", may_be_paid=True)
    if refused:
        state = "refusal"
    elif not text and state in ("stop", "ended by other"):
        state = "empty"
    return Attempt(Outcome(state, text), used)


def state_of_end(end: Any) -> str:
    """How an answer ended, in a closed list of words, from the word that a server has for it."""
    return _END.get(end.strip().lower(), "ended by other") if isinstance(end, str) else "ended by other"


def _text_of(content: Any) -> str | None:
    """The text of a message, in one piece or in parts; parts of another type (thinking, images) are no answer."""
    if content is None or isinstance(content, str):
        return content and SURROGATE.sub("\ufffd", content)
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        raise TypeError
    texts = [part if isinstance(part, str) else part.get("text") for part in content
             if isinstance(part, str) or part.get("type", "text") in ("text", "output_text")]  # fmt: skip
    texts = [text.get("value") if isinstance(text, dict) else text for text in texts]
    return SURROGATE.sub("\ufffd", "".join(text for text in texts if text is not None)) or None


def _usage(usage: Any) -> Tokens | None:
    try:
        tokens = Tokens(usage["prompt_tokens"], usage["completion_tokens"])
    except (KeyError, TypeError):
        return None
    sound = all(type(n) is int and 0 <= n < 1 << 40 for n in (tokens.prompt, tokens.answer))
    return tokens if sound else None


def refusal(status: int, body: Any, retry: float | None = None) -> Attempt:
    """What a reply that is no answer means, by its status and by what its body says, in any of its usual places."""
    words = " ".join(_words(body))[:20_000]
    codes = set(words[:2_000].lower().split())
    moved = 300 <= status < 400
    quota = ", quota used up" if QUOTA & codes and not moved else ""
    if moved or quota or status in (401, 402, 407):
        return Attempt(failure=f"HTTP {status}{quota}", refused=True, stops=True, always=True)
    if status in PASSING and not (status == 429 and re.search("request too large", words, re.IGNORECASE)):
        return Attempt(failure=f"HTTP {status}", retry_after=retry)
    parameter = _parameter(body, words)
    if status == 413 or (_TOO_LONG.search(words) and parameter is None):
        return Attempt(Outcome("too long"), Tokens(), refused=True)
    if status >= 500:
        return Attempt(failure=f"HTTP {status}", retry_after=retry)
    if _FILTERED.search(words):
        return Attempt(Outcome("content_filter"), Tokens(), refused=True)
    return Attempt(failure=f"HTTP {status}", refused=True, stops=status in STOP_AT_ONCE, parameter=parameter)


def _parameter(body: Any, words: str) -> str | None:
    """The parameter that a refusal is about, if it is about one that was sent."""
    error = body.get("error") if isinstance(body, dict) else None
    named = error.get("param") if isinstance(error, dict) else None
    if not isinstance(named, str) or named not in PARAMETERS:
        named = next((p for p in PARAMETERS if re.search(rf"(?<![\w]){p}(?![\w])", words)), None)
    if named is None or not _UNSUPPORTED.search(words):
        return None
    about_length = named.startswith("max_") and re.search(r"too large|context|maximum|at most|at least|exceed", words)
    return None if about_length else named


def _words(body: Any, depth: int = 0) -> Iterator[str]:
    """Every text in a reply's body but what it repeats of the request."""
    if isinstance(body, str):
        yield body
    elif isinstance(body, dict) and depth < 6:
        for key, value in body.items():
            if key not in ("input", "messages", "prompt"):
                yield from _words(value, depth + 1)
    elif isinstance(body, list) and depth < 6:
        for value in body[:50]:
            yield from _words(value, depth + 1)


def _is_status(code: Any) -> bool:
    return type(code) is int and 300 <= code < 600


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a server asks to wait: `Retry-After` as a number or a date (RFC 9110, 10.2.3)."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value):
        return float(value)
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None
