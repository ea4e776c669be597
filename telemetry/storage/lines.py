"""Records as they lie in a file: one JSON object a line, made and read by columns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import orjson
import polars as pl

from telemetry.model import GPU, TIMESTAMP

GPU_KEY: Final = "gpu_id"
_TIME_CHARACTERS: Final = len("2026-01-01T00:00:00.000000")
_FIRST_US: Final = 0
_LAST_US: Final = 253_402_300_799_999_999
"""The last time of four-digit years; records have none beyond."""


def lines_of(frame: pl.DataFrame, metrics: Sequence[str], columns: Sequence[str]) -> pl.Series:
    """Each record's line: ``{"gpu_id":…,"metrics":{…},"timestamp":"…Z"}`` and a newline, with only the metrics it has.

    ``frame`` holds no null GPU or timestamp and no value that is not finite, since JSON has no word for those. The
    values of ``metrics`` are in its ``columns``.
    """
    gpus = frame.get_column(GPU).unique()
    heads = pl.Series([f'{{"gpu_id":{orjson.dumps(gpu).decode()},"metrics":{{' for gpu in gpus], dtype=pl.String)
    fields = [
        pl.lit(f"{orjson.dumps(name).decode()}:") + pl.col(column).cast(pl.String)
        for name, column in zip(metrics, columns, strict=True)
    ]
    line = pl.concat_str(
        pl.col(GPU).replace_strict(gpus, heads),
        pl.concat_str(fields, separator=",", ignore_nulls=True) if fields else pl.lit(""),
        pl.lit('},"timestamp":"'),
        pl.col(TIMESTAMP).dt.replace_time_zone(None).dt.to_string("iso:strict"),
        pl.lit('Z"}\n'),
    )
    return frame.select(line).to_series()


def parse_lines(data: bytes, metrics: Sequence[str]) -> pl.DataFrame:
    """Read lines back, in their order: ``timestamp`` and a column for each of ``metrics``, null where there is none.

    Lines that are no records (a disk can damage a file) are left out.
    """
    return _parse(data, metrics, {})


def parse_lines_of_many(data: bytes, metrics: Sequence[str]) -> pl.DataFrame:
    """Lines of several GPUs: ``gpu``, ``timestamp`` and the metrics by their places."""
    parsed = _parse(data, metrics, {GPU_KEY: pl.String()})
    return parsed.rename(dict(zip(parsed.columns[2:], map(str, range(len(metrics))), strict=True)))


def lines_within(data: bytes, start_us: int, end_us: int) -> bytes:
    """Most of the lines without those that :func:`lines_of` made outside ``start_us`` ≤ time < ``end_us``.

    To look at the ends of lines takes a tenth of the time that it takes to read them as JSON. Lines that somebody else
    wrote stay.
    """
    try:
        lines = pl.Series([data.decode()]).str.split("\n").explode(empty_as_null=False)
    except UnicodeDecodeError:
        return data
    start, end = (
        pl.lit(min(max(time_us, _FIRST_US), _LAST_US)).cast(pl.Datetime("us")).dt.to_string("iso:strict")
        for time_us in (start_us, end_us)
    )
    time = pl.col("line").str.tail(_TIME_CHARACTERS + 3).str.head(_TIME_CHARACTERS)
    is_ours = pl.col("line").str.ends_with('Z"}')
    kept = pl.DataFrame({"line": lines}).filter(((time >= start) & (time <= end)) | ~is_ours)
    return bytes(kept.get_column("line").str.join("\n").item().encode())


def _parse(data: bytes, metrics: Sequence[str], keys: dict[str, pl.DataType]) -> pl.DataFrame:
    values = pl.Struct(dict.fromkeys(metrics, pl.Float64))
    schema = pl.Schema({**keys, "metrics": values, TIMESTAMP: pl.Datetime("us", "UTC")})
    try:
        parsed = pl.read_ndjson(data, schema=schema)
    except pl.exceptions.ComputeError:
        return _parse_damaged(data, metrics, keys)
    first = [pl.col(key).alias(GPU) for key in keys]
    whole = pl.all_horizontal(pl.col(TIMESTAMP, *keys).is_not_null())
    return parsed.filter(whole).select(*first, TIMESTAMP, *(pl.col("metrics").struct.field(name) for name in metrics))


def _parse_damaged(data: bytes, metrics: Sequence[str], keys: dict[str, pl.DataType]) -> pl.DataFrame:
    rows: list[list[object]] = []
    for line in data.split(b"\n"):
        try:
            record = orjson.loads(line)
            row: list[object] = [record[key] for key in keys]
            row.append(datetime.fromisoformat(record["timestamp"]).astimezone(UTC))
            row.extend(None if (value := record["metrics"].get(name)) is None else float(value) for name in metrics)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
        if all(isinstance(value, str) for value in row[: len(keys)]):
            rows.append(row)
    types = dict.fromkeys([GPU] * len(keys), pl.String()) | {TIMESTAMP: pl.Datetime("us", "UTC")}
    return pl.DataFrame(rows, schema=types | dict.fromkeys(metrics, pl.Float64()), orient="row")
