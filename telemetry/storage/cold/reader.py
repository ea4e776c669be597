"""Reads cold files: a GPU's records, rows of many GPUs, and aggregates by steps, from records or from roll-ups.

Files that overlap are merged row by row, so nothing is counted twice and a later generation's value wins. A file that
is damaged raises before a wrong value gets out. Memory holds a row group of each file that is read at that moment.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Final

import polars as pl

from telemetry.model import GPU, TIMESTAMP
from telemetry.storage.cold.files import ROLLUP_FUNCTIONS, ColdFile, Level
from telemetry.storage.cold.parquet import ROW_GROUP_ROWS, ColdParquet, stored_type
from telemetry.storage.cold.rollups import combine_partials, partials_of
from telemetry.storage.cold.rows import TIMES_US, chunks, column_of, merge_streams
from telemetry.storage.series import Steps, step_of
from telemetry.storage.store import Span

_PIECES_MAX: Final = 64
"""So many partial results are kept before they are put together."""

_AGGREGATED_ROWS: Final = 1 << 16
"""Rows are aggregated so many at once."""

_MERGED_BATCH_ROWS: Final = 1 << 14


class ColdReader:
    """Reads files below a cold directory. It keeps nothing open between calls and may be used by any thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def records(
        self,
        files: Sequence[ColdFile],
        gpu: str,
        span: Span,
        metrics: Sequence[str] | None = None,
        *,
        newest_first: bool = False,
    ) -> Iterator[pl.DataFrame]:
        """Yield a GPU's records in order of time: ``timestamp`` and ``metrics``, or all that the files have.

        ``files`` hold records, no roll-ups.

        Raises:
            ColdFileError: a file cannot be read. What was yielded before is right.
        """
        known = {metric for file in files for metric in file.metrics} - {TIMESTAMP}
        names = sorted(known) if metrics is None else list(metrics)
        clusters = _clusters([file for file in files if file.gpu_min <= gpu <= file.gpu_max], span)
        for cluster in reversed(clusters) if newest_first else clusters:
            frames = self._cluster(cluster, [gpu], span, names)
            if newest_first:
                # Of one GPU and window; it is small.
                frames = (frame.reverse() for frame in reversed(list(frames)))
            for frame in frames:
                yield frame.select(TIMESTAMP, *(pl.col(column_of(name)).alias(name) for name in names))

    def rows(
        self, files: Sequence[ColdFile], gpus: Collection[str] | None, span: Span, metrics: Sequence[str]
    ) -> Iterator[pl.DataFrame]:
        """Yield records of many GPUs (``None``: all): ``gpu``, ``timestamp``, and ``metrics`` by their places.

        Pieces come in the order of windows, within a window in that of GPUs and time. No two rows have the same GPU and
        instant.

        Raises:
            ColdFileError: a file cannot be read. What was yielded before is right.
        """
        for cluster in _clusters(_having(files, gpus), span):
            for frame in self._cluster(cluster, gpus, span, metrics):
                named = (pl.col(column_of(name)).alias(str(place)) for place, name in enumerate(metrics))
                yield frame.select(GPU, TIMESTAMP, *named)

    def partials(
        self,
        files: Sequence[ColdFile],
        gpus: Collection[str] | None,
        span: Span,
        steps: Steps,
        metrics: Sequence[str],
    ) -> pl.DataFrame:
        """Aggregate records: a row for each GPU and step that has any.

        Its columns are ``gpu``, ``step`` (counted from 0), and for each metric ``place:min``, ``:max``, ``:sum``,
        ``:count``, ``:last`` and ``:last_us``. Results over different records are put together by
        :func:`~telemetry.storage.cold.rollups.combine_partials`.

        Raises:
            ColdFileError: a file cannot be read.
        """
        rows = chunks(self.rows(files, gpus, span, metrics), _AGGREGATED_ROWS)
        pieces = (partials_of(frame, steps, len(metrics)) for frame in rows)
        return _combine(pieces, len(metrics))

    def rollup_partials(
        self,
        files: Sequence[ColdFile],
        gpus: Collection[str] | None,
        span: Span,
        steps: Steps,
        metrics: Sequence[str],
    ) -> pl.DataFrame:
        """As :meth:`partials`, from roll-ups of different records. Their rows must lie in ``span`` as a whole to count.

        The instant of a last value is that of the roll-up's row: right among roll-ups and windows, not within a row.

        Raises:
            ColdFileError: a file cannot be read.
        """
        rows = chunks(self._rolled_up(_having(files, gpus), gpus, span, metrics), _AGGREGATED_ROWS)
        pieces = (frame.group_by(GPU, step_of(steps)).agg(_of_rollups(metrics)) for frame in rows)
        return _combine(pieces, len(metrics))

    def _rolled_up(
        self, files: Sequence[ColdFile], gpus: Collection[str] | None, span: Span, metrics: Sequence[str]
    ) -> Iterator[pl.DataFrame]:
        columns = [column_of(f"{metric}:{name}") for metric in metrics for name in ROLLUP_FUNCTIONS]
        for file in sorted(files, key=lambda file: file.window):
            end_us = None if span.end_us is None else span.end_us - file.level.width_us + 1
            if file.window.meets(span.start_us, end_us):
                with ColdParquet(self._directory, file) as parquet:
                    for frame in parquet.frames(columns, gpus=gpus, start_us=span.start_us, end_us=end_us):
                        yield _with_columns(frame, columns, file.level)

    def _cluster(
        self, files: Sequence[ColdFile], gpus: Collection[str] | None, span: Span, metrics: Sequence[str]
    ) -> Iterator[pl.DataFrame]:
        """The rows of files whose windows overlap, sorted, one an instant, with a column for each metric."""
        columns = [column_of(metric) for metric in metrics]
        ordered = sorted(files, key=lambda file: (file.generation, file.window, file.gpu_min))
        groups = [list(group) for _, group in groupby(ordered, key=lambda file: (file.generation, file.window))]
        batch_rows = ROW_GROUP_ROWS if len(groups) == 1 else _MERGED_BATCH_ROWS
        streams = [
            chain.from_iterable([self._frames(file, gpus, span, columns, batch_rows) for file in group])
            for group in groups
        ]
        for frame in streams[0] if len(streams) == 1 else merge_streams(streams):
            yield _with_columns(frame, columns, files[0].level)

    def _frames(
        self, file: ColdFile, gpus: Collection[str] | None, span: Span, columns: Sequence[str], batch_rows: int
    ) -> Iterator[pl.DataFrame]:
        with ColdParquet(self._directory, file) as parquet:
            yield from parquet.frames(
                columns, gpus=gpus, start_us=span.start_us, end_us=span.end_us, batch_rows=batch_rows
            )


