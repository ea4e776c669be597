"""One sample for a GPU, metric and instant: what is new in records, and how lines of one instant become one record.

Frames here have the columns ``timestamp``, sometimes ``gpu``, and Float64 metrics; rows are in the order of the queue,
which decides between two values for one instant: the later one wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from telemetry.model import GPU, TIMESTAMP

_KNOWN = ":known"
"""Marks rows that are stored already. No metric of a positional frame is called that."""


@dataclass(frozen=True, slots=True)
class Novelty:
    """What is new in some records.

    Attributes:
        frame: the records that hold something new, in order of time, without the samples that were there.
        duplicates: records that held nothing new.
        conflicts: samples whose instant had another value.
    """

    frame: pl.DataFrame
    duplicates: int
    conflicts: int


def find_new(incoming: pl.DataFrame, stored: pl.DataFrame, metrics: Sequence[str]) -> Novelty:
    """Compare records with those stored at the same instants, and among themselves."""
    instant = [GPU, TIMESTAMP]
    rows = pl.concat(
        [
            stored.select(*instant, *metrics, pl.lit(True).alias(_KNOWN)),
            incoming.select(*instant, *metrics, pl.lit(False).alias(_KNOWN)),
        ]
    ).sort(TIMESTAMP, maintain_order=True)
    # The value that held before this row: the last one above it of the same instant that is not null.
    before = rows.select(pl.col(metrics).forward_fill().shift(1).over(instant)) if metrics else pl.DataFrame()
    is_first = rows.select(pl.int_range(pl.len()).over(instant) == 0).to_series()
    fresh = [
        pl.when(pl.col(name).ne_missing(before.get_column(name))).then(pl.col(name)).alias(name) for name in metrics
    ]
    conflicts = sum(
        rows.select(
            (~pl.col(_KNOWN) & before.get_column(name).is_not_null() & (pl.col(name) != before.get_column(name))).sum()
        ).item()
        for name in metrics
    )
    candidates = rows.with_columns(*fresh, is_first.alias(":first")).filter(~pl.col(_KNOWN))
    kept = candidates.filter(pl.any_horizontal(pl.col(":first"), *(pl.col(name).is_not_null() for name in metrics)))
    return Novelty(kept.drop(_KNOWN, ":first"), candidates.height - kept.height, conflicts)


def merge_instants(frame: pl.DataFrame) -> pl.DataFrame:
    """One row an instant, in order of time: of each metric the last value in the order of the rows."""
    frame = frame.sort(TIMESTAMP, maintain_order=True)
    if not frame.get_column(TIMESTAMP).is_duplicated().any():
        return frame
    return frame.group_by(TIMESTAMP, maintain_order=True).agg(pl.all().last(ignore_nulls=True))
