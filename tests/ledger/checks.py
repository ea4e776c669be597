"""Compares what was published with what is stored, through every way of reading."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import orjson
import polars as pl
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from telemetry.codec import TIME_TYPE
from telemetry.model import GPU, TIMESTAMP
from telemetry.query.fanout import Collectors
from telemetry.query.members import Members
from telemetry.v1 import query_pb2
from tests.ledger.input import METRICS

_KEY: Final = [GPU, TIMESTAMP]
_SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    GPU: pl.String,
    TIMESTAMP: TIME_TYPE,
    **dict.fromkeys(METRICS, pl.Float64),
}
DEADLINE_S: Final = 60.0

_MINUTE_S: Final = 60
_HOUR_S: Final = 3600


def differences(way: str, found: pl.DataFrame, truth: pl.DataFrame, *, whole: bool = True) -> Iterator[str]:
    """What is wrong with records that were read one way; ``whole`` unless others have the rest."""
    doubles = found.group_by(_KEY).len().filter(pl.col("len") > 1)
    if doubles.height:
        yield f"{way}: {doubles.height} records more than once, such as {doubles.row(0)}"
    invented = found.join(truth, on=_KEY, how="anti")
    if invented.height:
        yield f"{way}: {invented.height} records that nobody published, such as {invented.row(0)}"
    missing = truth.join(found, on=_KEY, how="anti") if whole else truth.clear()
    if missing.height:
        yield f"{way}: {missing.height} records missing, such as {missing.row(0)}"
    both = found.join(truth, on=_KEY, suffix=" true")
    for name in METRICS:
        wrong = both.filter(pl.col(name).ne_missing(pl.col(f"{name} true")))
        if wrong.height:
            yield f"{way}: {wrong.height} values of {name} are wrong, such as {wrong.row(0)}"


def files_of(folder: Path) -> pl.DataFrame:
    """All records of a collector as anybody finds them in its files: JSON lines and Parquet."""
    rows = [
        (line["gpu_id"], line["timestamp"], *(line["metrics"].get(name) for name in METRICS))
        for path in (folder / "hot").glob("*.jsonl")
        for line in map(orjson.loads, path.read_bytes().splitlines())
    ]
    hot = pl.DataFrame(rows, schema=_SCHEMA | {TIMESTAMP: pl.String}, orient="row").with_columns(
        pl.col(TIMESTAMP).str.to_datetime(time_unit="us", time_zone="UTC")
    )
    cold = [
        pl.read_parquet(path, glob=False).select(
            pl.col(GPU).cast(pl.String), pl.col(TIMESTAMP).cast(TIME_TYPE), pl.col(METRICS).cast(pl.Float64)
        )
        for level in ("hour", "day")
        for path in (folder / "cold" / level).glob("*.parquet")
    ]
    return pl.concat([hot, *cold])


@asynccontextmanager
async def asking(addresses: Sequence[str]) -> AsyncIterator[Collectors]:
    """Collectors as the gateway asks them."""
    collectors = Collectors(Members(addresses, DEADLINE_S))
    try:
        yield collectors
    finally:
        await collectors.close()


async def records_of(collectors: Collectors) -> pl.DataFrame:
    """All records through StreamRecords."""
    request = query_pb2.StreamRecordsRequest(order=query_pb2.RECORD_ORDER_OLDEST_FIRST)
    records, completeness = await collectors.records(request)
    assert not completeness.partial, completeness
    rows = [
        (record.gpu, record.timestamp.ToMicroseconds(), *(record.metrics.get(name) for name in METRICS))
        for record in records
    ]
    return pl.DataFrame(rows, schema=_SCHEMA | {TIMESTAMP: pl.Int64}, orient="row").with_columns(
        pl.col(TIMESTAMP).cast(TIME_TYPE)
    )


async def wrong_series(collectors: Collectors, truth: pl.DataFrame) -> AsyncIterator[str]:
    """What is wrong with counts and sums through QuerySeries: from roll-ups by the hour and minute, from records."""
    for step_s in (_HOUR_S, _MINUTE_S, 15):
        expected = (
            truth.group_by(GPU, pl.col(TIMESTAMP).dt.truncate(f"{step_s}s"))
            .agg(pl.col(METRICS[0]).count().cast(pl.Float64).alias("count"), pl.col(METRICS).sum())
            .sort(_KEY)
        )
        counts = await _series(collectors, truth, step_s, query_pb2.AGGREGATION_COUNT)
        sums = await _series(collectors, truth, step_s, query_pb2.AGGREGATION_SUM)
        for way, name, other in (
            ("count", METRICS[0], "count"),
            ("count", METRICS[1], "count"),
            ("sum", METRICS[0], METRICS[0]),
            ("sum", METRICS[1], METRICS[1]),
        ):
            found = (counts if way == "count" else sums).select(*_KEY, pl.col(name).alias("found")).drop_nulls()
            both = expected.select(*_KEY, pl.col(other).alias("expected")).join(
                found, on=_KEY, how="full", coalesce=True
            )
            wrong = both.filter(pl.col("expected").ne_missing(pl.col("found")))
            if wrong.height:
                yield f"{way} of {name} by {step_s} s: {wrong.height} are wrong, such as {wrong.row(0)}"


async def wrong_latest(collectors: Collectors, truth: pl.DataFrame) -> AsyncIterator[str]:
    """What is wrong with the newest values through GetLatest."""
    answer = await collectors.get_latest(query_pb2.GetLatestRequest())
    assert not answer.completeness.partial, answer.completeness
    columns = {column.metric: list(column.values) for column in answer.columns}
    found = pl.DataFrame(
        [
            pl.Series(GPU, list(answer.gpus), pl.String),
            pl.Series(TIMESTAMP, list(answer.timestamps_us), pl.Int64).cast(TIME_TYPE),
            *(pl.Series(name, columns[name], pl.Float64) for name in METRICS),
        ]
    )
    expected = truth.sort(TIMESTAMP).group_by(GPU).last().select(*_KEY, *METRICS)
    for difference in differences("latest", found, expected):
        yield difference


async def _series(
    collectors: Collectors, truth: pl.DataFrame, step_s: int, aggregation: query_pb2.Aggregation.ValueType
) -> pl.DataFrame:
    first, last = (
        int(each.timestamp()) for each in truth.select(pl.col(TIMESTAMP).min(), end=pl.col(TIMESTAMP).max()).row(0)
    )
    request = query_pb2.QuerySeriesRequest(
        metrics=METRICS,
        range=query_pb2.TimeRange(start_time=Timestamp(seconds=first), end_time=Timestamp(seconds=last + 1)),
        step=Duration(seconds=step_s),
        aggregation=aggregation,
    )
    answer = await collectors.query_series(request)
    assert not answer.completeness.partial, answer.completeness
    assert answer.step.seconds == step_s
    frames = []
    for series in answer.series:
        columns = {column.metric: list(column.values) for column in series.columns}
        frames.append(
            pl.DataFrame(
                [
                    pl.Series(GPU, [series.gpu] * len(answer.timestamps_us), pl.String),
                    pl.Series(TIMESTAMP, list(answer.timestamps_us), pl.Int64).cast(TIME_TYPE),
                    *(pl.Series(name, columns[name], pl.Float64, nan_to_null=True) for name in METRICS),
                ]
            )
        )
    found = pl.concat(frames)
    return found.with_columns(pl.col(name).fill_nan(None) for name in METRICS)
