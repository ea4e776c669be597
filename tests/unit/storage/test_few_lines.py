"""Few lines of a GPU in steps: the same as anybody would work out row by row, or nothing where a line is odd."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from telemetry.model import GPU, TIMESTAMP
from telemetry.storage import gathering
from telemetry.storage.few_lines import InSteps, in_steps_of_lines
from telemetry.storage.lines import lines_of
from telemetry.storage.plan import Plan
from telemetry.storage.series import COMPOSABLE, STEP, Aggregation, Steps
from telemetry.storage.store import Batch, Span
from telemetry.storage.tiered import TieredStore
from tests.unit.storage.naive import NaiveStore, Row

ROUNDS = int(os.environ.get("TELEMETRY_TEST_ROUNDS", "1"))
SECOND = 1_000_000
METRICS = ["a", 'odd "name"', "c"]


def lines(rows: Sequence[Row]) -> bytes:
    times = pl.Series(TIMESTAMP, [time for _, time, _ in rows], pl.Int64).cast(pl.Datetime("us", "UTC"))
    values = {metric: [held.get(metric) for _, _, held in rows] for metric in METRICS}
    schema = dict.fromkeys(METRICS, pl.Float64())
    frame = pl.DataFrame(values, schema=schema).with_columns(times, pl.Series(GPU, [gpu for gpu, _, _ in rows]))
    return "".join(lines_of(frame, METRICS, METRICS)).encode()


def in_steps(
    data: bytes, aggregation: Aggregation = Aggregation.AVG, end_us: int = 100 * SECOND, steps: Steps | None = None
) -> InSteps | None:
    steps = steps or Steps.over(0, end_us, 10 * SECOND)
    return in_steps_of_lines(data, "g", (0, end_us), steps, METRICS, aggregation)


@pytest.mark.parametrize("aggregation", [each for each in Aggregation if each in COMPOSABLE])
@pytest.mark.parametrize("seed", range(20 * ROUNDS))
def test_few_lines_are_aggregated_as_anybody_would_row_by_row(aggregation: Aggregation, seed: int) -> None:
    chance = random.Random(f"{aggregation} {seed}")
    naive = NaiveStore()
    rows: list[Row] = []
    for _ in range(chance.randrange(60)):
        held = {metric: round(chance.uniform(-9, 99), 2) for metric in METRICS if chance.random() < 0.7}
        rows.append(("g", chance.randrange(40) * SECOND * 3, held))
    if chance.random() < 0.5:
        rows.sort(key=lambda row: row[1])
    naive.commit(rows)
    start_us, end_us = sorted(chance.sample(range(130 * SECOND), 2))
    steps = Steps.over(start_us, end_us, chance.choice([1, 7, 20]) * SECOND)
    found = in_steps_of_lines(lines(rows) if rows else b"", "g", (start_us, end_us), steps, METRICS, aggregation)
    assert found is not None
    span = Span(start_us, end_us)
    instants = [time for time, _ in naive.records("g", span)]
    assert found.records == len(instants)
    assert found.frame.get_column(GPU).to_list() == ["g"] * found.frame.height
    assert found.frame.get_column(STEP).to_list() == sorted(
        {(at - steps.start_us) // steps.width_us for at in instants}
    )
    for place, metric in enumerate(METRICS):
        held_by_step = found.frame.select(STEP, str(place)).drop_nulls()
        expected = naive.series("g", span, steps, metric, aggregation)
        assert dict(held_by_step.iter_rows()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "odd",
    [
        b"{",
        b"[]",
        b"7",
        b'{"gpu_id":"g","metrics":{}}',
        b'{"gpu_id":"g","metrics":{},"timestamp":null}',
        b'{"gpu_id":"g","metrics":{},"timestamp":"1970-01-01T00:00:01.000000"}',
        b'{"gpu_id":"g","metrics":{},"timestamp":"1970-01-01T02:00:01+02:00"}',
        b'{"gpu_id":"g","metrics":{},"timestamp":"1970-13-01T00:00:01.000000Z"}',
        b'{"gpu_id":"g","metrics":null,"timestamp":"1970-01-01T00:00:01.000000Z"}',
        b'{"gpu_id":"g","metrics":{"a":"1"},"timestamp":"1970-01-01T00:00:01.000000Z"}',
        b'{"gpu_id":"g","metrics":{"a":true},"timestamp":"1970-01-01T00:00:01.000000Z"}',
        b'{"gpu_id":"other","metrics":{"a":1.0},"timestamp":"1970-01-01T00:00:01.000000Z"}',
    ],
)
def test_a_line_that_is_not_as_we_write_it_is_left_to_others(odd: bytes) -> None:
    whole = lines([("g", SECOND, {"a": 1.0})])
    assert in_steps(whole) is not None
    assert in_steps(whole + odd + b"\n" + whole) is None


@pytest.mark.parametrize("damage", [False, True])
@pytest.mark.parametrize("aggregation", [each for each in Aggregation if each in COMPOSABLE])
def test_a_store_says_the_same_whether_lines_are_few_or_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aggregation: Aggregation, damage: bool
) -> None:
    chance = random.Random(3)
    began = datetime(2026, 1, 1, tzinfo=UTC)
    store = TieredStore(tmp_path, synced=False, cache_entries=0 if damage else 1000)
    for turn in range(4):
        times = [began + timedelta(seconds=chance.randrange(600)) for _ in range(100)]
        frame = pl.DataFrame(
            {
                TIMESTAMP: pl.Series(times, dtype=pl.Datetime("us", "UTC")),
                GPU: [f"g{number % 3}" for number in range(100)],
                "a": [chance.choice([None, chance.uniform(0, 99)]) for _ in times],
                f"b{turn}": [float(chance.randrange(9)) for _ in times],
            }
        )
        store.commit(Batch([frame]))
    if damage:
        file = tmp_path / "hot" / "g1.jsonl"
        text = file.read_bytes()
        at = text.index(b"\n", 2000)
        file.write_bytes(text[: at + 5] + b"#" + text[at + 6 :])
    start_us = int(began.timestamp()) * SECOND
    steps = Steps.over(start_us, start_us + 600 * SECOND, 20 * SECOND)
    answers, plans = [], []
    for gpus_max in (gathering._FEW_GPUS, 0):
        monkeypatch.setattr(gathering, "_FEW_GPUS", gpus_max)
        plans.append(Plan())
        pieces = store.series(
            ["g0", "g1", "g2", "nobody"], Span(), steps, ["a", "b0", "b3", "none"], aggregation, plan=plans[-1]
        )
        answers.append(pl.concat(list(pieces)))
    few, many = answers
    assert few.schema == many.schema
    assert few.height > 60
    assert_frame_equal(few, many, rel_tol=1e-12)
    assert plans[0].lines() == plans[1].lines()
    store.close()
