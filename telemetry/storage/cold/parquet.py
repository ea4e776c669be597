"""One Parquet file: how it is written and encoded, and how its rows are read with every checksum checked.

Encodings were chosen by measurement: most metrics of GPUs are whole numbers or have few decimals, so a dictionary with
zstd beats all else; what hardly ever repeats (an energy counter) goes byte by byte.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import google_crc32c
import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from telemetry.model import GPU, TIMESTAMP
from telemetry.storage.cold.files import FORMAT, ROLLUP_FUNCTIONS, ColdFile, ColdFileError, Level, Window, column_names
from telemetry.storage.cold.rows import TIMES_US, column_of, columns_of

ROW_GROUP_ROWS: Final = 1 << 17
"""Rows of a row group, of records; a reader decodes no less of a column."""

_ROLLUP_GROUP_ROWS: Final = 1 << 13
_ROW_GROUP_BYTES: Final = 32 << 20
_ZSTD_LEVEL: Final = 9
_REPEATS_AT_LEAST: Final = 2
"""A column whose values come so often each, on average, gets a dictionary."""

_DICTIONARY_BYTES_MAX: Final = 4 << 20
_CHECKSUM_READ_BYTES: Final = 4 << 20
_METADATA: Final = "telemetry"
_CHECKSUMS: Final = "telemetry.checksums"
"""Names the CRC-32C of each column's bytes in each row group, eight hexadecimal digits each. Parquet's own checksums
leave out the headers of pages, and few readers look at them."""

_MAGIC: Final = b"PAR1"


def stored_columns(level: Level, metrics: Sequence[str]) -> tuple[list[str], list[str]]:
    """The columns that hold metrics in a frame, and what they are called in a file, in the file's order."""
    names = (
        [f"{metric}:{name}" for metric in metrics for name in ROLLUP_FUNCTIONS] if level.is_rollup else list(metrics)
    )
    return [column_of(name) for name in names], column_names(names)


def stored_type(level: Level, column: str) -> pl.DataType:
    """The type of a column that holds a metric, or of the count of its samples in a roll-up."""
    return pl.Int64() if level.is_rollup and column.endswith(":count") else pl.Float64()


