"""One endpoint that speaks OpenAI's chat completions, and the one function that sends text to it.

Everything that goes wrong comes back as plain data without any text of a note: exceptions of the client hold the
request and the answer, so none of them leaves this module, not even as the cause of another one.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import os
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import openai

from nbutils.files import DataError
from nbutils.prompting import guard
from nbutils.prompting.ledger import Outcome
from nbutils.taggers.settings import IclSettings
from nbutils.taggers.usage import Tokens

MAX_ANSWER_BYTES = 20_000_000  # of one HTTP response; a longer one is cut off and counts as broken
# What the SDK would add to these (platform, organisation, custom headers of the environment) is not sent.
HEADERS = frozenset(
    ["host", "accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "user-agent",
     "idempotency-key", "transfer-encoding"]
)  # fmt: skip
NOTE_CODES = frozenset(["content_filter", "context_length_exceeded"])  # HTTP 400 about this one note (Azure, OpenAI)


@dataclass(frozen=True)
class Attempt:
    """What came of sending one request: an outcome, or a failure that may pass, or one that stops everything."""

    outcome: Outcome | None = None
    used: Tokens | None = None  # None: the endpoint did not say
    failure: str | None = None  # such as "HTTP 429"
    fatal: bool = False
    retry_after: float | None = None  # seconds
    may_be_paid: bool = False


class Endpoint:
    """The client of one endpoint. Make, use and close it in one event loop."""

    def __init__(self, settings: IclSettings):
        self.settings = settings
        self.host = guard.allow(settings.endpoint, settings)
        key = api_key(settings)
        transport = _OneHost(httpx2.URL(settings.endpoint), settings.concurrency)
        http = httpx2.AsyncClient(
            transport=transport,
            trust_env=False,  # no proxy of the environment
            follow_redirects=False,
            timeout=httpx2.Timeout(settings.timeout, connect=min(settings.timeout, 15.0)),
        )
        self.client = openai.AsyncOpenAI(
            base_url=settings.endpoint, api_key=key, max_retries=0, timeout=settings.timeout, http_client=http
        )

    async def close(self) -> None:
        await self.client.close()

    async def send(self, body: Mapping[str, Any], key: str, private_corpora: tuple[str, ...]) -> Attempt:
        """Send one request, once. The key goes along, so that a server that knows such keys charges only once.

        Raises:
            DataError: text of these corpora may not go to this endpoint.
        """
        guard.allow(self.settings.endpoint, self.settings, private_corpora)
        attempt = None
        try:
            async with asyncio.timeout(self.settings.timeout):
                raw = await self.client.chat.completions.with_raw_response.create(
                    **body, extra_headers={"Idempotency-Key": key}
                )
                attempt = read_completion(raw.content)
        except TimeoutError:
            attempt = Attempt(failure="time-out", may_be_paid=True)
        except Exception as error:
            attempt = _failure(error)
        return attempt

    async def call(self, what: str, **arguments: Any) -> Any:
        """Any other call of the client (files, batches) by its dotted name.

        Raises:
            DataError: it failed; says how, without any text.
        """
        method: Any = self.client
        for part in what.split("."):
            method = getattr(method, part)
        failure = None
        try:
            async with asyncio.timeout(self.settings.timeout):
                return await method(**arguments)
        except TimeoutError:
            failure = "time-out"
        except Exception as error:
            failure = _failure(error).failure
        raise DataError(f"{self.host}: {what} failed ({failure}); check the endpoint and run the command again")

    async def upload(self, path: Path, private_corpora: tuple[str, ...]) -> Any:
        """Send a file of requests, for a batch."""
        guard.allow(self.settings.endpoint, self.settings, private_corpora)
        return await self.call("files.create", file=("requests.jsonl", path.read_bytes()), purpose="batch")


def api_key(settings: IclSettings) -> str:
    """The key from the environment; OpenAI's own variable only for OpenAI itself, so that no other host sees it.

    Raises:
        DataError: the variable is not set.
    """
    host = guard.host_of(settings.endpoint)
    variable = settings.key_variable or ("OPENAI_API_KEY" if host == "api.openai.com" else None)
    if variable is None:
        return "none"
    if not os.environ.get(variable):
        raise DataError(f"the environment variable {variable} is not set; set it to your key for {host}")
    return os.environ[variable]


def read_completion(content: bytes) -> Attempt:
    """The outcome in the body of a chat completion; a body that is none is a failure that may pass."""
    try:
        body = json.loads(content)
        choice = body["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        text, refusal = message.get("content"), message.get("refusal")
        if not (text is None or isinstance(text, str)):
            raise TypeError
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return Attempt(failure="not a chat completion", may_be_paid=True)
    if refusal:
        state = "refusal"
    elif finish == "content_filter":
        state = "content_filter"
    elif not text:
        state = "empty"
    elif finish in (None, "stop", "length"):
        state = finish or "stop"
    else:
        state = "ended by " + re.sub(r"\W", "", str(finish))[:30]
    return Attempt(Outcome(state, text), _usage(body.get("usage")))


def _usage(usage: Any) -> Tokens | None:
    try:
        tokens = Tokens(usage["prompt_tokens"], usage["completion_tokens"])
    except (KeyError, TypeError):
        return None
    sound = all(type(n) is int and 0 <= n < 1 << 40 for n in (tokens.prompt, tokens.answer))
    return tokens if sound else None


def _failure(error: Exception) -> Attempt:
    """What an exception of the client means; only its kind and status, as its text may hold the note."""
    if isinstance(error, openai.APIStatusError):
        status, code = error.status_code, str(error.code or "")
        if status == 400 and code in NOTE_CODES:
            return Attempt(Outcome("content_filter" if code == "content_filter" else "too long"), Tokens())
        if status in (408, 409, 429) or status >= 500:
            fatal = code == "insufficient_quota"
            return Attempt(failure=f"HTTP {status}{', quota used up' if fatal else ''}", fatal=fatal,
                           retry_after=retry_after(error.response.headers))  # fmt: skip
        return Attempt(failure=f"HTTP {status}", fatal=True)
    if isinstance(error, openai.APITimeoutError):
        return Attempt(failure="time-out", may_be_paid=True)
    if isinstance(error, openai.APIConnectionError):
        refused = isinstance(error.__cause__, httpx2.ConnectError)
        return Attempt(failure="no connection" if refused else "connection broken", may_be_paid=not refused)
    if isinstance(error, openai.APIError):
        return Attempt(failure="not a chat completion", may_be_paid=True)
    return Attempt(failure=type(error).__name__, fatal=True)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a server asks to wait: `Retry-After` as a number or a date (RFC 9110, 10.2.3)."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value):
        return float(value)
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


class _OneHost(httpx2.AsyncBaseTransport):
    """The network, but only to one host and port, with few headers and answers of bounded size."""

    def __init__(self, endpoint: httpx2.URL, concurrency: int):
        self.endpoint = endpoint
        self.inner = httpx2.AsyncHTTPTransport(
            trust_env=False, retries=0, limits=httpx2.Limits(max_connections=concurrency + 1)
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        here, there = self.endpoint, request.url
        if (here.scheme, here.host, here.port) != (there.scheme, there.host, there.port):
            raise httpx2.UnsupportedProtocol("a request for another host than the endpoint's")
        headers = [(name, value) for name, value in request.headers.multi_items() if name.lower() in HEADERS]
        bare = httpx2.Request(
            request.method, there, headers=headers, stream=request.stream, extensions=request.extensions
        )
        response = await self.inner.handle_async_request(bare)
        response.stream = _Capped(response.stream)
        return response

    async def aclose(self) -> None:
        await self.inner.aclose()


@dataclass
class _Capped(httpx2.AsyncByteStream):
    """A response body that ends with an error when it is too long."""

    inner: Any
    length: int = field(default=0)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self.inner:
            self.length += len(chunk)
            if self.length > MAX_ANSWER_BYTES:
                raise httpx2.ReadError("the answer is too long")
            yield chunk

    async def aclose(self) -> None:
        await self.inner.aclose()
