"""Metrics over time in steps."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan
from pathlib import Path

import polars as pl
import pytest

from telemetry.storage import growth
from telemetry.storage.series import Aggregation, Steps, across, filled
from telemetry.storage.store import Batch, Span
from telemetry.storage.tiered import TieredStore

SECOND_US = 1_000_000
EMPTY = pl.DataFrame(schema={"gpu": pl.String(), "step": pl.Int64(), "0": pl.Float64()})


def records(gpu: str, values: dict[int, float | None]) -> pl.DataFrame:
    times = pl.Series([second * SECOND_US for second in values]).cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame(
        {"timestamp": times, "gpu": [gpu] * len(values), "x": pl.Series(list(values.values()), dtype=pl.Float64)}
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TieredStore]:
    opened = TieredStore(tmp_path)
    yield opened
    opened.close()


def gpu_steps(
    store: TieredStore, gpu: str, span: Span, steps: Steps, metrics: list[str], aggregation: Aggregation
) -> pl.DataFrame:
    """One GPU's steps."""
    (frame, *rest) = [*store.series([gpu], span, steps, metrics, aggregation), EMPTY]
    assert len(rest) <= 1
    return frame.drop("gpu")


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        (Aggregation.AVG, 2.5),
        (Aggregation.MIN, 1.0),
        (Aggregation.MAX, 4.0),
        (Aggregation.SUM, 10.0),
        (Aggregation.COUNT, 4.0),
        (Aggregation.LAST, 2.0),
        (Aggregation.P50, 2.5),
        (Aggregation.P95, 3.85),
        (Aggregation.P99, 3.97),
    ],
)
def test_samples_of_a_step_become_one(store: TieredStore, aggregation: Aggregation, expected: float) -> None:
    store.commit(Batch([records("a", {10: 4.0, 11: 1.0, 12: 3.0, 13: 2.0, 14: None, 30: None})]))
    steps = Steps.over(10 * SECOND_US, 40 * SECOND_US, 10 * SECOND_US)
    frame = gpu_steps(store, "a", Span(10 * SECOND_US, 40 * SECOND_US), steps, ["x"], aggregation)
    first, *rest = filled(frame, steps, "0")
    assert first == pytest.approx(expected)
    assert len(rest) == 2
    assert all(map(isnan, rest))


def test_steps_begin_at_multiples_of_their_width() -> None:
    assert Steps.over(15, 31, 10) == Steps(10, 10, 3)
    assert Steps.over(10, 30, 10).times_us == [10, 20]


def test_a_step_that_lies_in_many_blocks_is_one_step(store: TieredStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "BLOCK_BYTES", 100)
    monkeypatch.setattr("telemetry.storage.reading._FIRST_READ_BYTES", 1)
    for second in range(100):
        store.commit(Batch([records("a", {second: float(second)})]))
    steps = Steps.over(0, 100 * SECOND_US, 40 * SECOND_US)
    frame = gpu_steps(store, "a", Span(0, 100 * SECOND_US), steps, ["x"], Aggregation.COUNT)
    assert filled(frame, steps, "0") == [40.0, 40.0, 20.0]


def test_series_of_gpus_become_one(store: TieredStore) -> None:
    store.commit(Batch([records("a", {0: 1.0, 10: 2.0}), records("b", {0: 5.0})]))
    steps = Steps.over(0, 20 * SECOND_US, 10 * SECOND_US)
    frames = [gpu_steps(store, gpu, Span(0, 20 * SECOND_US), steps, ["x"], Aggregation.AVG) for gpu in "ab"]
    assert filled(across(frames, Aggregation.SUM), steps, "0") == [6.0, 2.0]
    assert filled(across(frames, Aggregation.COUNT), steps, "0") == [2.0, 1.0]


def test_a_metric_or_gpu_that_is_not_there_has_no_values(store: TieredStore) -> None:
    store.commit(Batch([records("a", {0: 1.0})]))
    steps = Steps.over(0, 10, 10)
    assert isnan(filled(gpu_steps(store, "a", Span(), steps, ["y"], Aggregation.SUM), steps, "0")[0])
    assert isnan(filled(gpu_steps(store, "z", Span(), steps, ["y"], Aggregation.SUM), steps, "0")[0])
