"""Frames from many messages as one frame, whatever metrics each of them has, and what it holds for each GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from telemetry.model import GPU, TIMESTAMP
from telemetry.storage.lines import lines_of


@dataclass(frozen=True, slots=True)
class Columns:
    """Records of many GPUs.

    Attributes:
        frame: ``timestamp``, ``gpu``, and one column for each of ``metrics``, called by its place (``0``, ``1``, …) so
            that no metric's name can be mistaken for another column's.
        metrics: the names of those columns.
    """

    frame: pl.DataFrame
    metrics: Sequence[str]

    @property
    def places(self) -> list[str]:
        """The names of the metrics' columns."""
        return [str(place) for place in range(len(self.metrics))]


@dataclass(frozen=True, slots=True)
class Portion:
    """What some records hold for one GPU.

    Attributes:
        gpu: the GPU.
        records: how many records.
        first_us: the oldest.
        last_us: the newest.
        text: their lines.
        values: metric to (instant of the last value, last, smallest, largest).
    """

    gpu: str
    records: int
    first_us: int
    last_us: int
    text: bytes
    values: dict[str, tuple[int, float, float, float]]


def combine(frames: Sequence[pl.DataFrame]) -> Columns:
    """Put the metrics of frames together. Values that are not finite become null: they say nothing."""
    metrics: dict[str, int] = {}
    parts = []
    for frame in frames:
        names = [name for name, kind in frame.schema.items() if kind == pl.Float64]
        for name in names:
            metrics.setdefault(name, len(metrics))
        parts.append(frame.select(TIMESTAMP, GPU, *(pl.col(name).alias(str(metrics[name])) for name in names)))
    if not parts:
        return Columns(pl.DataFrame(schema={TIMESTAMP: pl.Datetime("us", "UTC"), GPU: pl.String}), ())
    columns = Columns(pl.concat(parts, how="diagonal", rechunk=True), tuple(metrics))
    values = pl.col(columns.places)
    if metrics and not all(columns.frame.select(values.is_finite().all()).row(0)):
        return Columns(columns.frame.with_columns(pl.when(values.is_finite()).then(values)), columns.metrics)
    return columns


def labels_by_gpu(frames: Sequence[pl.DataFrame]) -> dict[str, dict[str, str]]:
    """The last value of each label of each GPU."""
    parts = [frame.select(pl.col(pl.String)) for frame in frames]
    parts = [part for part in parts if part.width > 1]
    if not parts:
        return {}
    last = pl.concat(parts, how="diagonal").group_by(GPU).agg(pl.all().last(ignore_nulls=True))
    names = [name for name in last.columns if name != GPU]
    columns = [last.get_column(name).to_list() for name in names]
    return {
        gpu: {name: value for name, value in zip(names, values, strict=True) if value is not None}
        for gpu, *values in zip(last.get_column(GPU).to_list(), *columns, strict=True)
    }


def portions(columns: Columns) -> list[Portion]:
    """Split records by GPU. Each GPU's rows must be in order of time."""
    frame, places = columns.frame, columns.places
    counted = frame.select(pl.col(places).null_count()).row(0) if places else ()
    with_gaps = [place for place, nulls in zip(places, counted, strict=True) if nulls]
    times = pl.col(TIMESTAMP).dt.timestamp("us")
    grouped = (
        frame.with_columns(times, lines_of(columns.frame, columns.metrics, places).alias("line"))
        .group_by(GPU, maintain_order=True)
        .agg(
            pl.len().alias("records"),
            pl.col(TIMESTAMP).first().alias("first"),
            pl.col(TIMESTAMP).last().alias("last"),
            pl.col("line").str.join("").cast(pl.Binary),
            pl.col(places).last(ignore_nulls=True).name.prefix("last"),
            pl.col(places).min().name.prefix("min"),
            pl.col(places).max().name.prefix("max"),
            *(pl.col(TIMESTAMP).filter(pl.col(place).is_not_null()).last().alias(f"at{place}") for place in with_gaps),
        )
    )
    result = [
        Portion(gpu, records, first, last, text, {})
        for gpu, records, first, last, text in grouped.select(GPU, "records", "first", "last", "line").iter_rows()
    ]
    for place, name in zip(places, columns.metrics, strict=True):
        at = f"at{place}" if place in with_gaps else "last"
        rows = grouped.select(at, f"last{place}", f"min{place}", f"max{place}").iter_rows()
        for portion, (instant, last, low, high) in zip(result, rows, strict=True):
            if last is not None:
                portion.values[name] = (instant, last, low, high)
    return result


def oldest_by_gpu(columns: Columns) -> Mapping[str, tuple[int, bool]]:
    """Each GPU's oldest instant, and whether its instants only ever increase from row to row."""
    times = pl.col(TIMESTAMP).dt.timestamp("us")
    grouped = columns.frame.group_by(GPU).agg(
        times.min().alias("oldest"), (times.diff().drop_nulls() > 0).all().alias("increasing")
    )
    return {gpu: (oldest, increasing) for gpu, oldest, increasing in grouped.iter_rows()}
