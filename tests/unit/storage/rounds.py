"""Rows in, rounds of compaction, rows out: what tests of the tiers share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import polars as pl

from telemetry.storage.cold.job import Job, JobResult, run_job
from telemetry.storage.compaction import Retention
from telemetry.storage.compactor import CompactionSettings, CompactionStats, Compactor
from telemetry.storage.plan import Plan
from telemetry.storage.series import Aggregation, Steps
from telemetry.storage.store import Span
from telemetry.storage.tiered import TieredStore
from tests.unit.storage.naive import Row

BASE_US = 1_767_225_600_000_000
"""2026-01-01, midnight in UTC."""

SECOND_US = 1_000_000


class Clock:
    """Says what it is told to."""

    def __init__(self, now_us: int) -> None:
        self.now_us = now_us

    def __call__(self) -> int:
        return self.now_us


def frame(rows: Sequence[Row]) -> pl.DataFrame:
    """Rows as a message brings them."""
    names = sorted({name for _, _, metrics in rows for name in metrics})
    return pl.DataFrame(
        {
            "timestamp": pl.Series([time for _, time, _ in rows], dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
            "gpu": pl.Series([gpu for gpu, _, _ in rows], dtype=pl.String),
            **{name: pl.Series([row[2].get(name) for row in rows], dtype=pl.Float64) for name in names},
        }
    )


async def run_here(job: Job) -> JobResult:
    """Do a job in this process."""
    return run_job(job)


def compact(
    store: TieredStore, clock: Clock, retention: Retention | None = None, after_s: float = 0.0
) -> CompactionStats:
    """Run one round in which everything moves."""
    clock.now_us += 1
    settings = CompactionSettings(1.0, 0.0, retention or Retention())
    compactor = Compactor(store, settings, run=run_here, clock_us=clock)
    try:
        asyncio.run(compactor.round())
    finally:
        compactor.close()
    return compactor.stats


def records(
    store: TieredStore,
    gpu: str,
    span: Span | None = None,
    *,
    newest_first: bool = False,
    metrics: Sequence[str] | None = None,
    plan: Plan | None = None,
) -> list[tuple[int, dict[str, float]]]:
    """A GPU's records: the time, and the metrics that it has then."""
    found = []
    for piece in store.records(gpu, span or Span(), metrics=metrics, newest_first=newest_first, plan=plan):
        instants = piece.get_column("timestamp").dt.timestamp("us").to_list()
        for time, row in zip(instants, piece.drop("timestamp").iter_rows(named=True), strict=True):
            found.append((time, {name: value for name, value in row.items() if value is not None}))
    return found


def series(
    store: TieredStore,
    gpus: Sequence[str],
    span: tuple[int, int],
    width_us: int,
    aggregation: Aggregation,
    metric: str = "x",
    plan: Plan | None = None,
) -> dict[str, dict[int, float]]:
    """Of each GPU the value in each step that has one."""
    steps = Steps.over(*span, width_us)
    found: dict[str, dict[int, float]] = {gpu: {} for gpu in gpus}
    for piece in store.series(gpus, Span(*span), steps, [metric], aggregation, plan=plan):
        for gpu, step, value in piece.select("gpu", "step", "0").drop_nulls().iter_rows():
            assert step not in found[gpu]
            found[gpu][step] = value
    return found
