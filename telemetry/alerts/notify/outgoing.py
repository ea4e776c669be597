"""One HTTP POST to a receiver, and whether it helps to try again."""

from __future__ import annotations

import asyncio
import base64
import http.client
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

POST_TIMEOUT_S: Final = 10.0
"""How long one attempt may take to connect, and then to answer."""

ANSWER_BYTES_MAX: Final = 4096
"""How much of an answer is read."""

RETRY_AFTER_S_MAX: Final = 60.0
"""Longest wait that a receiver can ask for."""

_RETRIED: Final = frozenset({http.client.REQUEST_TIMEOUT, http.client.TOO_MANY_REQUESTS})


class DeliveryError(Exception):
    """It was not delivered, and may be if it is sent again, after ``retry_after_s`` if the receiver said so."""

    def __init__(self, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class RefusedError(Exception):
    """The receiver will not have it."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to post.

    Attributes:
        name: the address for people, without user and password.
        authorization: the header's value; empty for none.
    """

    name: str
    connect: Callable[[], http.client.HTTPConnection] = field(repr=False)
    path: str
    authorization: str = field(repr=False)


def target(url: str, suffix: str = "") -> Target:
    """Read an address ``http://…`` or ``https://…``, with ``user:password@`` where the receiver asks for it.

    Args:
        url: the address.
        suffix: put behind its path.

    Raises:
        ValueError: if it is none; the text does not repeat it, because there may be a password in it.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise ValueError("it must look like http://host:port/path or https://host:port/path")
    port = parts.port  # raises ValueError by itself when it is none
    host = parts.hostname
    authorization = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"
    path = parts.path.rstrip("/") + suffix or "/"
    shown = SplitResult(parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "").geturl()
    connect: Callable[[], http.client.HTTPConnection]
    if parts.scheme == "https":
        context = ssl.create_default_context()

        def connect() -> http.client.HTTPConnection:
            return http.client.HTTPSConnection(host, port, timeout=POST_TIMEOUT_S, context=context)
    else:

        def connect() -> http.client.HTTPConnection:
            return http.client.HTTPConnection(host, port, timeout=POST_TIMEOUT_S)

    return Target(shown, connect, f"{path}?{parts.query}" if parts.query else path, authorization)


async def post(to: Target, body: bytes) -> None:
    """Send JSON.

    Raises:
        DeliveryError: if it cannot be reached, takes too long, or says that it cannot take it now.
        RefusedError: if it answers anything else but success.
    """
    try:
        async with asyncio.timeout(2 * POST_TIMEOUT_S):
            status, retry_after, text = await asyncio.to_thread(_post, to, body)
    except TimeoutError:
        raise DeliveryError(f"{to.name} does not answer") from None
    except (OSError, http.client.HTTPException) as error:
        raise DeliveryError(f"{to.name} cannot be reached: {error or type(error).__name__}") from None
    if 200 <= status < 300:
        return
    said = f"{to.name} answered {status}: {text}" if text else f"{to.name} answered {status}"
    if status >= 500 or status in _RETRIED:
        wait_s = min(float(retry_after), RETRY_AFTER_S_MAX) if retry_after.isdecimal() else None
        raise DeliveryError(said, wait_s)
    raise RefusedError(said)


def _post(to: Target, body: bytes) -> tuple[int, str, str]:
    headers = {"Content-Type": "application/json", "User-Agent": "telemetry-alerts"}
    if to.authorization:
        headers["Authorization"] = to.authorization
    connection = to.connect()
    try:
        connection.request("POST", to.path, body, headers)
        answer = connection.getresponse()
        text = " ".join(answer.read(ANSWER_BYTES_MAX).decode(errors="replace").split())
        return answer.status, answer.getheader("Retry-After", ""), text[:500]
    finally:
        connection.close()
