"""What a streamer counts: one set of numbers behind ``/stats``, ``/metrics`` and the log."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from telemetry import __version__

RATE_S: Final = 10.0
"""Rates are over this time."""


@dataclass(slots=True)
class Counts:
    """Totals since the process began.

    Attributes:
        rows: rows read and handed on.
        records: records that the queue has confirmed.
        samples: values in them.
        messages: messages in which they went.
        bytes: bytes of these messages.
        quarantined: rows that could not be read, wholly or in part.
        skipped: messages that the queue had from an earlier run.
    """

    rows: int = 0
    records: int = 0
    samples: int = 0
    messages: int = 0
    bytes: int = 0
    quarantined: int = 0
    skipped: int = 0


_HELP: Final = {
    "rows": "Rows read and handed on.",
    "records": "Records that the queue has confirmed.",
    "samples": "Values in confirmed records.",
    "messages": "Messages that the queue has confirmed.",
    "bytes": "Bytes of confirmed messages.",
    "quarantined": "Rows that could not be read, wholly or in part.",
    "skipped": "Messages that the queue had from an earlier run.",
}


@dataclass(slots=True)
class FileProgress:
    """How far one file is.

    Attributes:
        file: its path.
        size: its bytes, as they lie on disk.
        position: how many of them are read, in this pass.
        rows: rows handed on, in all passes.
        quarantined: rows that could not be read.
        passes: how often it was read to the end.
        error: why it cannot be streamed; empty while it can.
    """

    file: str
    size: int = 0
    position: int = 0
    rows: int = 0
    quarantined: int = 0
    passes: int = 0
    error: str = ""


@dataclass(slots=True)
class Stats:
    """The state of a streamer.

    Attributes:
        state: ``starting``, ``waiting for the queue``, ``streaming``, ``finished`` or ``stopping``.
    """

    state: str = "starting"
    counts: Counts = field(default_factory=Counts)
    files: list[FileProgress] = field(default_factory=list)
    start_time: datetime = field(default_factory=lambda: datetime.now(UTC))
    _history: deque[tuple[float, int, int]] = field(default_factory=deque)

    def tick(self) -> None:
        """Remember the totals for rates; call about once a second."""
        now = time.monotonic()
        self._history.append((now, self.counts.rows, self.counts.samples))
        while len(self._history) > 2 and self._history[1][0] < now - RATE_S:
            self._history.popleft()

    def rates(self) -> tuple[float, float]:
        """Rows and samples a second, lately."""
        if not self._history:
            return 0.0, 0.0
        then, rows, samples = self._history[0]
        seconds = max(time.monotonic() - then, 1e-3)
        return (self.counts.rows - rows) / seconds, (self.counts.samples - samples) / seconds

    def report(self) -> dict[str, object]:
        """Everything, for ``/stats``."""
        rows_per_s, samples_per_s = self.rates()
        counts = {entry.name: getattr(self.counts, entry.name) for entry in fields(Counts)}
        return {
            "version": __version__,
            "start_time": self.start_time,
            "state": self.state,
            **counts,
            "rows_per_s": round(rows_per_s, 1),
            "samples_per_s": round(samples_per_s, 1),
            "files": self.files,
        }


class StatsCollector(Collector):
    """The totals in Prometheus' form."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        """The counters, and each file's progress."""
        for name, text in _HELP.items():
            yield CounterMetricFamily(f"telemetry_streamer_{name}", text, value=getattr(self._stats.counts, name))
        progress = GaugeMetricFamily(
            "telemetry_streamer_file_progress_ratio", "How much of a file is read, in this pass.", labels=["file"]
        )
        for file in self._stats.files:
            progress.add_metric([file.file], file.position / file.size if file.size else 0.0)
        yield progress
