"""Metrics over time, in steps: how many samples become one, for a GPU and across GPUs."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import nan
from typing import Final

import polars as pl

from telemetry.model import TIMESTAMP
from telemetry.storage.store import Span, Store

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


def gpu_steps(
    store: Store, gpu: str, span: Span, steps: Steps, metrics: Sequence[str], aggregation: Aggregation
) -> pl.DataFrame:
    """A GPU's samples in ``span``, a row for each step that has any: its place and a column for each metric by place.

    Raises:
        StoreError: what is stored cannot be read.
    """
    places = [str(place) for place in range(len(metrics))]
    step = (pl.col(TIMESTAMP).dt.timestamp("us") - steps.start_us) // steps.width_us
    names = [pl.col(name).alias(place) for name, place in zip(metrics, places, strict=True)]
    pieces = (frame.select(step.alias(STEP), *names) for frame in store.records(gpu, span, metrics=metrics))
    aggregated = [
        piece.group_by(STEP, maintain_order=True).agg(_expression(aggregation, place) for place in places)
        for piece in _whole_steps(pieces)
    ]
    schema = pl.Schema({STEP: pl.Int64(), **dict.fromkeys(places, pl.Float64())})
    return pl.concat([pl.DataFrame(schema=schema), *(piece.cast(schema) for piece in aggregated)])


def across(frames: Sequence[pl.DataFrame], aggregation: Aggregation) -> pl.DataFrame:
    """Make one series of several: the values that GPUs have in a step become one."""
    rows = pl.concat(frames)
    places = [name for name in rows.columns if name != STEP]
    aggregated = rows.group_by(STEP).agg(_expression(aggregation, place) for place in places)
    return aggregated.cast(dict.fromkeys(places, pl.Float64())).sort(STEP)


def filled(frame: pl.DataFrame, steps: Steps, place: str) -> list[float]:
    """One value a step of one metric, NaN where there is none."""
    values = [nan] * steps.count
    for step, value in frame.select(STEP, place).drop_nulls().iter_rows():
        values[step] = value
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
