"""Rows go out at the rate asked for, and their stamps follow it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from telemetry.codec import TIME_TYPE
from telemetry.streamer import pacing
from telemetry.streamer.pacing import ArrivalStamps, Pacer
from telemetry.streamer.sources.layout import FIRST_LINE, LAST_LINE

START = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pacing, "time", clock.time)
    monkeypatch.setattr(pacing, "sleep", clock.sleep)
    return clock


async def test_rows_are_due_at_the_rate(clock: Clock) -> None:
    pacer = Pacer(10.0)
    assert pacer.chunk_rows == 4
    spans = [await pacer.wait(4) for _ in range(5)]
    assert spans[0] == (1_000_000_000_000, 1_000_000_300_000)
    assert spans[4] == (1_000_001_600_000, 1_000_001_900_000)
    assert clock.now == pytest.approx(1_000_001.9)


async def test_a_slow_rate_still_sends_row_by_row(clock: Clock) -> None:
    pacer = Pacer(0.5)
    assert pacer.chunk_rows == 1
    await pacer.wait(1)
    await pacer.wait(1)
    assert clock.now == pytest.approx(1_000_002.0)


async def test_without_a_rate_nothing_waits(clock: Clock) -> None:
    pacer = Pacer(0)
    assert pacer.chunk_rows == 0
    await pacer.wait(1_000_000)
    assert clock.now == 1_000_000.0


async def test_a_stream_that_was_held_up_for_long_does_not_rush(clock: Clock) -> None:
    pacer = Pacer(10.0)
    await pacer.wait(4)
    clock.now += 3600
    first_us, _ = await pacer.wait(4)
    assert first_us == int(clock.now * 1e6) - 300_000


def records(rows: list[tuple[str, int]], first_line: int = 2) -> pl.DataFrame:
    """Records of (GPU, second at the source)."""
    lines = range(first_line, first_line + len(rows))
    return pl.DataFrame(
        {
            "timestamp": pl.Series([START + timedelta(seconds=second) for _, second in rows], dtype=TIME_TYPE),
            "gpu": [gpu for gpu, _ in rows],
            FIRST_LINE: list(lines),
            LAST_LINE: list(lines),
        }
    )


def stamps(frame: pl.DataFrame) -> list[tuple[str, int]]:
    return frame.sort(FIRST_LINE).select("gpu", pl.col("timestamp").to_physical()).rows()


def test_stamps_spread_over_the_time_in_which_the_rows_go_out() -> None:
    stamped = ArrivalStamps().stamp(records([("a", 0), ("b", 0), ("a", 1)]), 1000, 1200, 3)
    assert stamps(stamped) == [("a", 1000), ("b", 1100), ("a", 1200)]


def test_an_instant_that_goes_out_in_parts_keeps_its_stamp() -> None:
    stamper = ArrivalStamps()
    stamper.stamp(records([("a", 0), ("b", 0)]), 1000, 1100, 2)
    stamped = stamper.stamp(records([("a", 0), ("b", 1)]), 2000, 2100, 2)
    assert stamps(stamped) == [("a", 1000), ("b", 2100)]
    assert stamps(stamper.stamp(records([("b", 1)]), 3000, 3000, 1)) == [("b", 2100)]


def test_stamps_of_a_gpu_increase_even_if_the_clock_does_not() -> None:
    stamper = ArrivalStamps()
    found = [stamps(stamper.stamp(records([("a", n)]), when, when, 1))[0][1] for n, when in enumerate((10, 10, 5, 20))]
    assert found == [10, 11, 12, 20]


def test_a_new_pass_makes_new_instants() -> None:
    stamper = ArrivalStamps()
    stamper.stamp(records([("a", 0)]), 10, 10, 1)
    stamper.begin_pass()
    assert stamps(stamper.stamp(records([("a", 0)]), 50, 50, 1)) == [("a", 50)]
