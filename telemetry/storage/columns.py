"""Frames from many messages as one frame, whatever metrics each of them has, and what it holds for each GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from telemetry.model import GPU, TIMESTAMP
from telemetry.storage.lines import lines_of
from telemetry.storage.values import Places, Ranges

_TOGETHER_CELLS: Final = 1 << 18
"""Of so many cells lines are made at a time: on its way to a line a number takes ten times its bytes."""


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
        values: its metrics.
        instants: when the last value of each was, in their order.
    """

    gpu: str
    records: int
    first_us: int
    last_us: int
    text: bytes
    values: Ranges
    instants: NDArray[np.int64]


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
    frame = columns.frame
    count = -(-frame.height * frame.width // _TOGETHER_CELLS)
    if count <= 1:
        return _portions(columns)
    pieces = frame.with_columns((pl.col(GPU).hash() % count).alias("piece")).partition_by("piece", include_key=False)
    return [portion for piece in pieces for portion in _portions(Columns(piece, columns.metrics))]


def _portions(columns: Columns) -> list[Portion]:
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
    figures = np.empty((grouped.height, 3, len(places)))
    instants = np.empty((grouped.height, len(places)), np.int64)
    for number, place in enumerate(places):
        for row, kind in enumerate(("last", "min", "max")):
            figures[:, row, number] = grouped.get_column(f"{kind}{place}").to_numpy()
        at = grouped.get_column(f"at{place}" if place in with_gaps else "last")
        instants[:, number] = at.fill_null(0).to_numpy()
    parts = grouped.select(GPU, "records", "first", "last", "line").iter_rows()
    values = _values(columns.metrics, figures, instants)
    return [
        Portion(gpu, records, first, last, text, mine, at)
        for (gpu, records, first, last, text), (mine, at) in zip(parts, values, strict=True)
    ]


def _values(
    metrics: Sequence[str], figures: NDArray[np.float64], instants: NDArray[np.int64]
) -> Iterator[tuple[Ranges, NDArray[np.int64]]]:
    """What each GPU has of the metrics, and when. What it lacks is NaN in ``figures``."""
    has = ~np.isnan(figures[:, 0])
    known: dict[bytes, tuple[Places, NDArray[np.intp]]] = {}
    for mine, mine_has, mine_at in zip(figures, has, instants, strict=True):
        key = mine_has.tobytes()
        if key not in known:
            (numbers,) = np.nonzero(mine_has)
            known[key] = {metrics[number]: place for place, number in enumerate(numbers.tolist())}, numbers
        places, numbers = known[key]
        is_whole = len(numbers) == len(metrics)
        yield (Ranges(places, mine), mine_at) if is_whole else (Ranges(places, mine[:, numbers]), mine_at[numbers])


def oldest_by_gpu(columns: Columns) -> Mapping[str, tuple[int, bool]]:
    """Each GPU's oldest instant, and whether its instants only ever increase from row to row."""
    times = pl.col(TIMESTAMP).dt.timestamp("us")
    grouped = columns.frame.group_by(GPU).agg(
        times.min().alias("oldest"), (times.diff().drop_nulls() > 0).all().alias("increasing")
    )
    return {gpu: (oldest, increasing) for gpu, oldest, increasing in grouped.iter_rows()}
