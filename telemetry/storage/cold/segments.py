"""Closed segments of the hot store as sorted rows; lines that are no records are reported and kept, never dropped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import orjson
import polars as pl

from telemetry.model import GPU, TIMESTAMP
from telemetry.storage.cold.files import HotSegment
from telemetry.storage.cold.rows import TIME, column_of, merge_rows
from telemetry.storage.files import read_range

BATCH_BYTES: Final = 4 << 20
"""So many bytes of segments are parsed together."""

_LINE_TIME: Final = "%Y-%m-%dT%H:%M:%S%.fZ"


@dataclass(frozen=True, slots=True)
class DamagedLine:
    """A line that is no record.

    Attributes:
        segment: where it is.
        offset: of its first byte in the file.
        data: the line, without its end.
        reason: what is wrong with it.
    """

    segment: HotSegment
    offset: int
    data: bytes
    reason: str


def read_segments(segments: Sequence[HotSegment]) -> Iterator[tuple[pl.DataFrame, list[DamagedLine]]]:
    """Yield the rows of segments, sorted and one an instant in each frame, and the lines that are none.

    ``segments`` are sorted by GPU; those of one GPU are in the order in which they were written, and where two frames
    have rows of the same instant, the later frame is right.

    Raises:
        OSError: a segment cannot be read.
        EOFError: a segment is shorter than it shall be.
    """
    for batch in _batches(segments):
        pieces = [(segment, _read(segment)) for segment in batch]
        frame = _parse([(segment.gpu, data) for segment, data in pieces])
        damaged: list[DamagedLine] = []
        if frame is None:
            frame = pl.concat([_parse_lines(*piece, damaged) for piece in pieces], how="diagonal")
        yield merge_rows([frame]), damaged


def _batches(segments: Iterable[HotSegment]) -> Iterator[list[HotSegment]]:
    batch: list[HotSegment] = []
    size = 0
    for segment in segments:
        if batch and size + segment.length > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(segment)
        size += segment.length
    if batch:
        yield batch


def _read(segment: HotSegment) -> bytes:
    data = read_range(segment.path, 0, segment.length)
    if len(data) < segment.length:
        raise EOFError(f"{segment.path} has {len(data)} of {segment.length} bytes")
    return data


def _parse(pieces: Sequence[tuple[str, bytes]]) -> pl.DataFrame | None:
    """All lines at once; ``None`` unless every one of them is a record as the hot store writes it."""
    try:
        lines = pl.read_ndjson(b"".join(data for _, data in pieces), infer_schema_length=None)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    counts = [data.count(b"\n") for _, data in pieces]
    metrics = lines.schema.get("metrics")
    if lines.height != sum(counts) or not isinstance(metrics, pl.Struct) or lines.schema.get(TIMESTAMP) != pl.String:
        return None
    if any(field.dtype not in (pl.Float64, pl.Int64) for field in metrics.fields):
        return None
    values = [pl.col("metrics").struct.field(f.name).cast(pl.Float64).alias(column_of(f.name)) for f in metrics.fields]
    gpu_of_line = (
        pl.Series(range(len(pieces)), dtype=pl.UInt32).repeat_by(pl.Series(counts)).explode(empty_as_null=False)
    )
    frame = lines.select(
        pl.Series([gpu for gpu, _ in pieces], dtype=pl.String).gather(gpu_of_line).alias(GPU),
        pl.col(TIMESTAMP).str.to_datetime(_LINE_TIME, time_unit="us", time_zone="UTC", strict=False),
        *values,
    )
    is_sound = pl.all_horizontal(
        pl.col(TIMESTAMP).is_not_null().all(), pl.all().exclude(GPU, TIMESTAMP).is_finite().all()
    )
    return frame if frame.select(is_sound).item() else None


def _parse_lines(segment: HotSegment, data: bytes, damaged: list[DamagedLine]) -> pl.DataFrame:
    """Line by line."""
    times: list[datetime] = []
    columns: dict[str, list[float | None]] = {}
    offset = 0
    for line in data.split(b"\n"):
        start, offset = offset, offset + len(line) + 1
        if not line and start == len(data):
            break
        try:
            time, values = _record(line)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            damaged.append(DamagedLine(segment, start, line, _reason(error)))
            continue
        for name in values.keys() - columns.keys():
            columns[name] = [None] * len(times)
        for name, column in columns.items():
            column.append(values.get(name))
        times.append(time)
    return pl.DataFrame(
        {
            GPU: pl.repeat(segment.gpu, len(times), dtype=pl.String, eager=True),
            TIMESTAMP: pl.Series(times, dtype=TIME),
            **{column_of(name): pl.Series(column, dtype=pl.Float64) for name, column in columns.items()},
        }
    )


def _record(line: bytes) -> tuple[datetime, dict[str, float]]:
    record = orjson.loads(line)
    if not isinstance(record, dict) or not isinstance(record.get("metrics"), dict):
        raise ValueError("it is no record")
    time = datetime.fromisoformat(record[TIMESTAMP])
    if time.tzinfo is None:
        raise ValueError("its time has no zone")
    values: dict[str, float] = {}
    for name, value in record["metrics"].items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"metric {name!r} is no number")
        values[name] = float(value)
    return time.astimezone(UTC), values


def _reason(error: Exception) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)
