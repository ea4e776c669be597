"""Sets of offsets kept as runs, so that a batch costs as much as a message."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Run = tuple[int, int]
"""Consecutive offsets: the first, and the one after the last."""


def count(runs: Iterable[Run]) -> int:
    """How many offsets ``runs`` holds."""
    return sum(end - first for first, end in runs)


def intersect(runs: Iterable[Run], first: int, end: int) -> tuple[Run, ...]:
    """The part of ``runs`` within ``[first, end)``."""
    return tuple((max(a, first), min(b, end)) for a, b in runs if a < end and b > first)


def subtract(runs: Iterable[Run], first: int, end: int) -> tuple[Run, ...]:
    """``runs`` without ``[first, end)``."""
    left: list[Run] = []
    for a, b in runs:
        if a < min(b, first):
            left.append((a, min(b, first)))
        if max(a, end) < b:
            left.append((max(a, end), b))
    return tuple(left)


def head(runs: Iterable[Run], size: int) -> tuple[Run, ...]:
    """The first ``size`` offsets of ``runs``."""
    taken: list[Run] = []
    for first, end in runs:
        if size <= 0:
            break
        taken.append((first, min(end, first + size)))
        size -= end - first
    return tuple(taken)


class RunSet:
    """A set of offsets, kept as sorted runs that do not touch."""

    __slots__ = ("_ends", "_firsts")

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        self._firsts: list[int] = []
        self._ends: list[int] = []
        for first, end in runs:
            self.add(first, end)

    def add(self, first: int, end: int) -> None:
        """Add ``[first, end)``."""
        if first >= end:
            return
        low = bisect_left(self._ends, first)
        high = bisect_right(self._firsts, end)
        if low < high:
            first = min(first, self._firsts[low])
            end = max(end, self._ends[high - 1])
        self._firsts[low:high] = [first]
        self._ends[low:high] = [end]

    def discard_below(self, offset: int) -> None:
        """Remove every offset below ``offset``."""
        low = bisect_right(self._ends, offset)
        del self._firsts[:low], self._ends[:low]
        if self._firsts and self._firsts[0] < offset:
            self._firsts[0] = offset

    def end_of_run_at(self, offset: int) -> int:
        """The end of the run that holds ``offset``, or ``offset`` when none does."""
        at = bisect_right(self._firsts, offset) - 1
        return max(offset, self._ends[at]) if at >= 0 else offset

    def missing(self, first: int, end: int) -> tuple[Run, ...]:
        """The runs of ``[first, end)`` that are not in the set."""
        if not self._firsts or self._ends[-1] <= first or self._firsts[0] >= end:
            return ((first, end),) if first < end else ()
        left: list[Run] = []
        for at in range(bisect_right(self._ends, first), len(self._firsts)):
            if self._firsts[at] >= end:
                break
            if self._firsts[at] > first:
                left.append((first, self._firsts[at]))
            first = self._ends[at]
        if first < end:
            left.append((first, end))
        return tuple(left)

    def count_from(self, offset: int) -> int:
        """How many offsets at or above ``offset`` are in the set."""
        low = bisect_right(self._ends, offset)
        return sum(self._ends[at] - max(offset, self._firsts[at]) for at in range(low, len(self._firsts)))

    def __iter__(self) -> Iterator[Run]:
        return zip(self._firsts, self._ends, strict=True)

    def __len__(self) -> int:
        """How many runs there are."""
        return len(self._firsts)
