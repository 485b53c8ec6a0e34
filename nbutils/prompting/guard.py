"""Where the text of a note may go. Asked before anything is sent, and again by the function that sends."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Protocol

import httpx2

from nbutils.files import DataError

NOTES = ""  # stands for the name of a corpus: notes that are marked private themselves, wherever they came from


class Rules(Protocol):
    """What a study file says about endpoints; `IclSettings` is one."""

    external: bool
    allowed_hosts: tuple[str, ...]


def allow(endpoint: str, rules: Rules, private_corpora: Iterable[str] = ()) -> str:
    """The host of an endpoint, if text of these corpora may go there.

    This machine and the declared hosts may get any text; any other host none of a private corpus, and the rest only
    when the study file says `external: true`, over https.

    Raises:
        DataError: no usable address, or the text may not go there; one sentence with the fix.
    """
    host = host_of(endpoint)
    if is_trusted(host, rules.allowed_hosts):
        return host
    if private := sorted(set(private_corpora), reverse=True):
        what = f'corpus "{private[0]}" is marked private, so its' if private[0] else "a note is marked private, so its"
        raise DataError(
            f"{what} text will not be sent to {host}. Use a local endpoint, or declare the host under allowed_hosts."
        )
    if not rules.external:
        raise DataError(
            f"No text will be sent to {host}: external endpoints are off. Use a local endpoint, declare the host under "
            "allowed_hosts, or write external: true for this system in the study file."
        )
    if httpx2.URL(endpoint).scheme != "https":
        raise DataError(f"No text will be sent to {host} in the open; write the endpoint with https://.")
    return host


def host_of(endpoint: str) -> str:
    """The host that the HTTP client itself would connect to.

    Raises:
        DataError: not an http(s) address, or one with a name or password in it.
    """
    try:
        url = httpx2.URL(endpoint)
    except (httpx2.InvalidURL, TypeError, ValueError):
        url = None
    if url is None or url.scheme not in ("http", "https") or not url.host:
        raise DataError("endpoint: not a web address; write it like http://127.0.0.1:8000/v1")
    if url.userinfo or url.query or url.fragment:
        raise DataError(
            "endpoint: write only the address, without name, password or anything behind ? or #; "
            "the key comes from the environment (key_variable)"
        )
    return url.host.lower()


def is_trusted(host: str, allowed_hosts: Iterable[str]) -> bool:
    """Whether a host may get any text: this machine, or one that the study file declares."""
    return is_loopback(host) or host in {h.strip().lower() for h in allowed_hosts}


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: an address of the loopback network, or localhost."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
