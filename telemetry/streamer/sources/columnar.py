"""Parquet and Arrow: tables of `telemetry export` and of the cold tier as they are, any other as if it were CSV."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, Final

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from telemetry.codec import TIME_TYPE
from telemetry.exchange import IDENTITY, Kind, is_exported, kind_of
from telemetry.model import GPU, TIMESTAMP
from telemetry.streamer.sources.apart import Apart
from telemetry.streamer.sources.csv_wide import WideLayout
from telemetry.streamer.sources.dcgm_long import LongLayout, is_long
from telemetry.streamer.sources.kinds import Kinds
from telemetry.streamer.sources.layout import Layout, SourceError, WrongCells, each_row_a_record, place, without_time
from telemetry.streamer.sources.lines import BadRow, bad_row
from telemetry.streamer.sources.rows import Rows
from telemetry.streamer.sources.table import LINE
from telemetry.tabular import NAMES

BATCH_ROWS: Final = 32_768
"""Rows read at a time."""


@dataclass(frozen=True, slots=True)
class Batches:
    """An open file: its columns, and its rows in batches, each with how far into the file it reaches, from 0 to 1."""

    schema: pa.Schema
    batches: Iterator[tuple[pa.RecordBatch, float]]
    close: Callable[[], None]


def parquet_batches(path: Path) -> Batches:
    """Open a Parquet file.

    Raises:
        OSError: if it cannot be read.
        pa.ArrowException: if it is damaged.
    """
    file = pq.ParquetFile(path)
    total = max(file.metadata.num_rows, 1)

    def batches() -> Iterator[tuple[pa.RecordBatch, float]]:
        done = 0
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            done += batch.num_rows
            yield batch, done / total

    return Batches(file.schema_arrow, batches(), file.close)


def arrow_batches(path: Path) -> Batches:
    """Open an Arrow IPC file or stream.

    Raises:
        OSError: if it cannot be read.
        pa.ArrowException: if it is damaged.
    """
    source = pa.OSFile(str(path), "rb")
    size = max(source.size(), 1)
    try:
        reader: Any = ipc.open_file(source)
    except pa.ArrowInvalid:
        source.seek(0)
        stream = ipc.open_stream(source)
        pieces: Iterator[pa.RecordBatch] = iter(stream)
        schema = stream.schema
    else:
        pieces = (reader.get_batch(number) for number in range(reader.num_record_batches))
        schema = reader.schema

    def batches() -> Iterator[tuple[pa.RecordBatch, float]]:
        for whole in pieces:
            for start in range(0, whole.num_rows, BATCH_ROWS):
                yield whole.slice(start, BATCH_ROWS), source.tell() / size

    return Batches(schema, batches(), source.close)


class ColumnarSource:
    """One pass over one file."""

    def __init__(self, path: Path, opener: Callable[[Path], Batches], zone: tzinfo = UTC) -> None:
        """Open a file.

        Args:
            path: the file.
            opener: how to read it.
            zone: where the clock stood that wrote times without a zone.

        Raises:
            SourceError: if it cannot be read, or has no column that says which GPU, or none that holds a value.
        """
        self.name: Final = os.fsencode(path.name).decode("utf-8", "backslashreplace")
        """The file's name, for people."""
        self.header: Final = ""
        """There are no lines."""
        try:
            self.size: Final = path.stat().st_size
            """The file's size in bytes, as it lies on disk."""
            self._file = opener(path)
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror or error}") from None
        except pa.ArrowException as error:
            raise SourceError(f"{path}: {_sentence(error)}") from None
        try:
            schema = pl.from_arrow(self._file.schema.empty_table())
            assert isinstance(schema, pl.DataFrame)
            self._table: _Table = _Exact(schema) if _is_exact(schema) else _Foreign(schema, zone)
        except (ValueError, pa.ArrowException, pl.exceptions.PolarsError) as error:
            self.close()
            raise SourceError(f"{path}: {error}") from None
        self.has_time: Final = self._table.has_time
        """Whether the file says when."""

    def __iter__(self) -> Iterator[Rows]:
        """Read the file, once."""
        line, position = 1, 0
        while True:
            try:
                batch, share = next(self._file.batches)
                frame = pl.from_arrow(batch)
            except StopIteration:
                return
            except (OSError, pa.ArrowException, pl.exceptions.PolarsError) as error:
                reason = f"the file cannot be read from here on: {_sentence(error)}"
                yield Rows(pl.DataFrame(), [bad_row(line, reason, b"")], position)
                return
            assert isinstance(frame, pl.DataFrame)
            position = int(share * self.size)
            numbers = pl.int_range(line, line + frame.height, dtype=pl.Int64, eager=True)
            rows, bad = self._table.read(frame, numbers)
            yield Rows(rows, bad, position)
            line += frame.height

    def records(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Merge consecutive rows into records."""
        return self._table.records(rows)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _sentence(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _is_exact(schema: pl.DataFrame) -> bool:
    """Whether names and texts mean just what they say: in an export, and in the cold tier's files."""
    types = schema.schema
    if is_exported(types):
        return True
    others = [name for name in types if name not in (TIMESTAMP, GPU)]
    known = {name for names in NAMES.values() for name in names}
    return (
        _is_text(types.get(GPU))
        and _is_zoned(types.get(TIMESTAMP))
        and all(types[name].is_numeric() and name.lower() not in known for name in others)
    )


def _is_zoned(kind: pl.DataType | None) -> bool:
    return isinstance(kind, pl.Datetime) and kind.time_zone is not None


def _unusable(column: str, kind: pl.DataType) -> str:
    return f"column {column!r} is left out: {kind} is neither a number nor text"


def _is_text(kind: pl.DataType | None) -> bool:
    return isinstance(kind, pl.String | pl.Categorical | pl.Enum)


class _Exact:
    """Columns under the names of :mod:`telemetry.exchange`."""

    has_time: Final = True

    def __init__(self, schema: pl.DataFrame) -> None:
        types = schema.schema
        self._gpu = IDENTITY if IDENTITY in types else GPU
        if not _is_zoned(types[TIMESTAMP]):
            raise SourceError(f"column {TIMESTAMP!r} is {types[TIMESTAMP]}, not a time with a zone")
        if not _is_text(types[self._gpu]):
            raise SourceError(f"column {self._gpu!r} is {types[self._gpu]}, not text")
        kinds, names = Kinds(), set[str]()
        self._columns: list[pl.Expr] = []
        self._left_out: dict[str, str] = {}
        for column, kind in types.items():
            if column in (TIMESTAMP, self._gpu):
                continue
            role, name = kind_of(column)
            text = _is_text(kind)
            is_metric = role is Kind.METRIC and not text
            if not (text or kind.is_numeric() or kind in (pl.Boolean, pl.Null)):
                self._left_out[column] = _unusable(column, kind)
                continue
            refused = kinds.refuse([name], are_metrics=is_metric)
            if name in names and not refused:
                refused = {name: f"column {column!r} is left out: the file has another of that name"}
            if refused:
                self._left_out[column] = refused[name]
                continue
            names.add(name)
            self._columns.append(_number(column, name) if is_metric else pl.col(column).cast(pl.String).alias(name))

    def read(self, frame: pl.DataFrame, lines: pl.Series) -> tuple[pl.DataFrame, list[BadRow]]:
        """Rows of a batch and what is wrong with it."""
        rows = frame.select(
            lines.alias(LINE),
            pl.col(TIMESTAMP).dt.convert_time_zone("UTC").dt.cast_time_unit("us").cast(TIME_TYPE),
            pl.col(self._gpu).cast(pl.String).alias(GPU),
            *self._columns,
        )
        wrong = WrongCells()
        wrong.add(lines.filter(rows[TIMESTAMP].is_null()), TIMESTAMP, "the row has no time", row_lost=True)
        without = lines.filter(rows[GPU].is_null() | (rows[GPU] == ""))
        wrong.add(without, self._gpu, "the row names no GPU", row_lost=True)
        for column, reason in self._left_out.items():
            wrong.add(lines.head(1), column, reason)
        self._left_out.clear()
        return wrong.kept(rows), _bad_rows(wrong, frame, lines)

    def records(self, rows: pl.DataFrame) -> pl.DataFrame:
        return each_row_a_record(rows)


class _Foreign:
    """Columns as text, read by the rules for CSV."""

    def __init__(self, schema: pl.DataFrame, zone: tzinfo) -> None:
        headers = schema.columns
        self._positions, placed = place(headers)
        self._layout: Layout = (LongLayout if is_long(headers) else WideLayout)(headers, placed, zone)
        self._apart = Apart(self._layout.keys)
        self._left_out = {
            name: _unusable(name, kind)
            for name, kind in schema.schema.items()
            if kind.is_nested() or kind in (pl.Binary, pl.Object)
        }
        self.has_time = self._layout.has_time

    def read(self, frame: pl.DataFrame, lines: pl.Series) -> tuple[pl.DataFrame, list[BadRow]]:
        """Rows of a batch and what is wrong with it."""
        texts = [
            _texts(frame[name]).alias(position) for name, position in zip(frame.columns, self._positions, strict=True)
        ]
        table = pl.DataFrame([*texts, lines.alias(LINE)])
        wrong = WrongCells()
        for column, reason in self._left_out.items():
            wrong.add(lines.head(1), column, reason)
        self._left_out.clear()
        rows = self._layout.rows(table, wrong) if table.height else pl.DataFrame()
        if rows.height:
            rows = self._apart.keep(without_time(rows, datetime.now(UTC)))
        return rows, _bad_rows(wrong, frame, lines)

    def records(self, rows: pl.DataFrame) -> pl.DataFrame:
        return self._layout.records(rows)


_Table = _Exact | _Foreign


def _number(column: str, name: str) -> pl.Expr:
    """A metric's values; NaN and the infinities are none."""
    value = pl.col(column).cast(pl.Float64)
    return pl.when(value.is_finite()).then(value).alias(name)


def _texts(values: pl.Series) -> pl.Series:
    """A column as CSV would have it; what has no text of its own (lists, structures) as none."""
    kind = values.dtype
    if isinstance(kind, pl.Datetime):
        zoned = kind.time_zone is not None
        local = values.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zoned else values
        texts = local.dt.to_string("%Y-%m-%dT%H:%M:%S%.6f")
        values = texts + "Z" if zoned else texts
    if kind.is_nested() or kind == pl.Binary:
        return pl.Series([""], dtype=pl.String).new_from_index(0, values.len())
    return values.cast(pl.String).fill_null("")


def _bad_rows(wrong: WrongCells, frame: pl.DataFrame, lines: Sequence[int] | pl.Series) -> list[BadRow]:
    first = lines[0] if len(lines) else 1

    def raw(line: int) -> bytes:
        return orjson.dumps(frame.row(line - first, named=True), default=str)

    return wrong.bad_rows(raw)
