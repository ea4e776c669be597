"""Moves given-up messages to their dead-letter topics: the copy first, durably, and only then the position."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from telemetry.queue.core.delivery import Piece, State
from telemetry.queue.core.errors import ClosedError, QueueError
from telemetry.queue.core.topics import TopicState
from telemetry.queue.core.types import PublishBatch, Storage
from telemetry.queue.engines.dead_letters import dead_letters_of
from telemetry.queue.engines.log import Append

AT_A_TIME: Final = 64
"""How many pieces are copied side by side, so that they share the waits for the disk."""
RETRY_AFTER_S: Final = 1.0
"""How long to wait when a dead-letter topic cannot take a copy."""

_log = logging.getLogger(__name__)


class BurialHost(Protocol):
    """What burials need of their engine."""

    async def bury_bytes(self, piece: Piece) -> bytes | None: ...
    def store(self, batch: PublishBatch, storage: Storage | None) -> tuple[Append, TopicState]: ...
    async def finish_store(self, append: Append, topic: TopicState) -> None: ...
    async def buried(self, piece: Piece) -> None: ...


class Burials:
    """Copies pieces to dead-letter topics, in the order in which they were given up. Retries until it works."""

    def __init__(self, host: BurialHost) -> None:
        self._host = host
        self._pieces: deque[Piece] = deque()
        self._added = asyncio.Event()
        self._waiters: dict[Piece, list[asyncio.Future[None]]] = {}

    def add(self, pieces: Sequence[Piece]) -> None:
        """Take in pieces that are BURYING."""
        self._pieces.extend(pieces)
        self._added.set()

    async def wait(self, piece: Piece) -> None:
        """Wait until the piece's copy is durable and its position past it.

        Raises:
            QueueError: if the copy cannot be made at present. It will be tried again.
        """
        if piece.state is State.BURYING:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.setdefault(piece, []).append(waiter)
            await waiter

    def stop(self) -> None:
        """Tell those who wait that nothing more will come; what is left is delivered again after a restart."""
        for waiter in [waiter for waiters in self._waiters.values() for waiter in waiters]:
            if not waiter.done():
                waiter.set_exception(ClosedError("the queue is shutting down"))
        self._waiters.clear()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._added.wait()
            self._added.clear()
            while self._pieces:
                some = [self._pieces.popleft() for _ in range(min(AT_A_TIME, len(self._pieces)))]
                errors = await asyncio.gather(*(self._bury(piece) for piece in some), return_exceptions=True)
                left = []
                for piece, error in zip(some, errors, strict=True):
                    self._tell(piece, error)
                    if error is not None:
                        left.append(piece)
                if left:
                    self._pieces.extendleft(reversed(left))
                    await asyncio.sleep(RETRY_AFTER_S)

    async def _bury(self, piece: Piece) -> None:
        batch = await self._host.bury_bytes(piece)
        if batch is not None:
            storage = piece.cursor.partition.topic.config.storage
            stores = [self._host.store(copies, storage) for copies in dead_letters_of(piece, batch)]
            for append, topic in stores:
                await self._host.finish_store(append, topic)
        await self._host.buried(piece)

    def _tell(self, piece: Piece, error: BaseException | None) -> None:
        if error is not None:
            if not isinstance(error, QueueError):
                raise error
            _log.warning(
                "dead letter cannot be stored yet",
                extra={
                    "topic": piece.cursor.partition.topic.name,
                    "group": piece.cursor.group.name,
                    "error": str(error),
                },
            )
        for waiter in self._waiters.pop(piece, ()):
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)
