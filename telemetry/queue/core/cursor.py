"""How far one group has come in one partition, and which pieces of it are under way."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from telemetry.queue.core.attempts import TriedBefore
from telemetry.queue.core.batches import Entry
from telemetry.queue.core.delivery import Piece, State
from telemetry.queue.core.partition import Partition
from telemetry.queue.core.runs import Run, RunSet
from telemetry.queue.core.types import Mode

if TYPE_CHECKING:
    from telemetry.queue.core.groups import GroupState

_PieceHeap = list[tuple[int, int, Piece]]


class Cursor:
    """A group's place in a partition.

    Offsets below ``acked_through`` are settled, and so are the runs in ``settled`` above it. Those from
    ``next_offset`` on were never handed out. What lies in between and is not settled is in ``pieces``.
    """

    __slots__ = (
        "_in_order",
        "_order",
        "_ready",
        "_waiting",
        "acked_through",
        "group",
        "next_offset",
        "partition",
        "pieces",
        "settled",
        "tried",
    )

    def __init__(
        self,
        group: GroupState,
        partition: Partition,
        acked_through: int,
        settled: Iterable[Run] = (),
        tried: TriedBefore | None = None,
    ) -> None:
        self.group = group
        self.partition = partition
        self.pieces: dict[Piece, None] = {}
        self._in_order = group.settings.mode is Mode.ORDERED
        self._order = 0
        self._ready: _PieceHeap = []
        self._waiting: _PieceHeap = []
        self.move(acked_through, settled)
        self.tried = tried

    def move(self, acked_through: int, settled: Iterable[Run] = ()) -> None:
        """Stand at ``acked_through``, with ``settled`` done above it. There must be no pieces."""
        assert not self.pieces
        self._ready.clear()
        self._waiting.clear()
        self.acked_through = max(acked_through, self.partition.start_offset)
        self.next_offset = self.acked_through
        self.settled = RunSet((*settled, *self.partition.holes))
        self.tried = None
        self._advance()

    # What may go out

    def peek(self) -> tuple[Entry, Piece | None] | None:
        """The batch of which messages may go out next, and their piece, unless they go out for the first time.

        In an ORDERED group nothing goes out after a message that waits to be delivered again.
        """
        piece = self._top(self._ready, State.READY)
        if self._in_order:
            waiting = self._top(self._waiting, State.WAITING)
            if waiting is not None and (piece is None or waiting.first_offset < piece.first_offset):
                return None
        if piece is not None:
            return piece.entry, piece
        entry = self._next_entry()
        return (entry, None) if entry is not None else None

    def take(self, entry: Entry, piece: Piece | None, size: int) -> Piece:
        """Take out at most ``size`` messages of what :meth:`peek` has just returned."""
        if piece is None:
            return self._take_new(entry, size)
        part = piece.split_head(size)
        if part is piece:
            heappop(self._ready)
        else:
            self.pieces[part] = None
            self.push(piece)  # its first offset has changed
        return part

    def push(self, piece: Piece) -> None:
        """File a piece that has become READY or WAITING."""
        self._order += 1
        if piece.state is State.READY:
            heappush(self._ready, (piece.first_offset, self._order, piece))
        elif self._in_order:
            heappush(self._waiting, (piece.first_offset, self._order, piece))

    def ready_count(self) -> int:
        """How many messages could go out now, permits and order aside."""
        new = self.partition.visible_end - self.next_offset - self.settled.count_from(self.next_offset)
        return max(0, new) + sum(piece.count for piece in self.pieces if piece.state is State.READY)

    # What is done

    def settle(self, runs: Iterable[Run]) -> None:
        """Count messages as done."""
        for first, end in runs:
            if first <= self.acked_through:
                self.acked_through = max(self.acked_through, end)
            else:
                self.settled.add(first, end)
        self._advance()

    def pass_to(self, offset: int) -> None:
        """Count everything below ``offset`` as done. No piece may hold any of it."""
        if offset > self.acked_through:
            self.acked_through = offset
            self._advance()

    def lag(self) -> int:
        """How many visible messages are not settled."""
        return max(0, self.partition.visible_end - self.acked_through - self.settled.count_from(self.acked_through))

    # Within

    def _next_entry(self) -> Entry | None:
        while True:
            self.next_offset = self.settled.end_of_run_at(self.next_offset)
            entry = self.partition.index.find(self.next_offset)
            if entry is None or entry.base_offset >= self.partition.visible_end:
                return None
            if entry.base_offset <= self.next_offset:
                return entry
            self.next_offset = entry.base_offset

    def _take_new(self, entry: Entry, size: int) -> Piece:
        runs = self.settled.missing(self.next_offset, entry.end_offset)
        piece = Piece(self, entry, runs)
        if self.tried is not None:
            piece = self._as_tried(piece, self.tried)
        part = piece.split_head(size)
        self.next_offset = part.runs[-1][1]
        self.pieces[part] = None
        return part

    def _as_tried(self, piece: Piece, before: TriedBefore) -> Piece:
        """The head of a new piece that had the same number of attempts before the queue started."""
        known, end = before.at(piece.first_offset, piece.runs[-1][1])
        head = piece.split(piece.first_offset, end)
        assert head is not None
        if known is not None:
            head.attempts, head.first_time_us, head.last_time_us = (
                known.attempts,
                known.first_time_us,
                known.last_time_us,
            )
        elif before.is_over(piece.first_offset):
            self.tried = None
        return head

    def _advance(self) -> None:
        self.acked_through = self.settled.end_of_run_at(self.acked_through)
        self.settled.discard_below(self.acked_through)
        # What was settled above is not known as such any more, so that it must not be found to be next.
        self.next_offset = max(self.next_offset, self.acked_through)

    @staticmethod
    def _top(heap: _PieceHeap, state: State) -> Piece | None:
        """The first piece of the heap that is still in ``state`` and where it was filed."""
        while heap:
            first, _, piece = heap[0]
            if piece.state is state and piece.first_offset == first:
                return piece
            heappop(heap)
        return None
