"""What happens around every request: counting, headers for browsers, HEAD, and giving up when the client has gone."""

from __future__ import annotations

import asyncio
from functools import cache
from http import HTTPStatus
from time import perf_counter
from typing import Final

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.counters import REQUEST_SECONDS, REQUESTS
from gateway.page import content_security_policy

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": content_security_policy(),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_SECURITY_HEADERS: Final = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
_ONLY_TLS: Final = (b"strict-transport-security", b"max-age=31536000")
"""That a browser which has met us over TLS shall never ask in the clear again, for a year; said in the clear, it means
nothing."""
GONE: Final = 499
"""Counted when the client had gone before there was an answer."""
LOOK_AFTER_S: Final = 0.05
"""How long a request is handled before anybody looks whether its client is still there."""
_WITHOUT_BODY: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class CountRequests:
    """Counts answers by route and status, and how long the first byte of each took."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        status = GONE

        async def count(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _seconds(_route(scope)).observe(perf_counter() - started)
            await send(message)

        try:
            await self._app(scope, receive, count)
        except Exception:
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            raise
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            _requests(method, _route(scope), int(status)).inc()


@cache
def _seconds(route: str) -> Histogram:
    """One route's histogram; looking it up by its labels takes as long as counting."""
    return REQUEST_SECONDS.labels(route)


@cache
def _requests(method: str, route: str, status: int) -> Counter:
    return REQUESTS.labels(method, route, str(status))


def _route(scope: Scope) -> str:
    """The route's template, so that the number of label values does not grow with what is asked for."""
    return getattr(scope.get("route"), "path", "") or "page"


class SecurityHeaders:
    """Adds headers that tell browsers what a page may do."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ())]
                there = {name for name, _ in headers}
                headers += [header for header in _SECURITY_HEADERS if header[0] not in there]
                if scope["scheme"] == "https":
                    headers.append(_ONLY_TLS)
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, add)


class CancelWhenGone:
    """Cancels the handling of a request, and so its calls to other services, when its client has gone.

    It also answers HEAD as GET without the body, for every route. A request's body is read before it is handled.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            asked, scope = scope, {**scope, "method": "GET"}
            send = _without_body(send, asked, scope)
        body = None if scope["method"] in _WITHOUT_BODY else await _read_body(receive)
        watch = _Watch(receive)

        async def receive_body() -> Message:
            nonlocal body
            if body is not None:
                message: Message = {"type": "http.request", "body": body, "more_body": False}
                body = None
                return message
            await watch.until_gone()
            return {"type": "http.disconnect"}

        try:
            await self._app(scope, receive_body, send)
        except asyncio.CancelledError:
            if not watch.cancelled:
                raise
        finally:
            watch.end()


class _Watch:
    """Cancels the current task when the client has gone.

    It begins to look only after a moment, as most answers take less than looking costs.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._handling = asyncio.current_task()
        self._looking: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(LOOK_AFTER_S, self._look)
        self.cancelled = False

    async def until_gone(self) -> None:
        """Wait until the client has gone."""
        await asyncio.shield(self._look())

    def end(self) -> None:
        """Stop: the request has been handled."""
        self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()
        if self.cancelled and self._handling is not None:
            self._handling.uncancel()

    def _look(self) -> asyncio.Task[None]:
        if self._looking is None:
            self._timer.cancel()
            self._looking = asyncio.create_task(self._wait_until_gone())
        return self._looking

    async def _wait_until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.cancelled = True
        if self._handling is not None:
            self._handling.cancel()


def _without_body(send: Send, asked: Scope, handled: Scope) -> Send:
    """A send that ends the answer after its headers, even that of a stream, and notes which route it was."""
    ended = False

    async def send_head(message: Message) -> None:
        nonlocal ended
        if message["type"] != "http.response.body":
            asked["route"] = handled.get("route")
            await send(message)
        elif not ended:
            ended = True
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return send_head


async def _read_body(receive: Receive) -> bytes | None:
    """The request's body; ``None`` if the client has gone. How large it may be is the business of the guard."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
