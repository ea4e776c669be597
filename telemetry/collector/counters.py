"""What a collector counts. One value feeds ``/stats``, ``/metrics`` and the GetStats call."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from telemetry import __version__
from telemetry.storage.compactor import CompactionStats
from telemetry.storage.store import Committed, StoreStats
from telemetry.v1 import query_pb2

RATE_WINDOW_S: Final = 10.0
"""The time over which the rate is taken."""

_COUNTERS: Final = {
    "messages": "Messages received.",
    "records": "Records stored.",
    "samples": "Samples stored.",
    "duplicates": "Records that were there already with the same values.",
    "conflicts": "Samples that were there already with another value.",
    "quarantined": "Rows and messages put in quarantine.",
}
_GAUGES: Final = {
    "gpus": "GPUs known.",
    "stored_bytes": "Bytes stored.",
    "cached_records": "Records in memory.",
    "cached_bytes": "Bytes that records in memory take, about.",
    "workers": "Workers.",
    "record_rate": "Records stored a second, over the last 10 s.",
    "damaged_files": "Cold files that could not be read.",
    "quarantine_bytes": "Bytes of the quarantine.",
}
_OF_THE_STORE: Final = {
    "quarantine_dropped_bytes": "Bytes of the quarantine that went to make room.",
    "compactions": "Compaction jobs done.",
    "compaction_failures": "Rounds of compaction that failed.",
    "damaged_lines": "Lines of hot files that were no records when they were compacted.",
}
_TIERS: Final = {"files": "Files of a tier.", "bytes": "Bytes of a tier.", "rows": "Rows of a tier; 0 for hot."}


@dataclass(slots=True)
class Counters:
    """Counts since the start of the process."""

    workers: int
    clock: Callable[[], float] = time.monotonic
    started_us: int = field(default_factory=lambda: time.time_ns() // 1000)
    messages: int = 0
    records: int = 0
    samples: int = 0
    duplicates: int = 0
    conflicts: int = 0
    quarantined: int = 0
    _recent: deque[tuple[float, int]] = field(default_factory=deque)

    def committed(self, outcome: Committed, messages: int, quarantined: int) -> None:
        """Count what has become durable."""
        self.messages += messages
        self.records += outcome.records
        self.samples += outcome.samples
        self.duplicates += outcome.duplicates
        self.conflicts += outcome.conflicts
        self.quarantined += quarantined
        self._recent.append((self.clock(), outcome.records))
        self._forget_old()

    def record_rate(self) -> float:
        """Records a second over the last 10 s."""
        self._forget_old()
        return sum(records for _, records in self._recent) / RATE_WINDOW_S

    def _forget_old(self) -> None:
        while self._recent and self._recent[0][0] < self.clock() - RATE_WINDOW_S:
            self._recent.popleft()


def collector_stats(counters: Counters, store: StoreStats, compaction: CompactionStats) -> query_pb2.CollectorStats:
    """All counts as the contract has them."""
    stats = query_pb2.CollectorStats(
        version=__version__,
        start_time=timestamp(counters.started_us),
        gpus=store.gpus,
        stored_bytes=store.stored_bytes,
        cached_records=store.cached_records,
        cached_bytes=store.cached_bytes,
        workers=counters.workers,
        record_rate=counters.record_rate(),
        tiers=[
            query_pb2.TierStats(tier=name, files=tier.files, bytes=tier.size, rows=tier.rows)
            for name, tier in store.tiers.items()
        ],
        damaged_files=store.damaged_files,
        quarantine_bytes=store.quarantine_bytes,
        quarantine_dropped_bytes=store.quarantine_dropped_bytes,
        compactions=compaction.jobs,
        compaction_failures=compaction.failures,
        damaged_lines=compaction.damaged_lines,
        **{name: getattr(counters, name) for name in _COUNTERS},
    )
    if store.checkpoint_us is not None:
        stats.checkpoint_time.CopyFrom(timestamp(store.checkpoint_us))
    if compaction.last_us is not None:
        stats.compaction_time.CopyFrom(timestamp(compaction.last_us))
    return stats


def timestamp(instant_us: int) -> Timestamp:
    """Microseconds since 1970 as a protobuf timestamp."""
    return Timestamp(seconds=instant_us // 1_000_000, nanos=instant_us % 1_000_000 * 1000)


class StatsMetrics(Collector):
    """The counts as Prometheus reads them: ``telemetry_collector_…``."""

    def __init__(self, stats: Callable[[], query_pb2.CollectorStats]) -> None:
        """Read the counts with ``stats`` at each scrape."""
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        """The metrics."""
        stats = self._stats()
        for name, text in {**_COUNTERS, **_OF_THE_STORE}.items():
            yield CounterMetricFamily(f"telemetry_collector_{name}", text, value=getattr(stats, name))
        for name, text in _GAUGES.items():
            yield GaugeMetricFamily(f"telemetry_collector_{name}", text, value=getattr(stats, name))
        for name, text in _TIERS.items():
            family = GaugeMetricFamily(f"telemetry_collector_tier_{name}", text, labels=["tier"])
            for tier in stats.tiers:
                family.add_metric([tier.tier], getattr(tier, name))
            yield family
        if stats.HasField("compaction_time"):
            yield GaugeMetricFamily(
                "telemetry_collector_compaction_timestamp_seconds",
                "When the last round of compaction ended that did not fail.",
                value=stats.compaction_time.ToMicroseconds() / 1e6,
            )
        if stats.HasField("checkpoint_time"):
            yield GaugeMetricFamily(
                "telemetry_collector_checkpoint_timestamp_seconds",
                "When the newest checkpoint was written.",
                value=stats.checkpoint_time.ToMicroseconds() / 1e6,
            )
