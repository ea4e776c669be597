"""Where a partition's batches are: five numbers a batch, packed in blocks, searched by offset and by time."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

BLOCK_BATCHES: Final = 4096
"""How many batches gather before they are packed."""
SMALL_BLOCK_BATCHES: Final = 256
"""A block with fewer is not worth being kept for itself."""


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


class Block:
    """Batches in order: a column for each number of an `Entry`, which holds by how much it is above ``lows``.

    An empty block grows with :meth:`append`; :meth:`packed` gives the same in as few bytes as it takes, which are
    about fifteen a batch.
    """

    __slots__ = ("columns", "lows")

    def __init__(self, columns: Sequence[array[int]] = (), lows: Sequence[int] = (0, 0, 0, 0, 0)) -> None:
        self.columns = tuple(columns) or tuple(array("q") for _ in Entry._fields)
        self.lows = tuple(lows)

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Block:
        """A block of these batches."""
        block = cls()
        for entry in entries:
            block.append(entry)
        return block

    def append(self, entry: Entry) -> None:
        """Add a batch at the end of a block that has not been packed."""
        bases, counts, sizes, times, positions = self.columns
        bases.append(entry.base_offset)
        counts.append(entry.messages)
        sizes.append(entry.size)
        times.append(entry.time_us)
        positions.append(entry.position)

    def cut(self, first: int, end: int) -> Block:
        """The batches from number ``first`` to before ``end``."""
        return Block([column[first:end] for column in self.columns], self.lows)

    def packed(self) -> Block:
        """The same batches in less room."""
        columns, lows = [], []
        for column, low in zip(self.columns, self.lows, strict=True):
            least = min(column, default=0)
            span = max(column, default=0) - least
            columns.append(array(_code_for(span), [value - least for value in column]))
            lows.append(low + least)
        return Block(columns, lows)

    @property
    def size(self) -> int:
        """Bytes of all its batches."""
        return self._sum(2)

    @property
    def is_dense(self) -> bool:
        """Whether no offset is missing between its batches, of which there must be one."""
        return self._sum(1) == self[-1].end_offset - self[0].base_offset

    def holes(self) -> Iterator[tuple[int, int]]:
        """The offsets that are missing between its batches, as runs."""
        for before, after in pairwise(self):
            if before.end_offset < after.base_offset:
                yield before.end_offset, after.base_offset

    def at_offset(self, offset: int, first: int = 0) -> int:
        """The number, from ``first`` on, of the batch that holds ``offset``, or else of the next above it."""
        bases, counts, *_ = self.columns
        offset -= self.lows[0]
        at = bisect_right(bases, offset, first) - 1
        return at if at >= first and offset < bases[at] + counts[at] + self.lows[1] else at + 1

    def at_time(self, time_us: int, first: int = 0) -> int:
        """The number, from ``first`` on, of the first batch published at or after ``time_us``."""
        return bisect_left(self.columns[3], time_us - self.lows[3], first)

    def at_position(self, position: int, first: int = 0) -> int:
        """The number, from ``first`` on, of the first batch that lies at or behind ``position``."""
        return bisect_left(self.columns[4], position - self.lows[4], first)

    def drop(self, at: int) -> None:
        """Remove a batch."""
        for column in self.columns:
            del column[at]

    def __getitem__(self, at: int) -> Entry:
        bases, counts, sizes, times, positions = self.columns
        base, count, size, time_us, position = self.lows
        return Entry(
            base + bases[at], count + counts[at], size + sizes[at], time_us + times[at], position + positions[at]
        )

    def __iter__(self) -> Iterator[Entry]:
        return (self[at] for at in range(len(self)))

    def __len__(self) -> int:
        return len(self.columns[0])

    def _sum(self, number: int) -> int:
        return sum(self.columns[number]) + self.lows[number] * len(self)


def _code_for(span: int) -> str:
    return "B" if span < 1 << 8 else "H" if span < 1 << 16 else "I" if span < 1 << 32 else "Q"


class BatchIndex:
    """The batches of a partition by offset. Appended at the end, dropped at the start, rarely taken from the middle.

    The last block grows and may be empty; the others are packed. Of the first, ``_head`` batches are dropped already.
    """

    __slots__ = ("_blocks", "_firsts", "_head")

    def __init__(self) -> None:
        self._blocks = [Block()]
        # Of each block that is not empty, an offset at or below its first and above the block's before.
        self._firsts: list[int] = []
        self._head = 0

    def append(self, entry: Entry) -> None:
        """Add a batch, whose offsets and time must lie beyond the last one's."""
        growing = self._blocks[-1]
        if not len(growing):
            self._firsts.append(entry.base_offset)
        growing.append(entry)
        if len(growing) >= BLOCK_BATCHES:
            self._pack()

    def extend(self, block: Block) -> None:
        """Add batches, whose offsets and times must lie beyond the last one's."""
        if len(block) < SMALL_BLOCK_BATCHES:
            for entry in block:
                self.append(entry)
            return
        self._pack()
        self._firsts.append(block[0].base_offset)
        self._blocks.insert(-1, block)

    def find(self, offset: int) -> Entry | None:
        """The batch that holds ``offset``, or else the next above it."""
        last = self.last()
        if last is None or offset >= last.base_offset:  # by far the most often asked: what comes next, at the end
            return last if last is not None and offset < last.end_offset else None
        number = max(bisect_right(self._firsts, offset) - 1, 0)
        at = self._blocks[number].at_offset(offset, 0 if number else self._head)
        if at == len(self._blocks[number]):
            number, at = number + 1, 0
        return self._blocks[number][at] if number < len(self._firsts) else None

    def find_time(self, time_us: int) -> Entry | None:
        """The first batch published at or after ``time_us``."""
        number = bisect_left(self._blocks, time_us, 0, len(self._firsts), key=lambda block: block[-1].time_us)
        if number == len(self._firsts):
            return None
        block = self._blocks[number]
        return block[block.at_time(time_us, 0 if number else self._head)]

    def first(self) -> Entry | None:
        """The oldest batch."""
        return self._blocks[0][self._head] if self._firsts else None

    def last(self) -> Entry | None:
        """The newest batch."""
        return self._blocks[len(self._firsts) - 1][-1] if self._firsts else None

    def drop_through(self, offset: int) -> list[Block]:
        """Remove the batches of which nothing lies at or above ``offset``, and return them."""
        dropped: list[Block] = []
        while self._firsts:
            block, head = self._blocks[0], self._head
            at = block.at_offset(offset, head)
            if at > head:
                dropped.append(block if (head, at) == (0, len(block)) else block.cut(head, at))
            if at < len(block):
                self._head = at
                break
            self._remove(0)
        return dropped

    def drop_last(self) -> None:
        """Remove the newest batch."""
        self._drop(len(self._firsts) - 1, -1)

    def drop(self, base_offset: int) -> None:
        """Remove the batch that begins at ``base_offset``, which must be there."""
        number = bisect_right(self._firsts, base_offset) - 1
        self._drop(number, self._blocks[number].at_offset(base_offset))

    def __iter__(self) -> Iterator[Entry]:
        for number, block in enumerate(self._blocks):
            for at in range(0 if number else self._head, len(block)):
                yield block[at]

    def __len__(self) -> int:
        return sum(len(block) for block in self._blocks) - self._head

    def _drop(self, number: int, at: int) -> None:
        block = self._blocks[number]
        block.drop(at)
        if len(block) == (0 if number else self._head):
            self._remove(number)

    def _pack(self) -> None:
        """Begin another block to grow, unless the one that there is is empty."""
        growing = self._blocks[-1]
        if not len(growing):
            return
        if len(self._blocks) == 1:
            growing, self._head = growing.cut(self._head, len(growing)), 0
        self._blocks[-1] = growing.packed()
        self._blocks.append(Block())

    def _remove(self, number: int) -> None:
        del self._blocks[number], self._firsts[number]
        if number == 0:
            self._head = 0
        if number == len(self._blocks):
            self._blocks.append(Block())
