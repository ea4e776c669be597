"""One Parquet file: how it is written and encoded, and how its rows are read with every checksum checked.

Types are said by :mod:`telemetry.storage.cold.digits`; of the encodings that readers know, each column has the one that
makes it smallest in the file's first row group.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
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
from telemetry.storage.cold.digits import BINARY, Digits, to_arrow, to_floats
from telemetry.storage.cold.files import FORMAT, ROLLUP_FUNCTIONS, ColdFile, ColdFileError, Level, Window, column_names
from telemetry.storage.cold.rows import TIMES_US, column_of, columns_of

ROW_GROUP_ROWS: Final = 1 << 17
"""Rows of a row group, of records; a reader decodes no less of a column."""

_ROLLUP_GROUP_ROWS: Final = 1 << 13
_ROW_GROUP_BYTES: Final = 32 << 20
_ZSTD_LEVEL: Final = 15
"""Of files that stay. The lowest that finds nearly all there is in columns split by bytes; the highest takes three
times as long."""

_ZSTD_LEVEL_OF_HOURS: Final = 3
"""Of files that are merged into a day's soon."""

_TRIAL_LEVEL: Final = 3
"""Good enough to compare encodings."""

_TRIAL_ROWS_MIN: Final = 512
"""With fewer rows in a file it matters little."""

_DICTIONARY: Final = "RLE_DICTIONARY"
_ENCODINGS: Final = (_DICTIONARY, "BYTE_STREAM_SPLIT")
_ENCODINGS_OF_INTEGERS: Final = (*_ENCODINGS, "DELTA_BINARY_PACKED")

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

    def __init__(self, path: Path, level: Level, window: Window, metrics: Mapping[str, Digits]) -> None:
        """Begin a file.

        Args:
            path: where.
            level: what it will hold.
            window: of which time.
            metrics: what it will have columns for, and what all their values can be written with.
        """
        self._path = path
        self._columns, self._names = stored_columns(level, list(metrics))
        self._digits = _digits_of_columns(level, metrics)
        self._level = level
        self._zstd_level = _ZSTD_LEVEL_OF_HOURS if window.level is Level.HOUR else _ZSTD_LEVEL
        self._metadata = {
            "format": FORMAT,
            "level": level.value,
            "window": [window.start_us, window.end_us],
            "metrics": list(metrics),
            "digits": [digits.to_json() for digits in metrics.values()],
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
        table = _table(joined.head(rows), self._digits, self._names)
        rest = joined.slice(rows)
        self._waiting, self._waiting_rows = [rest] if rest.height else [], rest.height
        if self._writer is None:
            self._writer = self._open(table)
        self._writer.write_table(table, row_group_size=rows)
        self._groups += 1

    def _open(self, first: pa.Table) -> pq.ParquetWriter:
        """Choose encodings by the first row group."""
        chosen = {TIMESTAMP: "DELTA_BINARY_PACKED"}
        chosen |= {name: _best_encoding(first.select([name])) for name in self._names}
        dictionaries = [GPU, *(name for name, encoding in chosen.items() if encoding == _DICTIONARY)]
        encodings = {name: encoding for name, encoding in chosen.items() if encoding != _DICTIONARY}
        # Not all of pyarrow's stubs know what these may be.
        options: dict[str, Any] = {
            "use_dictionary": dictionaries,
            "column_encoding": encodings,
            "store_decimal_as_integer": True,
        }
        writer = pq.ParquetWriter(
            self._path,
            first.schema,
            compression="zstd",
            compression_level=self._zstd_level,
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
    def digits(self) -> dict[str, Digits]:
        """What the values of each metric can be written with, as far as is known."""
        said = self.metadata.get("digits") or [BINARY.to_json()] * len(self._file.metrics)
        return {metric: Digits.from_json(each) for metric, each in zip(self._file.metrics, said, strict=True)}

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
                    frame = _frame(batch, names, gpus, self._file.level)
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


def _digits_of_columns(level: Level, metrics: Mapping[str, Digits]) -> dict[str, Digits]:
    """What each column of a frame is written with. Sums may have any digits; a count has its own type."""
    if not level.is_rollup:
        return {column_of(metric): digits for metric, digits in metrics.items()}
    return {
        column_of(f"{metric}:{name}"): BINARY if name in ("sum", "count") else digits
        for metric, digits in metrics.items()
        for name in ROLLUP_FUNCTIONS
    }


def _best_encoding(column: pa.Table) -> str:
    """The encoding of a column with which it is smallest."""
    if column.num_rows < _TRIAL_ROWS_MIN:
        return _DICTIONARY
    kind = column.schema.field(0).type
    candidates = _ENCODINGS if pa.types.is_floating(kind) else _ENCODINGS_OF_INTEGERS
    sizes = {encoding: _encoded_size(column, encoding) for encoding in candidates}
    return min(sizes, key=lambda encoding: sizes[encoding])


def _encoded_size(column: pa.Table, encoding: str) -> int:
    options: dict[str, Any] = {"use_dictionary": True}
    if encoding != _DICTIONARY:
        options = {"use_dictionary": False, "column_encoding": dict.fromkeys(column.column_names, encoding)}
    sink = pa.BufferOutputStream()
    pq.write_table(
        column,
        sink,
        compression="zstd",
        compression_level=_TRIAL_LEVEL,
        dictionary_pagesize_limit=_DICTIONARY_BYTES_MAX,
        write_statistics=False,
        store_schema=False,
        store_decimal_as_integer=True,
        **options,
    )
    return int(sink.tell())


def _table(frame: pl.DataFrame, digits: Mapping[str, Digits], names: Sequence[str]) -> pa.Table:
    gpus = frame.get_column(GPU)
    codes = gpus.rle_id().to_numpy()
    dictionary = pa.array(gpus.unique(maintain_order=True).to_list(), pa.string())
    arrays = [
        pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), dictionary),
        frame.get_column(TIMESTAMP).to_arrow().cast(pa.timestamp("us", "UTC")),
        *(to_arrow(frame.get_column(column), said) for column, said in digits.items()),
    ]
    return pa.table(arrays, names=[GPU, TIMESTAMP, *names])


def _frame(batch: pa.RecordBatch, names: dict[str, str], gpus: Collection[str] | None, level: Level) -> pl.DataFrame:
    known = _coded(batch).dictionary.to_pylist()
    if gpus is not None:
        # Rows are sorted, so what is wanted of one GPU, and often of several, is a slice.
        codes = _coded(batch).indices.to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(np.fromiter((gpu in gpus for gpu in known), np.bool_, len(known))[codes])
        start, count = (int(rows[0]), int(rows[-1] - rows[0]) + 1) if len(rows) else (0, 0)
        batch = batch.slice(start, count) if count == len(rows) else batch.take(rows)
    columns = [
        batch.column(name) if stored_type(level, column) == pl.Int64 else to_floats(batch.column(name))
        for column, name in names.items()
    ]
    # All by way of a table: for a lone array polars loads libraries that take longer to load than a chart to make.
    table = pa.table([_coded(batch).indices, batch.column(TIMESTAMP), *columns], names=[GPU, TIMESTAMP, *names])
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame.with_columns(pl.Series(GPU, known, dtype=pl.String).gather(frame.get_column(GPU)))


def _coded(batch: pa.RecordBatch) -> pa.DictionaryArray[Any, Any]:
    """The GPUs of rows."""
    column = batch.column(0)
    assert isinstance(column, pa.DictionaryArray)
    return column
