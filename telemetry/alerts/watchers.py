"""Clients that are told of each alert that changes, each with a bounded queue of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from telemetry.alerts.alert import Alert
from telemetry.runtime.status import RequestError

CHANGES_MAX: Final = 10_000
"""Most changes that wait for one client."""

WATCHERS_MAX: Final = 1_000
"""Most clients that watch at once."""


class TooSlowError(RequestError):
    """The client reads too slowly, or there are too many."""

    code = "RESOURCE_EXHAUSTED"


class Watchers:
    """All that watch."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._watchers: set[_Watcher] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._watchers)

    def publish(self, changed: Sequence[Alert]) -> None:
        """Tell all."""
        if changed:
            for watcher in self._watchers:
                watcher.put(changed)

    def close(self) -> None:
        """End all watching, when what waits has been read."""
        self._closed = True
        for watcher in self._watchers:
            watcher.wake.set()

    async def watch(self) -> AsyncGenerator[Sequence[Alert]]:
        """Changes from the first step of the iteration on, those that wait at once; first an empty sequence.

        Raises:
            TooSlowError: more wait than may, or too many watch.
        """
        if len(self._watchers) >= WATCHERS_MAX:
            raise TooSlowError(f"{WATCHERS_MAX} clients watch already", retry_after_s=10.0)
        watcher = _Watcher()
        self._watchers.add(watcher)
        try:
            yield ()
            while not self._closed:
                await watcher.wake.wait()
                yield watcher.take()
        finally:
            self._watchers.discard(watcher)


class _Watcher:
    def __init__(self) -> None:
        self._changes: list[Alert] = []
        self._lost = False
        self.wake = asyncio.Event()

    def put(self, changed: Sequence[Alert]) -> None:
        if self._changes and len(self._changes) + len(changed) > CHANGES_MAX:
            self._changes, self._lost = [], True
        if not self._lost:
            self._changes.extend(changed)
        self.wake.set()

    def take(self) -> Sequence[Alert]:
        if self._lost:
            raise TooSlowError(f"more than {CHANGES_MAX} changes waited to be read; watch again", retry_after_s=0.0)
        taken, self._changes = self._changes, []
        self.wake.clear()
        return taken