def _combine(pieces: Iterator[pl.DataFrame], places: int) -> pl.DataFrame:
    """Put pieces together, now and then on the way so that they stay few."""
    combined: list[pl.DataFrame] = []
    for piece in pieces:
        combined.append(piece)
        if len(combined) >= _PIECES_MAX:
            combined = [combine_partials(combined, places)]
    return combine_partials(combined, places)


def _having(files: Sequence[ColdFile], gpus: Collection[str] | None) -> list[ColdFile]:
    """The files that may have any of the GPUs."""
    if gpus is None:
        return list(files)
    if not gpus:
        return []
    first, last = min(gpus), max(gpus)
    return [file for file in files if file.gpu_min <= last and file.gpu_max >= first]


def _clusters(files: Sequence[ColdFile], span: Span) -> list[list[ColdFile]]:
    """Files that meet the span, those whose windows overlap together, in order of time."""
    clusters: list[list[ColdFile]] = []
    end_us = 0
    for file in sorted(files, key=lambda file: file.window):
        if not file.window.meets(span.start_us, span.end_us):
            continue
        if clusters and file.window.start_us < end_us:
            clusters[-1].append(file)
            end_us = max(end_us, file.window.end_us)
        else:
            clusters.append([file])
            end_us = file.window.end_us
    return clusters


def _with_columns(frame: pl.DataFrame, columns: Sequence[str], level: Level) -> pl.DataFrame:
    """A frame with all columns, those that its file lacks being null."""
    missing = [pl.lit(None, stored_type(level, name)).alias(name) for name in columns if name not in frame.columns]
    return frame.with_columns(missing) if missing else frame


def _of_rollups(metrics: Sequence[str]) -> Iterator[pl.Expr]:
    for place, metric in enumerate(metrics):
        low, high, total, count, last = (pl.col(column_of(f"{metric}:{name}")) for name in ROLLUP_FUNCTIONS)
        yield low.min().alias(f"{place}:min")
        yield high.max().alias(f"{place}:max")
        yield pl.when(count.sum() > 0).then(total.sum()).alias(f"{place}:sum")
        yield count.sum().alias(f"{place}:count")
        yield last.last(ignore_nulls=True).alias(f"{place}:last")
        yield TIMES_US.filter(last.is_not_null()).last().alias(f"{place}:last_us")
