"""Where a partition's batches are: five numbers a batch in flat arrays, searched by offset and by time."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple


class Entry(NamedTuple):
    """One stored batch."""

    base_offset: int
    messages: int
    size: int
    """Bytes of the encoded batch."""
    time_us: int
    position: int
    """Where the log keeps it; the core attaches no meaning."""

    @property
    def end_offset(self) -> int:
        """The offset after its last message."""
        return self.base_offset + self.messages


class BatchIndex:
    """The batches of a partition by offset. Appended at the end, dropped at the start, rarely taken from the middle."""

    __slots__ = ("_bases", "_columns", "_counts", "_head", "_positions", "_sizes", "_times")

    def __init__(self) -> None:
        self._bases, self._counts, self._sizes, self._times, self._positions = (array("q") for _ in range(5))
        self._columns = (self._bases, self._counts, self._sizes, self._times, self._positions)
        self._head = 0

    def append(self, entry: Entry) -> None:
        """Add a batch, whose offsets and time must lie beyond the last one's."""
        for column, value in zip(self._columns, entry, strict=True):
            column.append(value)

    def find(self, offset: int) -> Entry | None:
        """The batch that holds ``offset``, or else the next above it."""
        at = bisect_right(self._bases, offset, self._head) - 1
        if at < self._head or self._bases[at] + self._counts[at] <= offset:
            at += 1
        return self._at(at) if at < len(self._bases) else None

    def find_time(self, time_us: int) -> Entry | None:
        """The first batch published at or after ``time_us``."""
        at = bisect_left(self._times, time_us, self._head)
        return self._at(at) if at < len(self._bases) else None

    def first(self) -> Entry | None:
        """The oldest batch."""
        return self._at(self._head) if len(self) else None

    def last(self) -> Entry | None:
        """The newest batch."""
        return self._at(len(self._bases) - 1) if len(self) else None

    def drop_first(self) -> None:
        """Remove the oldest batch. Its room is given back once there is enough of it to be worth the copy."""
        self._head += 1
        if self._head >= 1024 and self._head * 2 >= len(self._bases):
            for column in self._columns:
                del column[: self._head]
            self._head = 0

    def drop_last(self) -> None:
        """Remove the newest batch."""
        for column in self._columns:
            column.pop()

    def drop(self, base_offset: int) -> None:
        """Remove the batch that begins at ``base_offset``, which must be there."""
        at = bisect_left(self._bases, base_offset, self._head)
        for column in self._columns:
            del column[at]

    def __iter__(self) -> Iterator[Entry]:
        return (self._at(at) for at in range(self._head, len(self._bases)))

    def __len__(self) -> int:
        return len(self._bases) - self._head

    def _at(self, at: int) -> Entry:
        return Entry(self._bases[at], self._counts[at], self._sizes[at], self._times[at], self._positions[at])
