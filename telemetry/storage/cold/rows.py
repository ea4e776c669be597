"""Rows of many GPUs as frames sorted by GPU and time, one row an instant, and how several such streams become one.

A metric's column is its name after ``=``, so that none can be mistaken for ``gpu`` or ``timestamp``.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import polars as pl

from telemetry.model import GPU, TIMESTAMP

KEY: Final = (GPU, TIMESTAMP)
TIME: Final = pl.Datetime("us", "UTC")
TIMES_US: Final = pl.col(TIMESTAMP).dt.timestamp("us")

_MARK: Final = "="


def column_of(metric: str) -> str:
    """The column that holds a metric."""
    return _MARK + metric


def metrics_of(frame: pl.DataFrame) -> list[str]:
    """The metrics that a frame has columns for."""
    return [name.removeprefix(_MARK) for name in frame.columns if name.startswith(_MARK)]


def columns_of(frame: pl.DataFrame) -> list[str]:
    """The columns that hold metrics."""
    return [name for name in frame.columns if name.startswith(_MARK)]


def first_key(frame: pl.DataFrame) -> tuple[str, int]:
    """GPU and time of the first row, in microseconds."""
    return frame.item(0, GPU), _times_us(frame)[0]


def last_key(frame: pl.DataFrame) -> tuple[str, int]:
    """GPU and time of the last row, in microseconds."""
    return frame.item(-1, GPU), _times_us(frame)[-1]


def rows_before(frame: pl.DataFrame, gpu: str, time_us: int) -> int:
    """How many rows of a sorted frame are before an instant of a GPU."""
    gpus = frame.get_column(GPU)
    start = bisect_left(gpus, gpu)
    return bisect_left(_times_us(frame), time_us, start, bisect_right(gpus, gpu, start))


def merge_rows(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Sort rows and make one of those of the same GPU and instant; of two values the later frame's, or row's, wins."""
    rows = pl.concat(frames, how="diagonal") if len(frames) > 1 else frames[0]
    if not _ascends(rows):
        rows = rows.sort(KEY, maintain_order=True)
    again = pl.all_horizontal(pl.col(name) == pl.col(name).shift() for name in KEY)
    if not rows.select(again.any()).item():
        return rows
    return rows.group_by(KEY, maintain_order=True).agg(pl.all().last(ignore_nulls=True))


def merge_streams(streams: Sequence[Iterator[pl.DataFrame]]) -> Iterator[pl.DataFrame]:
    """Merge streams, each sorted and without two rows of one instant. What a later stream says wins.

    Holds one frame of each stream at a time: whatever is not after the last row held of every stream is complete.
    """
    held: list[pl.DataFrame | None] = [None] * len(streams)
    filled = [(frame for frame in stream if frame.height) for stream in streams]
    open_ = set(range(len(streams)))
    while True:
        for place in sorted(open_):
            if held[place] is None:
                held[place] = next(filled[place], None)
                if held[place] is None:
                    open_.discard(place)
        live = [(place, frame) for place, frame in enumerate(held) if frame is not None]
        if not live:
            return
        gpu, time_us = min(last_key(frame) for _, frame in live)
        complete = []
        for place, frame in live:
            count = rows_before(frame, gpu, time_us + 1)
            if count:
                complete.append(frame.head(count))
                held[place] = frame.slice(count) if count < frame.height else None
        yield merge_rows(complete)


def chunks(frames: Iterable[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """The same rows in frames of exactly ``rows``, the last one excepted."""
    waiting: list[pl.DataFrame] = []
    count = 0
    for frame in frames:
        waiting.append(frame)
        count += frame.height
        if count < rows:
            continue
        joined = pl.concat(waiting, how="diagonal")
        start = 0
        while count - start >= rows:
            yield joined.slice(start, rows)
            start += rows
        rest = joined.slice(start)
        waiting, count = [rest] if rest.height else [], rest.height
    if count:
        yield pl.concat(waiting, how="diagonal")


def _ascends(frame: pl.DataFrame) -> bool:
    gpu, time = pl.col(GPU), pl.col(TIMESTAMP)
    steps = (gpu > gpu.shift()) | ((gpu == gpu.shift()) & (time >= time.shift()))
    return bool(frame.select(steps.fill_null(True).all()).item())


def _times_us(frame: pl.DataFrame) -> pl.Series:
    return frame.get_column(TIMESTAMP).to_physical()
