"""What a request is called: in its answer, in problems, in the audit log, in logs, and in calls made for it."""

from __future__ import annotations

import logging
import time
from collections.abc import MutableMapping
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from telemetry.runtime.request_ids import REQUEST_ID, call_it, is_good

log = logging.getLogger(__name__)


class RequestIds:
    """Takes the name that the client gives a request, else makes one; logs what could not be answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        name = given if is_good(given) else uuid4().hex
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        state["request_id"] = name
        call_it(name)
        started = time.perf_counter()
        held: Message | None = None

        async def answer(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = name
                if message["status"] >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    took_ms = round((time.perf_counter() - started) * 1000, 1)
                    fields = {"method": scope["method"], "path": scope["path"][:500], "status": message["status"]}
                    log.info("a request could not be answered", extra={**fields, "took_ms": took_ms})
                if headers.get("content-type") == "application/problem+json" and "content-encoding" not in headers:
                    held = message  # its length is about to change
                    return
            elif held is not None:
                start, held = held, None
                message = _named(start, message, name)
                await send(start)
            await send(message)

        await self._app(scope, receive, answer)


def _named(start: Message, message: Message, name: str) -> Message:
    """The body of a problem with the request's name as its last member; the headers in ``start`` follow suit."""
    body = message.get("body", b"")
    if body.endswith(b"}") and not message.get("more_body", False):
        body = body[:-1] + b',"request_id":"%b"}' % name.encode()
        MutableHeaders(scope=start)["content-length"] = str(len(body))
    return {**message, "body": body}
