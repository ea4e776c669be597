"""When a lease runs out or a delay ends: one heap for all pieces, where a timer set again voids the one before."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from telemetry.queue.core.delivery import Piece


class Timers:
    """Pieces by the time at which something is due for them; each has at most one timer."""

    __slots__ = ("_heap", "_last", "_live")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Piece]] = []
        self._last = 0
        self._live = 0

    def set(self, piece: Piece, when_s: float) -> None:
        """Set the piece's timer, in place of the one it had."""
        if not piece.timer:
            self._live += 1
        self._last += 1
        piece.timer = self._last
        heappush(self._heap, (when_s, self._last, piece))
        if len(self._heap) > 2 * self._live + 1024:
            # Most leases end by an ack long before their time; what they leave behind must not pile up for hours.
            self._heap = [timer for timer in self._heap if timer[2].timer == timer[1]]
            heapify(self._heap)

    def cancel(self, piece: Piece) -> None:
        """Void the piece's timer, if it has one."""
        if piece.timer:
            piece.timer = 0
            self._live -= 1

    def pop_due(self, now_s: float) -> Piece | None:
        """The next piece whose time has come; its timer is spent."""
        while self._skip_void() and self._heap[0][0] <= now_s:
            piece = heappop(self._heap)[2]
            self.cancel(piece)
            return piece
        return None

    def next_s(self) -> float | None:
        """When the next timer is due."""
        return self._heap[0][0] if self._skip_void() else None

    def _skip_void(self) -> bool:
        while self._heap and self._heap[0][2].timer != self._heap[0][1]:
            heappop(self._heap)
        return bool(self._heap)
