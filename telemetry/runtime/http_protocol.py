"""HTTP/1.1 of uvicorn with a limit on how long a request may take to arrive, and how large its head may be."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import Any, Final

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = logging.getLogger(__name__)

HEAD_S_MAX: Final = 10.0
"""How long a client may take until the head of its request is there: from connecting, and from its first byte."""
BODY_S_MAX: Final = 30.0
"""How long the body may take after that."""
HEAD_BYTES_MAX: Final = 64 << 10
"""Largest head: request line and headers."""


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections on which a request does not arrive in time, or whose head has no end.

    Between requests uvicorn's own limit holds, after which an idle connection is closed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._within(HEAD_S_MAX, "the head of the request")

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        # What came with the end of a head, and the head itself, may be one piece: only a head without end counts.
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self._refuse(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"the head of the request has more than {HEAD_BYTES_MAX} bytes",
            )

    def send_400_response(self, msg: str) -> None:
        """What the parser cannot read is answered with a problem, as all else."""
        self._refuse(HTTPStatus.BAD_REQUEST, "this cannot be read as HTTP/1.1; an address may have up to 65,535 bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._within(HEAD_S_MAX, "the head of the request")
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        self._within(BODY_S_MAX, "the body of the request")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._arrived()
        self._in_head = True
        super().on_message_complete()

    def _within(self, seconds: float, what: str) -> None:
        self._arrived()
        self._deadline = self.loop.call_later(seconds, self._too_slow, what, seconds)

    def _arrived(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self, what: str, seconds: float) -> None:
        if not self.transport.is_closing():
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"{what} did not arrive within {seconds:g} s")

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Close the connection, saying why unless an answer is under way on it."""
        log.debug("a connection was closed", extra={"peer": self.client, "reason": detail})
        if self.cycle is None or self.cycle.response_complete:
            body = orjson.dumps(
                {"type": "about:blank", "title": status.phrase, "status": int(status), "detail": detail}
            )
            head = (
                f"HTTP/1.1 {int(status)} {status.phrase}\r\ncontent-type: application/problem+json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()
