"""The newest samples of series, and as many older ones as rules look back on: columns that all GPUs share.

A table holds the series of one or more names whose label sets are the same: all metrics of the fleet, or what one rule
records. A row is a label set, a column a name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from telemetry.alerts.expressions import LOOKBACK_US
from telemetry.alerts.labels import EVERYTHING, LabelSets, Mask, Rows

Times = NDArray[np.int64]
Values = NDArray[np.float64]

_Scalar = TypeVar("_Scalar", np.int64, np.float64, np.bool_)

NEVER: Final = np.iinfo(np.int64).min // 2
"""The time of a sample that is not there."""

_FIRST_SLOTS: Final = 8
_SLOT_BYTES: Final = 16
_TIDY_ROWS: Final = 64


class HistoryFullError(Exception):
    """Samples that rules look back on take more memory than they may."""


class Budget:
    """How much memory the histories of all series may take together."""

    def __init__(self, bytes_max: int) -> None:
        """Nothing is used."""
        self.bytes_max = bytes_max
        self.used = 0

    def take(self, count: int) -> None:
        """Use more.

        Raises:
            HistoryFullError: if there is not so much.
        """
        if self.used + count > self.bytes_max:
            raise HistoryFullError(
                f"the samples that rules look back on would take more than {self.bytes_max >> 20} MiB"
            )
        self.used += count


@dataclass(frozen=True, slots=True)
class Window:
    """Samples of all rows within a range.

    Attributes:
        times: microseconds since 1970, by row and slot.
        values: the values.
        inside: which slots hold a sample of the range; if in order, they lie side by side in every row.
    """

    times: Times
    values: Values
    inside: Mask


class History:
    """Samples of the last while: a ring a row."""

    def __init__(self, rows: int, length_us: int, budget: Budget) -> None:
        """No samples yet.

        Args:
            rows: how many rows.
            length_us: how far back samples are asked for.
            budget: what the samples have to fit in.
        """
        self.length_us = length_us
        self._budget = budget
        budget.take(rows * _FIRST_SLOTS * _SLOT_BYTES)
        self._times: Times = np.full((rows, _FIRST_SLOTS), NEVER)
        self._values: Values = np.full((rows, _FIRST_SLOTS), np.nan)
        self._next = np.zeros(rows, np.int64)

    def add(self, rows: Rows, times: Times, values: Values) -> None:
        """Add a sample to some rows, each newer than those that the row has.

        Raises:
            HistoryFullError: if there is no room.
        """
        slots = self._next[rows]
        if np.any(self._times[rows, slots] > times - self.length_us):
            self._grow()
            slots = self._next[rows]
        self._times[rows, slots] = times
        self._values[rows, slots] = values
        self._next[rows] = (slots + 1) % self._times.shape[1]

    def window(self, after_us: int, until_us: int | None, in_order: bool) -> Window:
        """The samples later than one time and not later than another, if there is another."""
        times, values = self._in_order() if in_order else (self._times, self._values)
        inside = times > after_us
        if until_us is not None:
            inside &= times <= until_us
        if in_order:
            # Slots in which no row has anything need not be looked at.
            used = np.flatnonzero(inside.any(axis=0))
            part = np.s_[:, used[0] : used[-1] + 1] if len(used) else np.s_[:, :0]
            times, values, inside = times[part], values[part], inside[part]
        return Window(times, values, inside)

    def lay_out(self, origin: Rows) -> History:
        """The same samples with other rows: each is the row ``origin`` says, or new where that is negative."""
        laid = History.__new__(History)
        laid.length_us, laid._budget = self.length_us, self._budget
        self._budget.take((len(origin) - len(self._next)) * self._times.shape[1] * _SLOT_BYTES)
        laid._times = _taken(self._times, origin, NEVER)
        laid._values = _taken(self._values, origin, np.nan)
        laid._next = _taken(self._next, origin, 0)
        return laid

    def release(self) -> None:
        """Give the memory back."""
        self._budget.take(-self._times.size * _SLOT_BYTES)

    def _in_order(self) -> tuple[Times, Values]:
        slots = self._times.shape[1]
        first = int(self._next[0]) if len(self._next) else 0
        if np.all(self._next == first):  # as in a fleet that speaks in step
            return np.roll(self._times, -first, axis=1), np.roll(self._values, -first, axis=1)
        order = (self._next[:, None] + np.arange(slots)) % slots
        return np.take_along_axis(self._times, order, axis=1), np.take_along_axis(self._values, order, axis=1)

    def _grow(self) -> None:
        rows, slots = self._times.shape
        more = slots // 2
        self._budget.take(rows * more * _SLOT_BYTES)
        times, values = self._in_order()
        self._times = np.concatenate([times, np.full((rows, more), NEVER)], axis=1)
        self._values = np.concatenate([values, np.full((rows, more), np.nan)], axis=1)
        self._next = np.full(rows, slots)


class Column:
    """The series of one name.

    Attributes:
        times: when each row's newest sample was taken; :data:`NEVER` for none.
        values: its value.
        live: whether it still counts: a series that ended has none that does, whatever its age.
        history: older samples, if rules look back.
        overflow: why there are fewer than rules look back on; empty when there are not.
    """

    def __init__(self, rows: int, history_us: int, budget: Budget) -> None:
        """No samples yet."""
        self.times: Times = np.full(rows, NEVER)
        self.values: Values = np.full(rows, np.nan)
        self.live: Mask = np.zeros(rows, np.bool_)
        self.overflow = ""
        self.history: History | None = None
        if history_us:
            try:
                self.history = History(rows, history_us, budget)
            except HistoryFullError as error:
                self.overflow = str(error)

    def add(self, rows: Rows, times: Times, values: Values) -> None:
        """Take one sample a row; those not newer than what the row has are left out."""
        newer = times > self.times[rows]
        if not newer.all():
            rows, times, values = rows[newer], times[newer], values[newer]
        self.times[rows] = times
        self.values[rows] = values
        self.live[rows] = True
        if self.history is not None:
            try:
                self.history.add(rows, times, values)
            except HistoryFullError as error:
                self._give_up(error)

    def lay_out(self, origin: Rows) -> None:
        """Move to other rows: each is the row ``origin`` says, or new where that is negative."""
        self.times = _taken(self.times, origin, NEVER)
        self.values = _taken(self.values, origin, np.nan)
        self.live = _taken(self.live, origin, False)
        if self.history is not None:
            try:
                self.history = self.history.lay_out(origin)
            except HistoryFullError as error:
                self._give_up(error)

    def _give_up(self, error: HistoryFullError) -> None:
        assert self.history is not None
        self.history.release()
        self.history, self.overflow = None, str(error)


class Table:
    """Series of some names that share their label sets.

    Attributes:
        sets: the label sets, one a row.
        columns: by the series' name.
    """

    def __init__(self, histories_us: Mapping[str, int], kept_us: int, budget: Budget) -> None:
        """No series yet.

        Args:
            histories_us: the names, and how far back each is looked at.
            kept_us: how long a series without new samples is kept.
            budget: what histories have to fit in.
        """
        self.sets = LabelSets.of([])
        self.columns = {name: Column(0, length_us, budget) for name, length_us in histories_us.items()}
        self._kept_us = kept_us + LOOKBACK_US

    def adopt(self, sets: LabelSets, now_us: int, keep: Rows | None = None) -> Rows:
        """Make rows for label sets that have none; returns the row of each.

        If all rows that still matter are among them, they become the table's own, so that what is worked out about
        them serves for both. Rows of ``keep`` matter even without samples.
        """
        rows = self.rows_of(sets)
        new = np.flatnonzero(rows < 0)
        if not len(new):
            return rows
        wanted = self._wanted(now_us)
        if keep is not None:
            wanted[keep] = True
        among = np.zeros(self.sets.size, np.bool_)
        among[rows[rows >= 0]] = True
        if sets.distinct and not np.any(wanted & ~among):
            self._lay_out(sets if sets.lasting else sets.kept(distinct=True), rows)
        else:
            tidy = np.count_nonzero(~wanted) > _TIDY_ROWS
            keep = np.flatnonzero(wanted | among) if tidy else np.arange(self.sets.size)
            laid = self.sets.take(keep).followed_by(sets.take(new)).kept(distinct=True)
            self._lay_out(laid, np.concatenate([keep, np.full(len(new), -1)]))
        return self.rows_of(sets)

    def rows_of(self, sets: LabelSets) -> Rows:
        """The row of each label set; -1 for none."""
        if sets is self.sets:
            return np.arange(sets.size)
        mine, theirs, count = self.sets.pairs(sets, EVERYTHING)
        row_of = np.full(count, -1)
        row_of[mine] = np.arange(self.sets.size)
        return row_of[theirs]

    def _wanted(self, now_us: int) -> Mask:
        """Rows that have a sample that still matters."""
        wanted = np.zeros(self.sets.size, np.bool_)
        for column in self.columns.values():
            wanted |= column.times > now_us - self._kept_us
        return wanted

    def _lay_out(self, sets: LabelSets, origin: Rows) -> None:
        for column in self.columns.values():
            column.lay_out(origin)
        self.sets = sets


def _taken(array: NDArray[_Scalar], origin: Rows, missing: float | bool) -> NDArray[_Scalar]:
    if not len(array):
        return np.full((len(origin), *array.shape[1:]), missing, array.dtype)
    taken: NDArray[_Scalar] = array[np.maximum(origin, 0)]
    taken[origin < 0] = missing
    return taken
