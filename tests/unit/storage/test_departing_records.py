"""Records go, and what was promised to outlive them is there: made of them just before, or kept beside them."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetry.storage import compaction
from telemetry.storage.cold.files import DAY_US, HOUR_US, MINUTE_US
from telemetry.storage.compaction import Retention
from telemetry.storage.plan import Plan
from telemetry.storage.series import Aggregation
from telemetry.storage.store import Batch, StoreError
from telemetry.storage.tiered import TieredStore
from tests.unit.storage.naive import Row
from tests.unit.storage.rounds import BASE_US, SECOND_US, Clock, compact, frame, records, series

DAY = (BASE_US, BASE_US + DAY_US)
COMPOSABLE = (Aggregation.AVG, Aggregation.MIN, Aggregation.MAX, Aggregation.SUM, Aggregation.COUNT, Aggregation.LAST)


@pytest.fixture
def clock() -> Clock:
    return Clock(BASE_US + 3 * DAY_US)


@pytest.fixture
def store(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[TieredStore]:
    monkeypatch.setattr(compaction, "SETTLED_US", 0)
    opened = TieredStore(tmp_path, clock_us=clock, synced=False)
    yield opened
    opened.close()


def every(seconds: int, count: int, gpu: str = "a", start_us: int = BASE_US) -> list[Row]:
    return [(gpu, start_us + place * seconds * SECOND_US, {"x": place * 0.25}) for place in range(count)]


def by_the_minute(store: TieredStore, gpus: tuple[str, ...] = ("a",)) -> dict[Aggregation, dict[str, dict[int, float]]]:
    return {each: series(store, gpus, DAY, 5 * MINUTE_US, each) for each in COMPOSABLE}


def later(store: TieredStore, clock: Clock, days: int) -> None:
    """Let time pass: ages count from the newest record."""
    clock.now_us = BASE_US + days * DAY_US
    store.commit(Batch([frame([("z", clock.now_us - SECOND_US, {"x": 0.0})])]))


def rows_of(store: TieredStore) -> dict[str, int]:
    return {name: tier.rows for name, tier in store.stats().tiers.items() if name != "hot"}


def test_records_leave_their_minutes_behind_when_they_go(store: TieredStore, clock: Clock) -> None:
    store.commit(Batch([frame([*every(10, 3000), *every(30, 1000, "b")])]))
    compact(store, clock)
    assert rows_of(store)["1m"] == 0
    before = by_the_minute(store, ("a", "b"))
    later(store, clock, 9)
    compact(store, clock, Retention(raw_us=7 * DAY_US, minutes_us=90 * DAY_US))
    assert records(store, "a") == []
    plan = Plan()
    assert series(store, ["a", "b"], DAY, 5 * MINUTE_US, Aggregation.COUNT, plan=plan) == before[Aggregation.COUNT]
    assert plan.lines()[0] == "cold 1m: 1 files, 200 rows"
    assert by_the_minute(store, ("a", "b")) == before
    later(store, clock, 92)
    compact(store, clock, Retention(raw_us=7 * DAY_US, minutes_us=90 * DAY_US))
    assert [rows_of(store)[tier] for tier in ("1m", "1h")] == [1, 20]
    assert sum(series(store, ["a"], DAY, HOUR_US, Aggregation.COUNT)["a"].values()) == 3000


def test_no_minutes_are_made_that_would_go_with_the_records(store: TieredStore, clock: Clock) -> None:
    store.commit(Batch([frame(every(10, 3000))]))
    compact(store, clock)
    later(store, clock, 9)
    compact(store, clock, Retention(raw_us=7 * DAY_US, minutes_us=7 * DAY_US))
    assert records(store, "a") == []
    assert rows_of(store)["1m"] == 0
    plan = Plan()
    series(store, ["a"], DAY, 5 * MINUTE_US, Aggregation.COUNT, plan=plan)
    assert "roll-ups of 3600 s are left, which do not fit into steps of 300 s" in plan.warnings[0]


def test_minutes_are_made_when_bytes_drive_records_out(store: TieredStore, clock: Clock) -> None:
    store.commit(Batch([frame(every(10, 3000))]))
    compact(store, clock)
    before = by_the_minute(store)
    compact(store, clock, Retention(raw_bytes=1))
    assert records(store, "a") == []
    assert by_the_minute(store) == before


def test_days_with_and_without_minutes_answer_together(store: TieredStore, clock: Clock) -> None:
    dense = every(1, 4000)
    sparse = every(10, 3000, start_us=BASE_US + DAY_US)
    store.commit(Batch([frame(dense)]))
    store.commit(Batch([frame(sparse)]))
    compact(store, clock)
    plan = Plan()
    span = (BASE_US, BASE_US + 2 * DAY_US)
    found = series(store, ["a"], span, 5 * MINUTE_US, Aggregation.SUM, plan=plan)["a"]
    assert plan.lines() == ["cold 1m: 1 files, 14 rows", "cold day: 1 files, 3,000 rows"]
    expected: dict[int, float] = {}
    for start_us, seconds, count in ((BASE_US, 1, 4000), (BASE_US + DAY_US, 10, 3000)):
        for place in range(count):
            step = (start_us + place * seconds * SECOND_US - BASE_US) // (5 * MINUTE_US)
            expected[step] = expected.get(step, 0.0) + place * 0.25
    assert found == expected


def test_records_stay_while_their_minutes_cannot_be_made(
    store: TieredStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.commit(Batch([frame(every(10, 3000))]))
    compact(store, clock)
    before = by_the_minute(store)
    later(store, clock, 9)
    compact(store, clock)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "a disk")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fail)
        with pytest.raises(Exception, match="No space left"):
            compact(store, clock, Retention(raw_us=7 * DAY_US))
    assert len(records(store, "a")) == 3000
    assert by_the_minute(store) == before
    compact(store, clock, Retention(raw_us=7 * DAY_US))
    assert records(store, "a") == []
    assert by_the_minute(store) == before


def test_a_damaged_file_goes_without_minutes_instead_of_staying_for_ever(
    tmp_path: Path, store: TieredStore, clock: Clock
) -> None:
    store.commit(Batch([frame(every(10, 3000))]))
    compact(store, clock)
    (path,) = (tmp_path / "cold" / "day").iterdir()
    data = path.read_bytes()
    place = data.rindex(b"\x28\xb5\x2f\xfd") + 8
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    later(store, clock, 9)
    compact(store, clock, Retention(raw_us=7 * DAY_US))
    assert not path.exists()
    assert sum(series(store, ["a"], DAY, HOUR_US, Aggregation.COUNT)["a"].values()) == 3000


def test_minutes_that_nobody_took_in_before_a_crash_are_removed_and_made_again(
    tmp_path: Path, store: TieredStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.commit(Batch([frame(every(10, 3000))]))
    compact(store, clock)
    before = by_the_minute(store)
    later(store, clock, 9)
    compact(store, clock)

    def die(*_: object, **__: object) -> None:
        raise StoreError("a crash")

    with monkeypatch.context() as patch:
        patch.setattr(TieredStore, "exchange", die)
        with pytest.raises(StoreError, match="a crash"):
            compact(store, clock, Retention(raw_us=7 * DAY_US))
    assert len(list((tmp_path / "cold" / "1m").iterdir())) == 1
    assert by_the_minute(store) == before
    store.close()
    reopened = TieredStore(tmp_path, clock_us=clock, synced=False)
    assert list((tmp_path / "cold" / "1m").iterdir()) == []
    assert len(records(reopened, "a")) == 3000
    compact(reopened, clock, Retention(raw_us=7 * DAY_US))
    assert records(reopened, "a") == []
    assert by_the_minute(reopened) == before
    reopened.close()
