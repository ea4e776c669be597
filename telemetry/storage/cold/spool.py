"""Rows that wait on disk, in a file that has no name and so leaves nothing behind, until their window is written."""

from __future__ import annotations

import io
import tempfile
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from telemetry.storage.cold.digits import UNSEEN, Digits, digits_of
from telemetry.storage.cold.files import DAY_US, Window
from telemetry.storage.cold.rows import TIMES_US, column_of, columns_of, first_key, last_key, metrics_of

_WINDOW = ":window"


@dataclass(frozen=True, slots=True)
class _Chunk:
    offset: int
    length: int
    first: tuple[str, int]
    last: tuple[str, int]


class Spool:
    """Frames by window. The order in which they come decides: of one instant the last row is right."""

    def __init__(self, directory: Path, now_us: int, grace_us: int) -> None:
        """A day is over ``grace_us`` after its end; from then on its rows belong to it, before that to their hour."""
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - lives as long as the spool
        self._end = 0
        self._day_is_over_us = now_us - grace_us
        self._chunks: defaultdict[Window, list[_Chunk]] = defaultdict(list)
        self._metrics: defaultdict[Window, dict[str, Digits]] = defaultdict(dict)

    def add(self, frame: pl.DataFrame) -> None:
        """Keep rows, sorted and one an instant, each for its window."""
        if not frame.height:
            return
        # A day is known by its own start, an hour by its start and one microsecond more.
        day = TIMES_US - TIMES_US % DAY_US
        hour = TIMES_US - TIMES_US % (DAY_US // 24)
        place = pl.when(day + DAY_US <= self._day_is_over_us).then(day).otherwise(hour + 1).alias(_WINDOW)
        for (start,), rows in frame.with_columns(place).partition_by(_WINDOW, as_dict=True, include_key=False).items():
            window = Window.hour_of(start - 1) if start % 2 else Window.day_of(start)
            self.keep(window, rows)

    def keep(self, window: Window, rows: pl.DataFrame) -> None:
        """Keep rows of one window."""
        empty = [name for name in columns_of(rows) if rows.get_column(name).null_count() == rows.height]
        rows = rows.drop(empty)
        buffer = io.BytesIO()
        rows.write_ipc_stream(buffer, compression="lz4")
        self._file.seek(self._end)
        self._file.write(buffer.getbuffer())
        length = buffer.tell()
        self._chunks[window].append(_Chunk(self._end, length, first_key(rows), last_key(rows)))
        known = self._metrics[window]
        for metric in metrics_of(rows):
            known[metric] = digits_of(rows.get_column(column_of(metric)), known.get(metric, UNSEEN))
        self._end += length

    def windows(self) -> list[Window]:
        """Windows of which there are rows, in order."""
        return sorted(self._chunks)

    def metrics(self, window: Window) -> dict[str, Digits]:
        """The metrics of a window's rows, and what all their values can be written with."""
        return dict(self._metrics[window])

    def window_of(self, time_us: int) -> Window:
        """Where a record of that time belongs."""
        day = Window.day_of(time_us)
        return day if day.end_us <= self._day_is_over_us else Window.hour_of(time_us)

    def take(self, window: Window) -> list[Iterator[pl.DataFrame]]:
        """A window's rows as few sorted streams, of which a later one is right where two have the same instant."""
        # A chunk continues a stream if it comes after all that is in it, and may not be in an earlier stream than one
        # that it overlaps and corrects.
        streams: list[list[_Chunk]] = []
        for chunk in self._chunks.pop(window, []):
            overlapped = (place for place, stream in enumerate(streams) if _overlaps(stream, chunk))
            lowest = 1 + max(overlapped, default=-1)
            for stream in streams[lowest:]:
                if stream[-1].last < chunk.first:
                    stream.append(chunk)
                    break
            else:
                streams.append([chunk])
        return [map(self._load, stream) for stream in streams]

    def close(self) -> None:
        """Give the room back."""
        self._file.close()

    def _load(self, chunk: _Chunk) -> pl.DataFrame:
        self._file.seek(chunk.offset)
        return pl.read_ipc_stream(io.BytesIO(self._file.read(chunk.length)))


def _overlaps(stream: list[_Chunk], chunk: _Chunk) -> bool:
    """Whether a chunk may have rows of the same instants as one of a stream, whose chunks are in order."""
    place = bisect_left(stream, chunk.first, key=lambda other: other.last)
    return place < len(stream) and stream[place].first <= chunk.last
