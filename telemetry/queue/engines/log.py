"""The seam between the rules and where batches are kept: append, read, trim."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from telemetry.queue.core.batches import Block, Entry
from telemetry.queue.core.errors import QueueError
from telemetry.queue.core.partition import Placed


class Append:
    """A batch on its way into the log, and who waits until it is there."""

    __slots__ = ("_done", "_error", "_waiters", "placed")

    def __init__(self, placed: Placed) -> None:
        self.placed = placed
        self._done = False
        self._error: BaseException | None = None
        self._waiters: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        """Wait until the batch is as durable as its topic promises; raise what prevented it."""
        if not self._done:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        if self._error is not None:
            raise self._error

    def resolve(self, error: BaseException | None = None) -> None:
        """Let go of those who wait, and of those who come to wait later."""
        self._done, self._error = True, error
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()


class LogOwner(Protocol):
    """Who is told what became of appends."""

    def stored(self, appends: Sequence[Append]) -> None:
        """These are as durable as promised; in the order in which they were appended."""
        ...

    def refused(self, appends: Sequence[Append], error: QueueError) -> None:
        """These, the newest, were not stored."""
        ...

    def failed(self, error: BaseException) -> None:
        """No promise can be kept any more."""
        ...


class Log(Protocol):
    """Keeps batches. Everything but ``read`` returns at once."""

    def next_position(self, size: int, producer_id: str) -> int:
        """Where the next batch, if it is of that size and producer, will be kept."""
        ...

    @property
    def overloaded(self) -> bool:
        """Whether so much waits to be kept that nothing should be added."""
        ...

    def append(self, append: Append) -> None:
        """Keep a batch; its owner is told when it is, perhaps before this returns."""
        ...

    async def read(self, entries: Sequence[Entry]) -> Sequence[bytes | None]:
        """The batches' bytes; ``None`` for one that is damaged or no longer there."""
        ...

    def trim(self, blocks: Sequence[Block]) -> None:
        """These are not needed any more."""
        ...
