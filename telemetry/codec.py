"""How records become messages and messages become records again.

A *frame* is a polars table with a row a record: ``timestamp`` (microseconds, UTC), ``gpu`` (text), a floating point
column a metric under its canonical name, a text column a label. A missing value is null.

Two forms go through the queue, told apart by the message attribute ``content-type``:

- Arrow, thousands of records: a frame as an IPC stream with LZ4 buffers.
- JSON, one record, for programs that do not want to know Arrow::

    {"timestamp": "2026-07-14T08:12:38.696Z", "gpu": "GPU-5fd4…", "fields": {"temperature": 41, "host": "node-1"}}

  ``gpu`` may be left out when the fields identify the GPU (``uuid``, or ``host`` and ``index``, or ``gpu_id``). Names,
  units and non-values are understood as in a CSV file.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final, cast

import orjson
import polars as pl

from telemetry.arrow_stream import unpacked_size
from telemetry.model import GPU, TIMESTAMP, Record, gpu_identity
from telemetry.tabular import Role, column_of, from_epoch, in_range, is_absent, plausible, read_number, read_time

CONTENT_TYPE: Final = "content-type"
"""The message attribute that says which form a message has."""

SOURCE: Final = "source"
"""The message attribute that says where its records came from, such as ``file.csv:120-5119`` (lines)."""

ARROW_CONTENT_TYPE: Final = "application/vnd.apache.arrow.stream"
JSON_CONTENT_TYPE: Final = "application/json"

TIME_TYPE: Final = pl.Datetime("us", "UTC")
"""The type of a frame's ``timestamp``."""

RECORDS_MAX: Final = 65_536
"""Most records that a message may hold."""

UNPACKED_BYTES_MAX: Final = 128 << 20
"""Most bytes that an Arrow message may take once its buffers are unpacked."""


class CodecError(ValueError):
    """A message that cannot be read; the text names what is wrong with it."""


def metric_columns(frame: pl.DataFrame) -> list[str]:
    """The metrics of a frame."""
    return [name for name, kind in frame.schema.items() if kind == pl.Float64]


def label_columns(frame: pl.DataFrame) -> list[str]:
    """The labels of a frame."""
    return [name for name, kind in frame.schema.items() if kind == pl.String and name != GPU]


def frame_of(records: Iterable[Record]) -> pl.DataFrame:
    """Put records into a frame, in the order given."""
    rows = list(records)
    columns = [
        pl.Series(TIMESTAMP, [record.timestamp for record in rows], TIME_TYPE),
        pl.Series(GPU, [record.gpu for record in rows], pl.String),
    ]
    for name in dict.fromkeys(name for record in rows for name in record.metrics):
        columns.append(pl.Series(name, [record.metrics.get(name) for record in rows], pl.Float64))
    for name in dict.fromkeys(name for record in rows for name in record.labels):
        columns.append(pl.Series(name, [record.labels.get(name) for record in rows], pl.String))
    return pl.DataFrame(columns)


def records_of(frame: pl.DataFrame) -> Iterator[Record]:
    """Take records out of a frame; far slower than working on its columns."""
    metrics, labels = metric_columns(frame), label_columns(frame)
    for row in frame.iter_rows(named=True):
        yield Record(
            row[TIMESTAMP],
            row[GPU],
            {name: row[name] for name in metrics if row[name] is not None},
            {name: row[name] for name in labels if row[name] is not None},
        )


def encode_arrow(frame: pl.DataFrame) -> bytes:
    """Write a frame as one message."""
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer, compression="lz4")
    return buffer.getvalue()


def encode_json(record: Record) -> bytes:
    """Write one record as one message."""
    content = {TIMESTAMP: record.timestamp, GPU: record.gpu, "fields": {**record.metrics, **record.labels}}
    return orjson.dumps(content, option=orjson.OPT_UTC_Z)


def decode(data: bytes, content_type: str) -> pl.DataFrame:
    """Read a message.

    Raises:
        CodecError: if it is not a message of that type, or not a frame.
    """
    if content_type == ARROW_CONTENT_TYPE:
        return _decode_arrow(data)
    if content_type == JSON_CONTENT_TYPE:
        return frame_of([decode_json(data)])
    raise CodecError(
        f"content type {content_type!r} is not known; known are {ARROW_CONTENT_TYPE} and {JSON_CONTENT_TYPE}"
    )


def _decode_arrow(data: bytes) -> pl.DataFrame:
    try:
        size = unpacked_size(data)
    except ValueError as error:
        raise CodecError(str(error)) from None
    if size > UNPACKED_BYTES_MAX:
        raise CodecError(f"unpacked it would take {size} bytes; at most {UNPACKED_BYTES_MAX} are allowed")
    try:
        frame = pl.read_ipc_stream(io.BytesIO(data))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise CodecError(f"not an Arrow stream: {reason}") from None
    if frame.height > RECORDS_MAX:
        raise CodecError(f"{frame.height} records in one message; at most {RECORDS_MAX} are allowed")
    return _valid(frame)


