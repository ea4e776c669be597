"""Metrics over time, in steps: how many samples become one, for a GPU and across GPUs."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import nan
from typing import Final

import polars as pl

from telemetry.model import GPU, TIMESTAMP

STEP: Final = "step"
"""Name of the column that holds a step's place, counted from 0. Metrics are called by theirs, as strings."""


class Aggregation(enum.Enum):
    """How many samples become one."""

    AVG = "avg"
    MIN = "min"
    MAX = "max"
    SUM = "sum"
    COUNT = "count"
    LAST = "last"
    P50 = "p50"
    P95 = "p95"
    P99 = "p99"


_PARTS: Final = {
    Aggregation.AVG: None,
    Aggregation.MIN: "min",
    Aggregation.MAX: "max",
    Aggregation.SUM: "sum",
    Aggregation.COUNT: "count",
    Aggregation.LAST: "last",
}
"""Which part of a partial result an aggregation is; ``None`` is the sum divided by the count."""

COMPOSABLE: Final = frozenset(_PARTS)
"""Aggregations that can be put together from parts, such as roll-ups."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Steps of equal width, the first beginning at ``start_us``, a multiple of the width since 1970."""

    start_us: int
    width_us: int
    count: int

    @classmethod
    def over(cls, start_us: int, end_us: int, width_us: int) -> Steps:
        """The steps that meet ``start_us`` ≤ time < ``end_us``."""
        first = start_us - start_us % width_us
        return cls(first, width_us, -((first - end_us) // width_us))

    @property
    def times_us(self) -> list[int]:
        """When each step begins."""
        return [self.start_us + place * self.width_us for place in range(self.count)]


def in_steps(
    records: Iterator[pl.DataFrame], steps: Steps, metrics: Sequence[str], aggregation: Aggregation
) -> pl.DataFrame:
    """One GPU's samples, a row for each step that has any: its place and a column for each metric by place.

    ``records`` come in order of time, in pieces: ``timestamp`` and a column for each metric.
    """
    places = [str(place) for place in range(len(metrics))]
    names = [pl.col(name).alias(place) for name, place in zip(metrics, places, strict=True)]
    pieces = (frame.select(step_of(steps), *names) for frame in records)
    aggregated = [
        piece.group_by(STEP, maintain_order=True).agg(_expression(aggregation, place) for place in places)
        for piece in _whole_steps(pieces)
    ]
    schema = pl.Schema({STEP: pl.Int64(), **dict.fromkeys(places, pl.Float64())})
    return pl.concat([pl.DataFrame(schema=schema), *(piece.cast(schema) for piece in aggregated)])


def of_rows(rows: pl.DataFrame, steps: Steps, places: int, aggregation: Aggregation) -> pl.DataFrame:
    """Samples of many GPUs, a row for each GPU and step: ``gpu``, the step and the metrics by place.

    ``rows`` have ``gpu``, ``timestamp`` and the metrics by place, those of a GPU in order of time, and are all there
    are of the steps that they lie in.
    """
    names = [str(place) for place in range(places)]
    grouped = rows.group_by(GPU, step_of(steps)).agg(_expression(aggregation, name) for name in names)
    return grouped.cast(dict.fromkeys(names, pl.Float64()))


def of_partials(partials: pl.DataFrame, places: int, aggregation: Aggregation) -> pl.DataFrame:
    """The same of combined partial results (:mod:`telemetry.storage.cold.rollups`).

    Raises:
        KeyError: an aggregation that cannot be put together from parts.
    """
    part = _PARTS[aggregation]
    values = []
    for place in range(places):
        count = pl.col(f"{place}:count")
        value = pl.col(f"{place}:sum") / count if part is None else pl.col(f"{place}:{part}")
        values.append(pl.when(count > 0).then(value).cast(pl.Float64).alias(str(place)))
    return partials.select(GPU, STEP, *values)


def step_of(steps: Steps) -> pl.Expr:
    """The place of the step in which a row's ``timestamp`` lies."""
    return ((pl.col(TIMESTAMP).dt.timestamp("us") - steps.start_us) // steps.width_us).alias(STEP)


def across(frames: Sequence[pl.DataFrame], aggregation: Aggregation) -> pl.DataFrame:
    """Make one series of several: the values that GPUs have in a step become one."""
    rows = pl.concat(frames)
    places = [name for name in rows.columns if name != STEP]
    aggregated = rows.group_by(STEP).agg(_expression(aggregation, place) for place in places)
    return aggregated.cast(dict.fromkeys(places, pl.Float64())).sort(STEP)


def filled(frame: pl.DataFrame, steps: Steps, place: str) -> list[float]:
    """One value a step of one metric, NaN where there is none."""
    values = [nan] * steps.count
    for step, value in zip(frame.get_column(STEP).to_list(), frame.get_column(place).to_list(), strict=True):
        values[step] = nan if value is None else value
    return values


def _whole_steps(pieces: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The same rows, cut so that no step is in two pieces; steps come in order."""
    held: pl.DataFrame | None = None
    for piece in pieces:
        rows = piece if held is None else pl.concat([held, piece])
        is_last = pl.col(STEP) == rows.item(-1, STEP)
        held = rows.filter(is_last)
        if held.height < rows.height:
            yield rows.filter(~is_last)
    if held is not None:
        yield held


def _expression(aggregation: Aggregation, column: str) -> pl.Expr:
    values = pl.col(column).drop_nulls()
    match aggregation:
        case Aggregation.AVG:
            return values.mean()
        case Aggregation.MIN:
            return values.min()
        case Aggregation.MAX:
            return values.max()
        case Aggregation.SUM:
            # The sum of nothing is 0 to polars; here it is nothing.
            return pl.when(pl.col(column).count() > 0).then(values.sum())
        case Aggregation.COUNT:
            return pl.when(pl.col(column).count() > 0).then(values.count())
        case Aggregation.LAST:
            return values.last()
        case Aggregation.P50:
            return values.quantile(0.50, "linear")
        case Aggregation.P95:
            return values.quantile(0.95, "linear")
        case Aggregation.P99:
            return values.quantile(0.99, "linear")
