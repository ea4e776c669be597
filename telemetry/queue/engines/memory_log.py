"""A log in memory: gone with the process."""

from __future__ import annotations

from collections.abc import Sequence

from telemetry.queue.core.batches import Block, Entry
from telemetry.queue.engines.log import Append, LogOwner


class MemoryLog:
    """Keeps batches in a dictionary, by a running number."""

    def __init__(self, owner: LogOwner) -> None:
        self._owner = owner
        self._batches: dict[int, bytes] = {}
        self._next = 0

    def next_position(self, size: int, producer_id: str) -> int:
        """The next number."""
        return self._next

    @property
    def overloaded(self) -> bool:
        """Never: nothing waits."""
        return False

    def append(self, append: Append) -> None:
        """Keep a batch; it is as durable as it gets at once."""
        self._batches[append.placed.entry.position] = append.placed.batch.batch
        self._next += 1
        self._owner.stored((append,))

    async def read(self, entries: Sequence[Entry]) -> Sequence[bytes | None]:
        """The batches' bytes."""
        return [self._batches.get(entry.position) for entry in entries]

    def trim(self, blocks: Sequence[Block]) -> None:
        """Forget batches."""
        for block in blocks:
            for entry in block:
                self._batches.pop(entry.position, None)