def _valid(frame: pl.DataFrame) -> pl.DataFrame:
    """Bring the columns to a frame's types, or say which one is wrong."""
    for name in (TIMESTAMP, GPU):
        if name not in frame.schema:
            raise CodecError(f"column {name!r} is missing")
    columns = []
    for name, kind in frame.schema.items():
        column = pl.col(name)
        if name == TIMESTAMP:
            if not isinstance(kind, pl.Datetime) or kind.time_zone is None:
                raise CodecError(f"column 'timestamp' is {kind}, not a time with a zone")
            columns.append(column if kind == TIME_TYPE else column.dt.convert_time_zone("UTC").dt.cast_time_unit("us"))
        elif kind == pl.String:
            columns.append(column)
        elif isinstance(kind, pl.Categorical | pl.Enum):
            columns.append(column.cast(pl.String))
        elif name == GPU:
            raise CodecError(f"column 'gpu' is {kind}, not text")
        elif kind == pl.Float64:
            columns.append(column)
        elif kind.is_numeric() or kind == pl.Boolean:
            columns.append(column.cast(pl.Float64))
        elif kind != pl.Null:
            raise CodecError(f"column {name!r} is {kind}, neither a number nor text")
    frame = frame.select(columns)
    for name in (TIMESTAMP, GPU):
        if frame[name].null_count():
            raise CodecError(f"column {name!r} has no value in row {frame[name].is_null().arg_max()}")
    if (frame[GPU] == "").any():
        raise CodecError(f"column 'gpu' is empty in row {(frame[GPU] == '').arg_max()}")
    return _without_not_finite(frame)


def _without_not_finite(frame: pl.DataFrame) -> pl.DataFrame:
    """NaN and the infinities are not values."""
    metrics = metric_columns(frame)
    if not metrics or not frame.height:
        return frame
    # One number is finite only if all that went into it are; most frames need no more than this check.
    finite = frame.select(pl.all_horizontal(pl.col(metrics).is_finite().all())).item()
    if finite is not False:
        return frame
    return frame.with_columns(pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in metrics)


def decode_json(data: bytes) -> Record:
    """Read a JSON message; for many of them, this and one :func:`frame_of` cost far less than a frame each.

    Raises:
        CodecError: if it is not one.
    """
    try:
        content = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise CodecError(f"not JSON: {error}") from None
    if not isinstance(content, dict):
        raise CodecError("not a JSON object")
    fields = content.get("fields")
    if not isinstance(fields, dict):
        raise CodecError("'fields' is not an object")
    metrics: dict[str, float] = {}
    labels: dict[str, str] = {}
    identity: dict[Role, str] = {}
    for header, value in fields.items():
        _read_field(header, value, metrics, labels, identity)
    gpu = content.get(GPU)
    if gpu is not None and not isinstance(gpu, str):
        raise CodecError("'gpu' is not text")
    gpu = gpu or gpu_identity(*(identity.get(role) for role in (Role.UUID, Role.HOST, Role.INDEX, Role.BARE)))
    if not gpu:
        raise CodecError("no field says which GPU it is: 'gpu', 'uuid', 'host' and 'index', or 'gpu_id'")
    return Record(_json_time(content.get(TIMESTAMP)), gpu, metrics, labels)


def _read_field(
    header: str, value: object, metrics: dict[str, float], labels: dict[str, str], identity: dict[Role, str]
) -> None:
    column = column_of(header)
    if value is None or column.role is Role.TIME:
        return
    if not isinstance(value, str | int | float):
        raise CodecError(f"field {header!r} is neither a number nor text")
    if column.role in (Role.METRIC, Role.UNKNOWN) and not isinstance(value, str):
        number = plausible(float(value), column)
        if number is not None:
            metrics[column.name] = number
    elif column.role is Role.METRIC:
        try:
            number = read_number(cast("str", value), column)
        except ValueError as error:
            raise CodecError(f"field {header!r}: {error}") from None
        if number is not None:
            metrics[column.name] = number
    elif not is_absent(text := str(value)):
        if column.role not in (Role.LABEL, Role.UNKNOWN):
            identity[column.role] = text.strip()
        if column.role is not Role.BARE:
            labels[column.name] = text.strip()


def _json_time(value: object) -> datetime:
    try:
        if isinstance(value, str):
            return read_time(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return in_range(from_epoch(value))
    except ValueError as error:
        raise CodecError(f"'timestamp': {error}") from None
    raise CodecError("'timestamp' is missing" if value is None else "'timestamp' is neither text nor a number")
