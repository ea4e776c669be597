"""The open streams of one method, so that they can be counted and told that the server is going away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from telemetry.queue.core.errors import ClosedError

GOING_AWAY = "the queue is shutting down; connect again in a moment"


class OpenStreams:
    """Counts streams and, once, drains them."""

    def __init__(self) -> None:
        self._on_drain: dict[object, Callable[[], object]] = {}
        self._draining = False
        self.drain_within_s = 0.0
        """How long the streams may take to come to their end, once they were told to."""
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._on_drain)

    @contextmanager
    def opened(self, on_drain: Callable[[], object]) -> Iterator[None]:
        """Count a stream while it lasts; ``on_drain`` is called once, when it should come to its end.

        Raises:
            ClosedError: if the server is going away already.
        """
        if self._draining:
            raise ClosedError(GOING_AWAY)
        stream = object()
        self._on_drain[stream] = on_drain
        self._empty.clear()
        try:
            yield
        finally:
            del self._on_drain[stream]
            if not self._on_drain:
                self._empty.set()

    def drain(self, within_s: float) -> None:
        """Refuse new streams and tell the open ones to come to their end, and within what time."""
        if not self._draining:
            self._draining = True
            self.drain_within_s = within_s
            for on_drain in tuple(self._on_drain.values()):
                on_drain()

    async def wait_closed(self, timeout_s: float) -> bool:
        """Wait until no stream is open, or for so long; returns whether none is."""
        try:
            await asyncio.wait_for(self._empty.wait(), timeout_s)
        except TimeoutError:
            return False
        return True
