"""Server-sent events: the live view as `text/event-stream`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.live import Gap, Update

RETRY_MS: Final = 2_000
"""How long a client waits before it comes back."""

Events = AsyncGenerator[Update | Gap | None, None]


class EventStreamResponse(Response):
    """Sends events as they come, until they end or the client goes away (which cancels this)."""

    media_type = "text/event-stream"

    def __init__(self, events: Events, last_id: int) -> None:
        """Send ``events``.

        Args:
            events: see :meth:`~gateway.live.LiveHub.follow`.
            last_id: what a client that gets no event comes back with.
        """
        # No proxy on the way may hold events back.
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._last_id = last_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        start = f"retry: {RETRY_MS}\nid: {self._last_id}\n\n".encode()
        await send({"type": "http.response.body", "body": start, "more_body": True})
        async with aclosing(self._events) as events:
            async for event in events:
                await send({"type": "http.response.body", "body": encode_event(event), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def encode_event(event: Update | Gap | None) -> bytes:
    """One event as it goes over the wire; a comment, which clients ignore, for ``None``."""
    if event is None:
        return b": nothing new\n\n"
    if isinstance(event, Gap):
        return b"event: gap\nid: %d\ndata: %b\n\n" % (event.event_id, orjson.dumps({"missed": event.missed}))
    return b"event: %b\nid: %d\ndata: %b\n\n" % (event.kind.encode(), event.event_id, event.data)
