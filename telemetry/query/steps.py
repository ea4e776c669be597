"""Series of several collectors as one: which steps only one of them knows about, and what becomes of the others.

No I/O. A GPU that went from one collector to another has records on both, and both may hold the same ones. Where only
one can have records, its values stand. The steps that several may have records of are aggregated again from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isnan, nan

import polars as pl

from telemetry.model import TIMESTAMP
from telemetry.query.fleet import Holder
from telemetry.storage.series import STEP, Aggregation, Steps, across, filled, in_steps
from telemetry.v1 import query_pb2

TIME_TYPE = pl.Datetime("us", "UTC")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Steps from place ``first`` to ``last``, both included."""

    first: int
    last: int

    def span_us(self, steps: Steps, start_us: int, end_us: int) -> tuple[int, int]:
        """Its time within ``start_us`` ≤ time < ``end_us``."""
        begins = steps.start_us + self.first * steps.width_us
        return max(begins, start_us), min(steps.start_us + (self.last + 1) * steps.width_us, end_us)


def doubtful(holders: Sequence[Holder], steps: Steps) -> list[Stretch]:
    """The steps that more than one of a GPU's holders may have records of."""
    ranges = []
    for holder in holders:
        first = max((holder.first_us - steps.start_us) // steps.width_us, 0)
        last = min((holder.last_us - steps.start_us) // steps.width_us, steps.count - 1)
        if first <= last:
            ranges.append((first, last))
    ranges.sort()
    shared: list[Stretch] = []
    reached = -1
    for first, last in ranges:
        if first <= reached:
            shared.append(Stretch(first, min(last, reached)))
        reached = max(reached, last)
    return _joined(shared)


def _joined(stretches: Sequence[Stretch]) -> list[Stretch]:
    joined: list[Stretch] = []
    for each in sorted(stretches, key=lambda stretch: stretch.first):
        if joined and each.first <= joined[-1].last + 1:
            joined[-1] = Stretch(joined[-1].first, max(joined[-1].last, each.last))
        else:
            joined.append(each)
    return joined


def frame_of_records(records: Sequence[query_pb2.Record], metrics: Sequence[str]) -> pl.DataFrame:
    """Records as ``in_steps`` wants them."""
    times = pl.Series(TIMESTAMP, [record.timestamp.ToMicroseconds() for record in records], pl.Int64).cast(TIME_TYPE)
    values = [pl.Series(name, [record.metrics.get(name) for record in records], pl.Float64) for name in metrics]
    return pl.DataFrame([times, *values])


def overlaid(
    parts: Sequence[query_pb2.Series],
    stretches: Sequence[Stretch],
    frames: Sequence[pl.DataFrame],
    steps: Steps,
    metrics: Sequence[str],
    aggregation: Aggregation,
) -> tuple[query_pb2.Series, int]:
    """A GPU's series from those of its holders.

    Args:
        parts: what the holders say.
        stretches: the steps that several may have records of.
        frames: the records of those steps, each once, in order of time.
        steps: the steps of all.
        metrics: the metrics asked for.
        aggregation: how samples become one.

    Returns:
        The series, and how many values it lacks because records are gone and several holders have a value without.
    """
    known = {column.metric for part in parts for column in part.columns}
    again = in_steps(iter(frames), steps, metrics, aggregation) if frames else None
    series = query_pb2.Series(gpu=parts[0].gpu)
    undecided = 0
    for place, metric in enumerate(metrics):
        if metric not in known:
            continue
        columns = [column.values for part in parts for column in part.columns if column.metric == metric]
        values = [next((value for value in step if not isnan(value)), nan) for step in zip(*columns, strict=True)]
        fresh = [nan] * steps.count if again is None else filled(again, steps, str(place))
        for stretch in stretches:
            for step in range(stretch.first, stretch.last + 1):
                if not isnan(fresh[step]):
                    values[step] = fresh[step]
                elif sum(not isnan(column[step]) for column in columns) > 1:
                    values[step] = nan
                    undecided += 1
        series.columns.add(metric=metric, values=values)
    return series, undecided


def grouped(
    gpus: Mapping[str, query_pb2.Gpu],
    series: Iterable[query_pb2.Series],
    by: Sequence[str],
    steps: Steps,
    metrics: Sequence[str],
    aggregation: Aggregation,
) -> list[query_pb2.Series]:
    """Series of GPUs as one series for each group of GPUs whose labels ``by`` are the same, in order of the labels."""
    groups: dict[tuple[str, ...], list[query_pb2.Series]] = {}
    for each in series:
        labels = gpus[each.gpu].labels
        groups.setdefault(tuple(labels.get(name, "") for name in by), []).append(each)
    result = []
    for key, members in sorted(groups.items()):
        frame = across([_frame_of_series(member, steps, metrics) for member in members], aggregation)
        known = {column.metric for member in members for column in member.columns}
        columns = [
            query_pb2.MetricColumn(metric=metric, values=filled(frame, steps, str(place)))
            for place, metric in enumerate(metrics)
            if metric in known
        ]
        result.append(query_pb2.Series(group=dict(zip(by, key, strict=True)), columns=columns))
    return result


def _frame_of_series(series: query_pb2.Series, steps: Steps, metrics: Sequence[str]) -> pl.DataFrame:
    columns = {column.metric: column.values for column in series.columns}
    values = [
        pl.Series(str(place), columns.get(metric, [None] * steps.count), pl.Float64).fill_nan(None)
        for place, metric in enumerate(metrics)
    ]
    return pl.DataFrame([pl.int_range(steps.count, dtype=pl.Int64, eager=True).alias(STEP), *values])


def steps_of(answer: query_pb2.QuerySeriesResponse) -> Steps:
    """The steps of an answer."""
    times, width_us = answer.timestamps_us, answer.step.ToMicroseconds()
    assert all(after - before == width_us for before, after in pairwise(times[:2]))
    return Steps(times[0], width_us, len(times))
