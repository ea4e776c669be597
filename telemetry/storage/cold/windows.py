"""A window's rows as files: split by GPU when there are many, each with its roll-ups, all put in place at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import polars as pl

from telemetry.model import GPU
from telemetry.storage.cold.digits import Digits
from telemetry.storage.cold.files import HOUR_US, ColdFile, Level, Window, file_path
from telemetry.storage.cold.parquet import ROW_GROUP_ROWS, ParquetFile, file_crc32c, footer_crc32c
from telemetry.storage.cold.rollups import roll_up, roll_up_again
from telemetry.storage.cold.rows import last_key, rows_before

TEMPORARY: Final = ".tmp"
"""What a file's name ends with until it is whole."""

FILE_ROWS_MAX: Final = 8 << 20
"""A file that has so many rows gets no more GPUs."""

MINUTE_RECORDS_MIN: Final = 30
"""A roll-up by the minute is written beside records where a GPU has so many of them a minute on average. It holds five
values for a minute; with fewer records it would take more room than it saves time."""

_ROLLUPS: Final = (Level.MINUTE_ROLLUP, Level.HOUR_ROLLUP)


class WindowWriter:
    """Writes what is given, in the order of the rows, under temporary names; :meth:`publish` renames all of it."""

    def __init__(
        self,
        directory: Path,
        window: Window,
        metrics: Mapping[str, Digits],
        generation: int,
        numbers: Iterator[int],
        *,
        minutes_of: int | None = None,
    ) -> None:
        """Prepare.

        Args:
            directory: the cold directory.
            window: where all rows lie.
            metrics: what the files will have columns for, and what all values can be written with.
            generation: of the files.
            numbers: where the files' numbers come from.
            minutes_of: write nothing but the roll-up by the minute of a file that exists and has this number.
        """
        self._directory = directory
        self._window = window
        self._metrics = dict(metrics)
        self._generation = generation
        self._numbers = numbers
        self._minutes_of = minutes_of
        self._levels = (window.level, *_ROLLUPS) if minutes_of is None else (Level.MINUTE_ROLLUP,)
        self._open: list[tuple[Level, int, str, ParquetFile]] = []
        self._held: pl.DataFrame | None = None
        self._written: list[ColdFile] = []

    def write(self, rows: pl.DataFrame) -> None:
        """Add merged rows, which come after those before. The last hour of a GPU waits until it is whole."""
        joined = rows if self._held is None else pl.concat([self._held, rows], how="diagonal")
        gpu, time_us = last_key(joined)
        whole = rows_before(joined, gpu, time_us - time_us % HOUR_US)
        self._held = joined.slice(whole)
        if whole:
            self._put(joined.head(whole))

    def finish(self) -> None:
        """Write what waits. The files are then whole and on disk, still under temporary names."""
        if self._held is not None:
            self._put(self._held)
            self._held = None
        self._close()

    def publish(self) -> list[ColdFile]:
        """Give the files their names, durably."""
        for file in self._written:
            path = self._directory / file.path
            path.with_name(path.name + TEMPORARY).rename(path)
        for folder in sorted({(self._directory / file.path).parent for file in self._written}):
            for path in (folder, self._directory):
                _sync_folder(path)
        return self._written

    def abandon(self) -> None:
        """Remove what has not got its name yet, as far as that is possible."""
        for _, _, _, parquet in self._open:
            parquet.abandon()
        for path in [path for _, _, path, _ in self._open] + [file.path for file in self._written]:
            (self._directory / (path + TEMPORARY)).unlink(missing_ok=True)

    def _put(self, rows: pl.DataFrame) -> None:
        if self._minutes_of is None and self._open and self._open[0][3].rows >= FILE_ROWS_MAX:
            # What belongs to the last GPU of this file still goes to it.
            is_same = pl.col(GPU) == self._open[0][3].gpu_max
            same, rows = rows.filter(is_same), rows.filter(~is_same)
            if same.height:
                self._add(same)
            if not rows.height:
                return
            self._close()
        self._add(rows)

    def _add(self, rows: pl.DataFrame) -> None:
        if not self._open:
            for level in self._levels:
                number = next(self._numbers)
                path = file_path(level, self._window, number)
                target = self._directory / path
                target.parent.mkdir(exist_ok=True)
                parquet = ParquetFile(target.with_name(target.name + TEMPORARY), level, self._window, self._metrics)
                self._open.append((level, number, path, parquet))
        by_level = {level: parquet for level, _, _, parquet in self._open}
        if self._minutes_of is not None:
            by_level[Level.MINUTE_ROLLUP].write(roll_up(rows, "1m"))
            return
        by_level[self._window.level].write(rows)
        if minutes := by_level.get(Level.MINUTE_ROLLUP):
            rolled = roll_up(rows, "1m")
            minutes.write(rolled)
            by_level[Level.HOUR_ROLLUP].write(roll_up_again(rolled, "1h"))
            # Enough is known by now; the rest of the work would be for nothing.
            if by_level[self._window.level].rows >= ROW_GROUP_ROWS:
                self._leave_out_minutes()
        else:
            by_level[Level.HOUR_ROLLUP].write(roll_up(rows, "1h"))

    def _leave_out_minutes(self) -> None:
        """Give up a roll-up by the minute that is not worth its room."""
        records = self._open[0][3].rows
        for entry in self._open:
            level, _, path, parquet = entry
            if level is Level.MINUTE_ROLLUP and records < MINUTE_RECORDS_MIN * parquet.rows:
                parquet.abandon()
                (self._directory / (path + TEMPORARY)).unlink(missing_ok=True)
                self._open.remove(entry)
                return

    def _close(self) -> None:
        if not self._open:
            return
        if self._minutes_of is None:
            self._leave_out_minutes()
            source = self._open[0][1]
        else:
            source = self._minutes_of
        for level, number, path, parquet in self._open:
            parquet.close()
            target = self._directory / (path + TEMPORARY)
            self._written.append(
                ColdFile(
                    id=number,
                    level=level,
                    window=self._window,
                    path=path,
                    rows=parquet.rows,
                    samples=parquet.samples,
                    size=target.stat().st_size,
                    crc32c=file_crc32c(target),
                    footer_crc32c=footer_crc32c(target),
                    first_us=parquet.first_us,
                    last_us=parquet.last_us,
                    gpu_min=parquet.gpu_min,
                    gpu_max=parquet.gpu_max,
                    metrics=tuple(self._metrics),
                    generation=self._generation,
                    derived_from=source if level.is_rollup else None,
                )
            )
        self._open = []


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
