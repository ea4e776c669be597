"""When to evaluate: at even times, shortly after the feed brings something. No I/O; the times are arguments.

Collectors publish once a second, each in its own rhythm. Evaluating just before they do would make every alert a second
late, so the rhythm of the evaluations follows that of the feed: seldom, in one step, so that otherwise the times of
evaluations are exactly one interval apart, as ``for`` wants them.
"""

from __future__ import annotations

from typing import Final

TICK_US: Final = 1_000_000
"""The shortest interval of a group, and the grid on which all lie; in microseconds."""

AFTER_US: Final = 100_000
"""How long after the feed the evaluations ideally come."""

LATE_US: Final = 500_000
"""Evaluations that always come so long after the feed or longer are moved."""

WATCHED: Final = 10
"""How many evaluations in a row must be late."""


class Schedule:
    """Says when the next evaluation is, and of what."""

    def __init__(self, now_us: int) -> None:
        """Begin now."""
        self._next_us = now_us
        self._shortest_us = TICK_US
        self._late = 0
        self.number = 0
        """How many ticks there were."""
        self.missed = 0
        """How many there should have been besides: the ones before took too long."""

    @property
    def next_us(self) -> int:
        """The time of the next tick."""
        return self._next_us

    def wait_us(self, now_us: int) -> int:
        """How long to wait for the next tick: at most one, in case the clock was set back."""
        return min(max(self._next_us - now_us, 0), TICK_US)

    def tick(self, now_us: int, arrived_us: int | None) -> int:
        """Begin the tick that is due; returns its time, which expressions are evaluated for.

        Args:
            now_us: the time now.
            arrived_us: when the feed last brought something since the tick before; ``None`` when it did not.
        """
        behind = (now_us - self._next_us) // TICK_US
        if behind < -1 or behind > 60:  # the clock was set
            self._next_us, behind = now_us, 0
        if behind > 0:
            self.missed += behind
            self.number += behind
            self._next_us += behind * TICK_US
        tick_us = self._next_us
        self._next_us += TICK_US - self._step(tick_us, arrived_us)
        self.number += 1
        return tick_us

    def turn(self, interval_us: int, offset: int) -> int:
        """Counts the times at which a group with this interval is due: when it is higher than before, it is again.

        Args:
            interval_us: rounded to whole ticks.
            offset: differs from group to group, so that they are not all due at once.
        """
        return (self.number + offset) // max(round(interval_us / TICK_US), 1)

    def _step(self, tick_us: int, arrived_us: int | None) -> int:
        """By how much the next ticks come sooner."""
        if arrived_us is None:
            return 0
        after_us = tick_us - arrived_us
        if after_us < LATE_US:
            self._late, self._shortest_us = 0, TICK_US
            return 0
        self._late += 1
        self._shortest_us = min(self._shortest_us, after_us)
        if self._late < WATCHED:
            return 0
        step_us = self._shortest_us - AFTER_US
        self._late, self._shortest_us = 0, TICK_US
        return step_us
