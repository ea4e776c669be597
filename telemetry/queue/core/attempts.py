"""What is known of earlier attempts when a queue starts again, so that a message which ends queues is given up too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Tried(NamedTuple):
    """Messages ``[first, end)`` of a partition that a group was handed ``attempts`` times before the queue started."""

    first: int
    end: int
    attempts: int
    first_time_us: int
    last_time_us: int


class TriedBefore:
    """Attempts by offset. What was handed out and of which nothing else is known was handed out once."""

    __slots__ = ("_through", "_tried")

    def __init__(self, handed_through: int, tried: Iterable[Tried]) -> None:
        """``tried`` may overlap, as a batch is split and given back in parts: the most attempts count."""
        self._through = handed_through
        # The one to look at next comes last.
        self._tried = sorted(tried, reverse=True)

    def at(self, offset: int, end: int) -> tuple[Tried | None, int]:
        """What is known of ``offset``, and below which offset, at most ``end``, the same holds.

        Offsets must be asked for in rising order.
        """
        while self._tried and self._tried[-1].end <= offset:
            self._tried.pop()
        best: Tried | None = None
        if offset < self._through:
            best, end = Tried(offset, self._through, 1, 0, 0), min(end, self._through)
        for one in reversed(self._tried):
            if one.first > offset:
                end = min(end, one.first)
                break
            if one.end > offset:
                end = min(end, one.end)
                if best is None or one.attempts > best.attempts:
                    best = one
        return best, end

    def is_over(self, offset: int) -> bool:
        """Whether nothing is known of ``offset`` and what comes after it."""
        return offset >= self._through and all(one.end <= offset for one in self._tried)
