"""The series of all GPUs, as live updates tell them: named and labelled as `/metrics/gpus` does."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
from prometheus_client import Counter

from telemetry.alerts.labels import LabelSets, Rows
from telemetry.alerts.series import Budget, Column, Table, Times, Values
from telemetry.exposition import series_divisor, series_labels, series_name
from telemetry.live import LiveUpdate

log = logging.getLogger(__name__)

LEFT_OUT: Final = Counter(
    "telemetry_alerts_updates_left_out_total", "Live updates left out because of something in them that cannot be."
)
NO_ROOM: Final = Counter(
    "telemetry_alerts_gpu_updates_refused_total", "Updates of a GPU left out because there are too many GPUs."
)

_MS: Final = 1_000


class Fleet(Table):
    """One row a GPU, and another for each set of labels that it had lately; one column a metric that rules ask for."""

    def __init__(self, histories_us: Mapping[str, int], kept_us: int, gpus_max: int, budget: Budget) -> None:
        """No GPUs yet.

        Args:
            histories_us: the series that rules ask for, and how far back each is looked at.
            kept_us: how long a GPU is kept that says nothing.
            gpus_max: most label sets of GPUs.
            budget: what histories have to fit in.
        """
        super().__init__(histories_us, kept_us, budget)
        self._gpus_max = gpus_max
        # Of GPUs that say nothing any more too: if they speak again, their labels need not be waited for.
        self._labels_max = 2 * gpus_max
        self._labels: dict[str, Mapping[str, str]] = {}
        self._row_of: dict[str, int] = {}

    def ingest(self, update: LiveUpdate, received_us: int) -> list[str]:
        """Take in what changed; returns the GPUs whose samples were taken.

        A GPU whose labels have not been heard yet is left out: collectors say all labels again each minute, and until
        then its alerts would have other labels than before. Samples are as old as their records; those of a clock that
        is ahead count as of when they came. An update with anything in it that cannot be is left out whole, counted
        and logged: every program may publish to the topic.
        """
        try:
            labels = _labels(update)
            times = np.minimum(_times(update), received_us) // _MS * _MS  # Prometheus knows milliseconds
            columns = list(self._values(update))
        except (TypeError, ValueError, OverflowError) as error:
            LEFT_OUT.inc()
            log.warning("a live update is left out", extra={"error": str(error)})
            return []
        self._relabel(labels)
        self._make_rows(update.gpus, received_us)
        rows = np.fromiter((self._row_of.get(gpu, -1) for gpu in update.gpus), np.int64, len(update.gpus))
        known = rows >= 0
        for column, values in columns:
            there = known & ~np.isnan(values)
            if there.any():
                column.add(rows[there], times[there], values[there])
        if known.all():
            return update.gpus
        return [gpu for gpu, is_known in zip(update.gpus, known, strict=True) if is_known]

    def _values(self, update: LiveUpdate) -> Iterator[tuple[Column, Values]]:
        """The columns that rules ask for, in the units of their series; not a number where there is none."""
        for name, column in update.columns.items():
            mine = self.columns.get(series_name(name))
            if mine is not None:
                values = np.array(column.last, np.float64)
                if values.shape != (len(update.gpus),):
                    raise ValueError(f"{name!r} does not have one value a GPU")
                yield mine, values / series_divisor(name)

    def _relabel(self, labels: Mapping[str, Mapping[str, str]]) -> None:
        for gpu, new in labels.items():
            if self._labels.get(gpu) == new or (gpu not in self._labels and len(self._labels) >= self._labels_max):
                continue
            self._labels[gpu] = new
            row = self._row_of.pop(gpu, None)
            if row is not None:
                # The series with the labels of before end.
                for column in self.columns.values():
                    column.live[row] = False

    def _make_rows(self, gpus: list[str], now_us: int) -> None:
        new = [gpu for gpu in gpus if gpu not in self._row_of and gpu in self._labels]
        room = self._gpus_max - self.sets.size
        if len(new) > room:
            NO_ROOM.inc(len(new) - room)
            new = new[: max(room, 0)]
        if new:
            known = np.array([row for gpu in gpus if (row := self._row_of.get(gpu)) is not None], np.int64)
            rows = self.adopt(LabelSets.of([self._labels[gpu] for gpu in new]), now_us, known)
            self._row_of.update(zip(new, rows.tolist(), strict=True))

    def _lay_out(self, sets: LabelSets, origin: Rows) -> None:
        moved = np.full(max(self.sets.size, 1), -1)
        moved[origin[origin >= 0]] = np.flatnonzero(origin >= 0)
        super()._lay_out(sets, origin)
        places = ((gpu, int(moved[row])) for gpu, row in self._row_of.items())
        self._row_of = {gpu: row for gpu, row in places if row >= 0}


def _labels(update: LiveUpdate) -> dict[str, Mapping[str, str]]:
    """The labels of series, by GPU."""
    if len(set(update.gpus)) != len(update.gpus):
        raise ValueError("a GPU is there twice")
    if not all(isinstance(gpu, str) for gpu in (*update.gpus, *update.labels)):
        raise TypeError("a GPU is not a text")
    for labels in update.labels.values():
        if not isinstance(labels, dict) or not all(isinstance(text, str) for text in labels.values()):
            raise TypeError("labels are not texts by name")
    return {gpu: series_labels(gpu, labels) for gpu, labels in update.labels.items()}


def _times(update: LiveUpdate) -> Times:
    if not update.gpus:
        return np.zeros(0, np.int64)
    times = np.array(update.timestamps_us)
    if times.dtype != np.int64 or times.shape != (len(update.gpus),):
        raise ValueError("the timestamps are not one number of microseconds a GPU")
    return times
