"""How much happened over the last ten seconds."""

from __future__ import annotations

from typing import Final

WINDOW_S: Final = 10
"""The span that rates are taken over, in seconds."""


class Meter:
    """Counts something, in all and a second."""

    __slots__ = ("_buckets", "_second", "total")

    def __init__(self) -> None:
        self.total = 0
        self._buckets = [0] * WINDOW_S
        self._second = 0

    def add(self, amount: int, now_s: float) -> None:
        """Count ``amount`` more."""
        self._forget(int(now_s))
        self._buckets[self._second % len(self._buckets)] += amount
        self.total += amount

    def rate(self, now_s: float) -> float:
        """How many a second, over the last ``WINDOW_S`` seconds, the one that is running included."""
        self._forget(int(now_s))
        return sum(self._buckets) / WINDOW_S

    def _forget(self, second: int) -> None:
        for passed in range(max(self._second + 1, second - WINDOW_S + 1), second + 1):
            self._buckets[passed % len(self._buckets)] = 0
        self._second = max(self._second, second)
