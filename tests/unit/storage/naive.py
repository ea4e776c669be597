"""A store as anybody would write it: a dictionary, and answers worked out row by row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import quantiles

from telemetry.storage.series import Aggregation, Steps
from telemetry.storage.store import Span

Metrics = Mapping[str, float]
Row = tuple[str, int, Mapping[str, float | None]]
"""GPU, microseconds since 1970, metrics."""


@dataclass
class NaiveStore:
    """Every record, and those of which only roll-ups are left."""

    rows: dict[str, dict[int, dict[str, float]]] = field(default_factory=lambda: defaultdict(dict))
    rolled: dict[str, dict[int, dict[str, float]]] = field(default_factory=lambda: defaultdict(dict))
    latest: dict[str, dict[str, tuple[int, float]]] = field(default_factory=lambda: defaultdict(dict))
    newest_us: int = 0

    def commit(self, rows: Sequence[Row]) -> int:
        """Take rows in the order of the queue; returns how many samples were new or different."""
        before = {(gpu, time, name): value for gpu, time, name, value in self._samples()}
        for gpu, time, metrics in rows:
            present = {name: value for name, value in metrics.items() if value is not None}
            self.rows[gpu].setdefault(time, {}).update(present)
            self.newest_us = max(self.newest_us, time)
            for name, value in present.items():
                if time >= self.latest[gpu].get(name, (time, 0.0))[0]:
                    self.latest[gpu][name] = (time, value)
        after = {(gpu, time, name): value for gpu, time, name, value in self._samples()}
        return len(after.items() - before.items())

    def expire(self, before_us: int) -> None:
        """Leave only roll-ups of what is before a time."""
        for gpu, rows in self.rows.items():
            for time in [time for time in rows if time < before_us]:
                self.rolled[gpu][time] = rows.pop(time)

    def records(self, gpu: str, span: Span) -> list[tuple[int, dict[str, float]]]:
        """A GPU's records, in order of time."""
        return [(time, metrics) for time, metrics in sorted(self.rows.get(gpu, {}).items()) if _within(time, span)]

    def series(self, gpu: str, span: Span, steps: Steps, metric: str, aggregation: Aggregation) -> dict[int, float]:
        """One value for each step that has any."""
        held: dict[int, list[float]] = defaultdict(list)
        rows = {**self.rolled.get(gpu, {}), **self.rows.get(gpu, {})}
        if aggregation in (Aggregation.P50, Aggregation.P95, Aggregation.P99):
            rows = self.rows.get(gpu, {})
        for time, metrics in sorted(rows.items()):
            if _within(time, span) and metric in metrics:
                held[(time - steps.start_us) // steps.width_us].append(metrics[metric])
        return {step: aggregated(values, aggregation) for step, values in held.items()}

    def _samples(self) -> list[tuple[str, int, str, float]]:
        return [
            (gpu, time, name, value)
            for gpu, rows in self.rows.items()
            for time, metrics in rows.items()
            for name, value in metrics.items()
        ]


def aggregated(values: Sequence[float], aggregation: Aggregation) -> float:
    """What values of one step, in order of time, come to."""
    match aggregation:
        case Aggregation.AVG:
            return sum(values) / len(values)
        case Aggregation.MIN:
            return min(values)
        case Aggregation.MAX:
            return max(values)
        case Aggregation.SUM:
            return sum(values)
        case Aggregation.COUNT:
            return float(len(values))
        case Aggregation.LAST:
            return values[-1]
        case _:
            percent = int(aggregation.value[1:])
            return values[0] if len(values) == 1 else quantiles(values, n=100, method="inclusive")[percent - 1]


def _within(time: int, span: Span) -> bool:
    return (span.start_us is None or time >= span.start_us) and (span.end_us is None or time < span.end_us)