class ParquetFile:
    """Writes a file row group by row group. Rows come sorted; memory holds a row group at a time."""

    def __init__(self, path: Path, level: Level, window: Window, metrics: Sequence[str]) -> None:
        self._path = path
        self._columns, self._names = stored_columns(level, metrics)
        self._level = level
        self._metadata = {
            "format": FORMAT,
            "level": level.value,
            "window": [window.start_us, window.end_us],
            "metrics": list(metrics),
        }
        most = _ROLLUP_GROUP_ROWS if level.is_rollup else ROW_GROUP_ROWS
        self._group_rows = max(1024, min(most, _ROW_GROUP_BYTES // (8 * (len(self._columns) + 2))))
        self._waiting: list[pl.DataFrame] = []
        self._waiting_rows = 0
        self._writer: pq.ParquetWriter | None = None
        self._groups = 0
        self.rows = 0
        self.samples = 0
        self.first_us = sys.maxsize
        self.last_us = -sys.maxsize
        self.gpu_min = ""
        self.gpu_max = ""

    def write(self, frame: pl.DataFrame) -> None:
        """Add rows, which come after those already there. Columns that the frame lacks are null."""
        if not frame.height:
            return
        missing = [
            pl.lit(None, stored_type(self._level, name)).alias(name)
            for name in self._columns
            if name not in frame.columns
        ]
        self._waiting.append(frame.with_columns(missing).select(GPU, TIMESTAMP, *self._columns))
        self._waiting_rows += frame.height
        self._note(self._waiting[-1])
        while self._waiting_rows >= self._group_rows:
            self._flush(self._group_rows)

    def close(self) -> None:
        """Write what is left and the footer, and wait for the disk."""
        if self._waiting_rows:
            self._flush(self._waiting_rows)
        if self._writer is not None:
            # The checksums are known only when the footer is written; they then take the place of these marks.
            marks = "?" * (8 * self._groups * (2 + len(self._columns)))
            self._writer.add_key_value_metadata({_CHECKSUMS: marks})
            self._writer.close()
            _fill_in_checksums(self._path, marks.encode())
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def abandon(self) -> None:
        """Close without minding what becomes of the file."""
        if self._writer is not None:
            with suppress(OSError, pa.ArrowException):
                self._writer.close()

    def _note(self, frame: pl.DataFrame) -> None:
        if not self.rows:
            self.gpu_min = frame.item(0, GPU)
        self.gpu_max = frame.item(-1, GPU)
        self.rows += frame.height
        first, last = frame.select(TIMES_US.min().alias("first"), TIMES_US.max().alias("last")).row(0)
        self.first_us, self.last_us = min(self.first_us, first), max(self.last_us, last)
        self.samples += samples_in(frame, is_rollup=self._level.is_rollup)

    def _flush(self, rows: int) -> None:
        joined = pl.concat(self._waiting)
        table = _table(joined.head(rows), self._columns, self._names)
        rest = joined.slice(rows)
        self._waiting, self._waiting_rows = [rest] if rest.height else [], rest.height
        if self._writer is None:
            self._writer = self._open(joined.head(rows), table.schema)
        self._writer.write_table(table, row_group_size=rows)
        self._groups += 1

    def _open(self, sample: pl.DataFrame, schema: pa.Schema) -> pq.ParquetWriter:
        """Choose encodings by the first row group."""
        encodings = {TIMESTAMP: "DELTA_BINARY_PACKED"}
        dictionaries = [GPU]
        for column, name in zip(self._columns, self._names, strict=True):
            if sample.get_column(column).n_unique() * _REPEATS_AT_LEAST <= sample.height + _REPEATS_AT_LEAST:
                dictionaries.append(name)
            else:
                encodings[name] = "BYTE_STREAM_SPLIT"
        # Not all of pyarrow's stubs know what these may be.
        options: dict[str, Any] = {"use_dictionary": dictionaries, "column_encoding": encodings}
        writer = pq.ParquetWriter(
            self._path,
            schema,
            compression="zstd",
            compression_level=_ZSTD_LEVEL,
            dictionary_pagesize_limit=_DICTIONARY_BYTES_MAX,
            write_page_checksum=True,
            write_statistics=[GPU, TIMESTAMP],
            store_schema=False,
            **options,
        )
        writer.add_key_value_metadata({_METADATA: orjson.dumps(self._metadata).decode()})
        return writer


class ColdParquet:
    """A file opened for reading. The footer is checked against the description, each page against its checksum."""

    def __init__(self, directory: Path, file: ColdFile) -> None:
        """Open it.

        Raises:
            ColdFileError: it is missing, or its footer is not the one that was written.
        """
        self._file = file
        path = directory / file.path
        with _naming(file):
            self._source = pa.OSFile(str(path), "r")
            try:
                if _footer_crc32c(self._source) != file.footer_crc32c:
                    raise ColdFileError(file.path, "the footer is damaged")
                self._parquet = pq.ParquetFile(self._source, pre_buffer=False, read_dictionary=[GPU])
                self._checksums = (self._parquet.metadata.metadata or {})[_CHECKSUMS.encode()]
            except BaseException:
                self._source.close()
                raise

    def __enter__(self) -> ColdParquet:
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()

    @property
    def metadata(self) -> dict[str, Any]:
        """What the file says of itself: format, level, window, metrics."""
        stored = self._parquet.metadata.metadata or {}
        return dict(orjson.loads(stored.get(_METADATA.encode(), b"{}")))

    @property
    def rows(self) -> int:
        """How many rows the footer speaks of."""
        return int(self._parquet.metadata.num_rows)

    def frames(
        self,
        columns: Sequence[str],
        *,
        gpus: Collection[str] | None = None,
        start_us: int | None = None,
        end_us: int | None = None,
        batch_rows: int = ROW_GROUP_ROWS,
    ) -> Iterator[pl.DataFrame]:
        """Yield ``gpu``, ``timestamp`` and ``columns`` (as frames call them), in the file's order.

        Columns that the file lacks are left out. ``gpus`` and ``start_us`` ≤ time < ``end_us`` choose rows.

        Raises:
            ColdFileError: what is read is damaged.
        """
        known = zip(*stored_columns(self._file.level, self._file.metrics), strict=True)
        places = {column: (place, name) for place, (column, name) in enumerate(known, 2) if column in columns}
        names = {column: name for column, (_, name) in places.items()}
        checked = [0, 1, *(place for place, _ in places.values())]
        window = self._file.window
        conditions = []
        if start_us is not None and start_us > window.start_us:
            conditions.append(TIMES_US.ge(start_us))
        if end_us is not None and end_us < window.end_us:
            conditions.append(TIMES_US.lt(end_us))
        with _naming(self._file):
            for group in self._groups(gpus, start_us, end_us):
                self._check(group, checked)
                batches = self._parquet.iter_batches(
                    batch_rows, [group], [GPU, TIMESTAMP, *names.values()], use_threads=False
                )
                while (batch := next(batches, None)) is not None:
                    frame = _frame(batch, names, gpus)
                    if conditions:
                        frame = frame.filter(conditions)
                    if frame.height:
                        yield frame

    def _check(self, group: int, places: Sequence[int]) -> None:
        """Compare what is about to be read with its checksums."""
        metadata = self._parquet.metadata
        for place in places:
            expected = self._checksums[(group * metadata.num_columns + place) * 8 :][:8]
            start, length = _chunk(metadata, group, place)
            if _hex(_read(self._source, start, length)) != expected:
                name = metadata.row_group(group).column(place).path_in_schema
                raise ColdFileError(self._file.path, f"column {name!r} is damaged")

    def _groups(self, gpus: Collection[str] | None, start_us: int | None, end_us: int | None) -> list[int]:
        """The row groups in which anything of what is asked for can be."""
        metadata = self._parquet.metadata
        if gpus is None:
            return list(range(metadata.num_row_groups))
        first, last = min(gpus, default=""), max(gpus, default="")
        found = []
        for place in range(metadata.num_row_groups):
            group = metadata.row_group(place)
            # Names of more than 4 KiB have no statistics; such a group is read.
            low, high = _bounds(group.column(0).statistics, "min", "max", ("", last))
            if last < low or first > high:
                continue
            low_us, high_us = _bounds(group.column(1).statistics, "min_raw", "max_raw", (-sys.maxsize, sys.maxsize))
            if (end_us is None or low_us < end_us) and (start_us is None or high_us >= start_us):
                found.append(place)
        return found


def samples_in(frame: pl.DataFrame, *, is_rollup: bool) -> int:
    """How many values a frame's records hold, or how many a roll-up's rows were made of."""
    columns = columns_of(frame)
    if is_rollup:
        counts = [column for column in columns if column.endswith(":count")]
        return sum(frame.select(pl.col(counts).sum()).row(0)) if counts else 0
    return sum(frame.select(pl.col(columns).count()).row(0)) if columns else 0


def file_crc32c(path: Path) -> int:
    """The checksum of a whole file."""
    checksum = 0
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_CHECKSUM_READ_BYTES):
            checksum = google_crc32c.extend(checksum, piece)
    return checksum


def footer_crc32c(path: Path) -> int:
    """The checksum of a Parquet file's footer, its length and the mark after it; 0 if there is none."""
    with pa.OSFile(str(path), "r") as source:
        return _footer_crc32c(source)


def _footer_crc32c(source: pa.NativeFile) -> int:
    size = source.size()
    end = _read(source, max(0, size - 8), 8)
    length = int.from_bytes(end[:4], "little")
    if end[4:] != _MAGIC or length > size - 12:
        return 0
    return int(google_crc32c.value(_read(source, size - 8 - length, length + 8)))


def _read(source: pa.NativeFile, start: int, length: int) -> bytes:
    source.seek(start)
    return bytes(source.read(length))


def _chunk(metadata: pq.FileMetaData, group: int, place: int) -> tuple[int, int]:
    """Offset and length of a column's bytes in a row group."""
    chunk = metadata.row_group(group).column(place)
    start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
    return int(start or 0), chunk.total_compressed_size


def _hex(data: bytes) -> bytes:
    return b"%08x" % google_crc32c.value(data)


class _naming:  # noqa: N801 - reads as a word
    """Turns whatever a damaged file makes of its reader into a :class:`ColdFileError` that names it."""

    def __init__(self, file: ColdFile) -> None:
        self._file = file

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, FileNotFoundError):
            raise ColdFileError(self._file.path, "the file is missing") from None
        if isinstance(error, (OSError, pa.ArrowException, ValueError, KeyError, pl.exceptions.PolarsError)):
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ColdFileError(self._file.path, reason) from None


