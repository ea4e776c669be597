"""Writing records into files: CSV, JSON Lines, Parquet, Arrow. How they look is told in :mod:`telemetry.exchange`.

The same records become the same bytes, however they arrive.
"""

from __future__ import annotations

import csv
import enum
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, Final, Protocol, cast

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from telemetry.exchange import IDENTITY, escaped, escaped_texts, label_column, metric_column
from telemetry.model import TIMESTAMP

ROWS: Final = 16_384
"""Records written at a time."""
ROW_GROUP_ROWS: Final = 131_072
"""Rows of a row group in Parquet."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_TYPE: Final = pl.Datetime("us", "UTC")


class Format(enum.Enum):
    """What can be written."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    ARROW = "arrow"


ENDINGS: Final = {
    ".csv": Format.CSV,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
    ".arrow": Format.ARROW,
    ".feather": Format.ARROW,
    ".ipc": Format.ARROW,
}
"""Formats by how a file's name ends; of the first two also with ``.gz``."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One record as collectors have it.

    Attributes:
        time_us: when, in microseconds since 1970.
        gpu: which GPU.
        metrics: its values.
    """

    time_us: int
    gpu: str
    metrics: dict[str, float]


Labels = Mapping[str, dict[str, str]]
"""GPU to its labels."""


class RecordWriter(Protocol):
    """Writes records; nothing is complete before :meth:`finish`."""

    def write(self, records: Sequence[Stored]) -> None:
        """Write records, in order. The number of them at a time must not depend on how they arrived."""
        ...

    def finish(self) -> None:
        """Write what belongs at the end."""
        ...

    def abandon(self) -> None:
        """Leave it unfinished: nothing more is written."""
        ...


def record_writer(
    kind: Format, file: BinaryIO, metrics: Sequence[str], names: Sequence[str], labels: Labels
) -> RecordWriter:
    """A writer into ``file``.

    Args:
        kind: what to write.
        file: where to; it is not closed.
        metrics: the metrics that records have; tables have a column for each.
        names: the labels that GPUs have; tables have a column for each.
        labels: what labels each GPU has.
    """
    if kind is Format.JSONL:
        return _JsonLines(file, frozenset(metrics), labels)
    table = _Table(metrics, names, labels)
    if kind is Format.CSV:
        return _Csv(file, table)
    return _Parquet(file, table) if kind is Format.PARQUET else _Arrow(file, table)


class _JsonLines:
    def __init__(self, file: BinaryIO, metrics: frozenset[str], labels: Labels) -> None:
        self._file = file
        self._metrics = metrics
        self._labels = labels

    def write(self, records: Sequence[Stored]) -> None:
        self._file.write(b"".join(map(self._line, records)))

    def finish(self) -> None:
        pass

    def abandon(self) -> None:
        pass

    def _line(self, record: Stored) -> bytes:
        time = (_EPOCH + timedelta(microseconds=record.time_us)).replace(tzinfo=None)
        metrics = record.metrics
        if not self._metrics.issuperset(metrics):
            metrics = {name: value for name, value in metrics.items() if name in self._metrics}
        content = {
            "gpu_id": record.gpu,
            "metrics": metrics,
            TIMESTAMP: time.isoformat(timespec="microseconds") + "Z",
        }
        if labels := self._labels.get(record.gpu):
            content["labels"] = labels
        return orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SORT_KEYS)


class _Table:
    """Records as columns."""

    def __init__(self, metrics: Sequence[str], names: Sequence[str], labels: Labels) -> None:
        self._metrics = metrics
        self._names = names
        self._labels = labels

    def frame(self, records: Sequence[Stored]) -> pl.DataFrame:
        """A row a record."""
        gpus = pl.Series(IDENTITY, [record.gpu for record in records], pl.String)
        times = pl.Series(TIMESTAMP, [record.time_us for record in records], pl.Int64)
        metrics = [
            pl.Series(metric_column(name), [record.metrics.get(name) for record in records], pl.Float64)
            for name in self._metrics
        ]
        return pl.DataFrame([times.cast(_TIME_TYPE), gpus, *metrics, *self._label_columns(gpus)])

    def _label_columns(self, gpus: pl.Series) -> list[pl.Series]:
        known = gpus.unique(maintain_order=True)
        nothing: dict[str, str] = {}
        columns = []
        for name in self._names:
            values = pl.Series([self._labels.get(gpu, nothing).get(name) for gpu in known], dtype=pl.String)
            columns.append(gpus.replace_strict(known, values, return_dtype=pl.String).alias(label_column(name)))
        return columns


class _Csv:
    def __init__(self, file: BinaryIO, table: _Table) -> None:
        self._file = file
        self._table = table
        header = io.StringIO()
        csv.writer(header, lineterminator="\n").writerow(escaped(name) for name in table.frame([]).columns)
        file.write(header.getvalue().encode())

    def write(self, records: Sequence[Stored]) -> None:
        frame = self._table.frame(records)
        time = pl.col(TIMESTAMP).dt.replace_time_zone(None).dt.to_string("iso:strict") + "Z"
        texts = [escaped_texts(column) for column in frame if column.dtype == pl.String]
        frame = frame.with_columns(time, *texts)
        self._file.write(frame.write_csv(include_header=False, line_terminator="\n").encode())

    def finish(self) -> None:
        pass

    def abandon(self) -> None:
        pass


class _Parquet:
    def __init__(self, file: BinaryIO, table: _Table) -> None:
        self._table = table
        schema = table.frame([]).to_arrow().schema
        self._schema = schema
        self._writer = pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True)
        self._waiting: list[pa.Table] = []

    def write(self, records: Sequence[Stored]) -> None:
        self._waiting.append(self._table.frame(records).to_arrow().cast(self._schema))
        if sum(table.num_rows for table in self._waiting) >= ROW_GROUP_ROWS:
            self._flush()

    def finish(self) -> None:
        self._flush()
        self._writer.close()

    def abandon(self) -> None:
        # Or it would write the end when it is collected.
        self._writer.is_open = False

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting), row_group_size=ROW_GROUP_ROWS)
            self._waiting.clear()


class _Arrow:
    def __init__(self, file: BinaryIO, table: _Table) -> None:
        self._table = table
        self._schema = table.frame([]).to_arrow().schema
        options = ipc.IpcWriteOptions(compression="zstd")
        self._writer = ipc.new_file(cast("io.IOBase", file), self._schema, options=options)

    def write(self, records: Sequence[Stored]) -> None:
        self._writer.write_table(self._table.frame(records).to_arrow().cast(self._schema))

    def finish(self) -> None:
        self._writer.close()

    def abandon(self) -> None:
        pass
