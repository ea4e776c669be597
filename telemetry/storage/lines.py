"""Records as they lie in a file: one JSON object a line, made and read by columns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import orjson
import polars as pl

from telemetry.model import GPU, TIMESTAMP


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
    values = pl.Struct(dict.fromkeys(metrics, pl.Float64))
    schema = pl.Schema({"metrics": values, TIMESTAMP: pl.Datetime("us", "UTC")})
    try:
        parsed = pl.read_ndjson(data, schema=schema)
    except pl.exceptions.ComputeError:
        return _parse_damaged(data, metrics)
    times = pl.col(TIMESTAMP)
    return parsed.select(times, *(pl.col("metrics").struct.field(name) for name in metrics)).filter(times.is_not_null())


def _parse_damaged(data: bytes, metrics: Sequence[str]) -> pl.DataFrame:
    rows: list[list[object]] = []
    for line in data.split(b"\n"):
        try:
            record = orjson.loads(line)
            row: list[object] = [datetime.fromisoformat(record["timestamp"]).astimezone(UTC)]
            row.extend(None if (value := record["metrics"].get(name)) is None else float(value) for name in metrics)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
        rows.append(row)
    types = {TIMESTAMP: pl.Datetime("us", "UTC")} | dict.fromkeys(metrics, pl.Float64())
    return pl.DataFrame(rows, schema=types, orient="row")