def _bounds(statistics: Any, low: str, high: str, unknown: tuple[Any, Any]) -> tuple[Any, Any]:
    known = statistics is not None and statistics.has_min_max
    return (getattr(statistics, low), getattr(statistics, high)) if known else unknown


def _fill_in_checksums(path: Path, marks: bytes) -> None:
    with path.open("r+b") as file:
        metadata = pq.read_metadata(path)
        checksums = []
        for group in range(metadata.num_row_groups):
            for place in range(metadata.num_columns):
                start, length = _chunk(metadata, group, place)
                file.seek(start)
                checksums.append(_hex(file.read(length)))
        start = file.seek(-8 - metadata.serialized_size, os.SEEK_END)
        file.seek(start + file.read().index(marks))
        file.write(b"".join(checksums))


def _table(frame: pl.DataFrame, columns: Sequence[str], names: Sequence[str]) -> pa.Table:
    gpus = frame.get_column(GPU)
    codes = gpus.rle_id().to_numpy()
    dictionary = pa.array(gpus.unique(maintain_order=True).to_list(), pa.string())
    arrays = [
        pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), dictionary),
        frame.get_column(TIMESTAMP).to_arrow().cast(pa.timestamp("us", "UTC")),
        *(frame.get_column(column).to_arrow() for column in columns),
    ]
    return pa.table(arrays, names=[GPU, TIMESTAMP, *names])


def _frame(batch: pa.RecordBatch, names: dict[str, str], gpus: Collection[str] | None) -> pl.DataFrame:
    coded = batch.column(0)
    assert isinstance(coded, pa.DictionaryArray)
    codes = coded.indices.to_numpy(zero_copy_only=False)
    known = coded.dictionary.to_pylist()
    if gpus is not None:
        # Rows are sorted, so what is wanted of one GPU, and often of several, is a slice.
        rows = np.flatnonzero(np.isin(codes, [code for code, gpu in enumerate(known) if gpu in gpus]))
        start, count = (int(rows[0]), int(rows[-1] - rows[0]) + 1) if len(rows) else (0, 0)
        batch = batch.slice(start, count) if count == len(rows) else batch.take(rows)
        codes = codes[start : start + count] if count == len(rows) else codes[rows]
    values = pa.table([batch.column(name) for name in (TIMESTAMP, *names.values())], names=[TIMESTAMP, *names])
    frame = pl.from_arrow(values)
    assert isinstance(frame, pl.DataFrame)
    return frame.insert_column(0, pl.Series(GPU, known, dtype=pl.String).gather(pl.Series(codes)))
