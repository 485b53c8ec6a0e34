"""One endpoint that speaks OpenAI's chat completions, and the one function that sends text to it.

Everything that goes wrong comes back as plain data without any text of a note: exceptions of the client hold the
request and the answer, so none of them leaves this module, not even as the cause of another one.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2
import openai

from nbutils.files import DataError
from nbutils.prompting import guard
from nbutils.prompting.reply import Attempt, read_completion, refusal, retry_after
from nbutils.taggers.settings import IclSettings

# Of one HTTP response; a longer one is cut off and counts as broken. No compressed one is taken, since a few bytes of
# it may become gigabytes.
MAX_ANSWER_BYTES = 20_000_000
# What the SDK would add to these (platform, organisation, custom headers of the environment) is not sent.
HEADERS = frozenset(
    ["host", "accept", "authorization", "connection", "content-length", "content-type", "user-agent",
     "idempotency-key", "transfer-encoding"]
)  # fmt: skip


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
        try:
            async with asyncio.timeout(self.settings.timeout):
                raw = await self.client.chat.completions.with_raw_response.create(
                    model=body["model"],
                    messages=body["messages"],
                    extra_body={k: v for k, v in body.items() if k not in ("model", "messages")},
                    extra_headers={"Idempotency-Key": key},
                )
                return read_completion(raw.content)
        except TimeoutError:
            return Attempt(failure="time-out", may_be_paid=True)
        except Exception as error:
            return _failure(error)


def shutdown_date(settings: IclSettings) -> str | None:
    """The day (YYYY-MM-DD) on which the endpoint will shut the model down, by its list of models; no text is sent.

    None when it names no day, cannot be asked, or the study file says `dry_run`.

    Source: OpenAI's page on deprecations, `shutdown_date` of GET /v1/models.
    """
    return None if settings.dry_run else asyncio.run(_shutdown_date(replace(settings, timeout=10.0)))


async def _shutdown_date(settings: IclSettings) -> str | None:
    with suppress(Exception):  # a list that is not there is no reason to stop; the run itself will say what is wrong
        endpoint = Endpoint(settings)
        try:
            async with asyncio.timeout(settings.timeout):
                answer = await endpoint.client.models.with_raw_response.list()
        finally:
            await endpoint.close()
        dates = [row.get("shutdown_date") for row in json.loads(answer.content)["data"] if row["id"] == settings.model]
        return next((date for date in dates if re.fullmatch(r"\d{4}-\d\d-\d\d", date or "")), None)
    return None


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


def _failure(error: Exception) -> Attempt:
    """What an exception of the client means; only its kind and status, as its text may hold the note."""
    if isinstance(error, openai.APIStatusError):
        content = error.response.content
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            body = content[:2_000].decode("utf-8", "replace")
        return refusal(error.status_code, body, retry_after(error.response.headers))
    if isinstance(error, openai.APITimeoutError):
        return Attempt(failure="time-out", may_be_paid=True)
    cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else error
    if isinstance(cause, _Unreadable):
        return Attempt(failure=str(cause), may_be_paid=True)
    if isinstance(error, openai.APIConnectionError) or isinstance(cause, httpx2.TransportError):
        unsent = isinstance(cause, httpx2.ConnectError)
        return Attempt(failure="no connection" if unsent else "connection broken", may_be_paid=not unsent)
    if isinstance(error, openai.APIError):
        return Attempt(failure="not a chat completion", may_be_paid=True)
    return Attempt(failure=type(error).__name__, refused=True, stops=True, always=True)


class _Unreadable(httpx2.ReadError):
    """A reply that is not read on; its text is ours."""


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
        headers.append(("accept-encoding", "identity"))
        bare = httpx2.Request(
            request.method, there, headers=headers, stream=request.stream, extensions=request.extensions
        )
        response = await self.inner.handle_async_request(bare)
        if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
            await response.aclose()
            raise _Unreadable("a compressed answer, though none was asked for")
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
                raise _Unreadable("an answer of more than 20 MB")
            yield chunk

    async def aclose(self) -> None:
        await self.inner.aclose()
