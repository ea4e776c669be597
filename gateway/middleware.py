"""What happens around every request: counting, headers for browsers, HEAD, and giving up when the client has gone."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from time import perf_counter
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.counters import REQUEST_SECONDS, REQUESTS

SECURITY_HEADERS: Final = {
    # The charts set styles on elements; everything else comes from this very server.
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
GONE: Final = 499
"""Counted when the client had gone before there was an answer."""
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
                REQUEST_SECONDS.labels(_route(scope)).observe(perf_counter() - started)
            await send(message)

        try:
            await self._app(scope, receive, count)
        except Exception:
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            raise
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            REQUESTS.labels(method, _route(scope), str(int(status))).inc()


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
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, add)


class CancelWhenGone:
    """Cancels the handling of a request, and so its calls to other services, when its client has gone.

    It also answers HEAD as GET without the body, for every route. Bodies of requests are not read: no route takes one.
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
        gone = asyncio.Event()

        async def receive_nothing() -> Message:
            await gone.wait()
            return {"type": "http.disconnect"}

        handling = asyncio.ensure_future(self._app(scope, receive_nothing, send))
        watching = asyncio.create_task(_wait_until_gone(receive))
        try:
            await asyncio.wait({handling, watching}, return_when=asyncio.FIRST_COMPLETED)
            if handling.done():
                handling.result()
        finally:
            gone.set()
            handling.cancel()
            watching.cancel()
            await asyncio.wait({handling, watching})


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


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
