"""Hot and cold together: files that close, move, are replaced and deleted while others read, and what damage costs."""

from __future__ import annotations

import errno
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from telemetry.runtime.errors import DataDirectoryError
from telemetry.storage import coldset, compaction, tiered
from telemetry.storage.checkpoint import Checkpoint
from telemetry.storage.cold.alone import alone
from telemetry.storage.cold.files import DAY_US, HOUR_US, MINUTE_US
from telemetry.storage.compaction import Retention
from telemetry.storage.gathering import Tiers, rows_of
from telemetry.storage.hot import HotGpu
from telemetry.storage.plan import Plan
from telemetry.storage.series import Aggregation
from telemetry.storage.store import Batch, Position, Span, StoreError, TopicPartition
from telemetry.storage.tiered import TieredStore
from tests.unit.storage.naive import Row
from tests.unit.storage.rounds import BASE_US, SECOND_US, Clock, compact, frame, records, series

GPUS_FROM_HELL = (
    "../../etc/passwd",
    "a\0b",
    "\U0001f525 gpu",
    "GPU-A",
    "gpu-a",
    "gpu-a+000000",
    "gpu-a.1",
    "CON",
    "g" * 10_000,
    " ",
    "new\nline\"'{}",
)


@pytest.fixture
def clock() -> Clock:
    """Three hours after the first records."""
    return Clock(BASE_US + 3 * HOUR_US)


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[TieredStore]:
    opened = TieredStore(tmp_path, clock_us=clock, synced=False)
    yield opened
    opened.close()


def rows(gpu: str, first: int, last: int, width_us: int = SECOND_US, start_us: int = BASE_US) -> list[Row]:
    """One row a step whose value is the step's number."""
    return [(gpu, start_us + place * width_us, {"x": float(place)}) for place in range(first, last)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != "JOB")


def test_a_file_that_is_long_enough_is_closed_and_the_next_one_grows_under_the_same_name(tmp_path: Path) -> None:
    store = TieredStore(tmp_path, rotate_bytes=300, cache_entries=0)
    for second in range(9):
        store.commit(Batch([frame(rows("a", second, second + 1))]))
    assert names(tmp_path / "hot") == ["a+000000.jsonl", "a+000001.jsonl", "a.jsonl"]
    assert b"".join(path.read_bytes() for path in sorted((tmp_path / "hot").iterdir())).count(b"\n") == 9
    expected = [(BASE_US + second * SECOND_US, {"x": float(second)}) for second in range(9)]
    assert records(store, "a") == expected
    assert records(store, "a", newest_first=True) == expected[::-1]
    store.close()
    store = TieredStore(tmp_path, rotate_bytes=300)
    assert records(store, "a") == expected
    store.close()


@pytest.mark.parametrize("crash", [False, True])
def test_a_closed_file_that_no_transaction_vouches_for_grows_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash: bool
) -> None:
    store = TieredStore(tmp_path, rotate_bytes=1, cache_entries=0)
    store.commit(Batch([frame(rows("a", 0, 2))]))

    def refuse(*_: object) -> None:
        raise StoreError("not now")

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "commit", refuse)
        with pytest.raises(StoreError, match="not now"):
            store.commit(Batch([frame(rows("a", 2, 4))]))
    assert names(tmp_path / "hot") == ["a+000000.jsonl", "a.jsonl"]
    # Those who read in the meantime find the lines where they are now.
    assert len(records(store, "a")) == 2
    if crash:
        store.close()
        store = TieredStore(tmp_path, rotate_bytes=1, cache_entries=0)
        assert names(tmp_path / "hot") == ["a.jsonl"]
    store.commit(Batch([frame(rows("a", 2, 4))]))
    assert names(tmp_path / "hot") == ["a+000000.jsonl", "a.jsonl"]
    assert [time for time, _ in records(store, "a")] == [BASE_US + second * SECOND_US for second in range(4)]
    store.close()


def test_a_file_that_was_closed_in_vain_goes_on_growing(
    tmp_path: Path, store: TieredStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.commit(Batch([frame(rows("a", 0, 2))]))

    def refuse(*_: object) -> None:
        raise StoreError("not now")

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "commit", refuse)
        with pytest.raises(StoreError, match="not now"):
            store.close_files(clock.now_us + 1)
    assert names(tmp_path / "hot") == ["a+000000.jsonl"]
    store.commit(Batch([frame(rows("a", 2, 4))]))
    expected = [BASE_US + second * SECOND_US for second in range(4)]
    assert [time for time, _ in records(store, "a")] == expected
    store.close()
    reopened = TieredStore(tmp_path, clock_us=clock, cache_entries=0)
    assert names(tmp_path / "hot") == ["a.jsonl"]
    assert [time for time, _ in records(reopened, "a")] == expected
    reopened.close()


def test_gpus_from_hell_keep_their_names_in_every_tier(tmp_path: Path, store: TieredStore, clock: Clock) -> None:
    labels = {"host": "../\0\U0001f525" + "h" * 10_000, "HOST": "twin", "host ": "space"}
    some = [row for place, gpu in enumerate(GPUS_FROM_HELL) for row in rows(gpu, place, place + 20)]
    store.commit(Batch([frame(some).with_columns(pl.lit(value).alias(name) for name, value in labels.items())]))
    before = {gpu: records(store, gpu) for gpu in GPUS_FROM_HELL}
    compact(store, clock)
    store.commit(Batch([frame([row for gpu in GPUS_FROM_HELL for row in rows(gpu, 100, 101)])]))
    again = {gpu: records(store, gpu) for gpu in GPUS_FROM_HELL}
    for gpu in GPUS_FROM_HELL:
        assert again[gpu][:-1] == before[gpu]
        assert again[gpu][-1] == (BASE_US + 100 * SECOND_US, {"x": 100.0})
    counts = series(store, GPUS_FROM_HELL, (BASE_US, BASE_US + DAY_US), HOUR_US, Aggregation.COUNT)
    assert counts == {gpu: {0: 21.0} for gpu in GPUS_FROM_HELL}
    store.close()
    reopened = TieredStore(tmp_path, clock_us=clock)
    assert [gpu.gpu for gpu in reopened.gpus()] == sorted(GPUS_FROM_HELL)
    assert all(gpu.labels == labels for gpu in reopened.gpus())
    assert {gpu: records(reopened, gpu) for gpu in GPUS_FROM_HELL} == again
    reopened.close()


def test_whoever_reads_keeps_the_files_that_are_replaced_meanwhile(
    tmp_path: Path, store: TieredStore, clock: Clock
) -> None:
    store.commit(Batch([frame(rows("a", 0, 3000, MINUTE_US))]))
    compact(store, clock)
    store.commit(Batch([frame(rows("a", 3000, 6000, MINUTE_US))]))
    expected = [BASE_US + place * MINUTE_US for place in range(6000)]
    reading = store.records("a", Span())
    found = next(reading).get_column("timestamp").dt.timestamp("us").to_list()
    old = names(tmp_path / "cold")
    clock.now_us = BASE_US + 9 * DAY_US
    compact(store, clock)
    assert set(old) < set(names(tmp_path / "cold"))
    assert names(tmp_path / "hot") == ["a+000001.jsonl"]
    for piece in reading:
        found += piece.get_column("timestamp").dt.timestamp("us").to_list()
    assert found == expected
    store.sweep()
    assert not set(old) & set(names(tmp_path / "cold"))
    assert names(tmp_path / "hot") == []
    assert [time for time, _ in records(store, "a")] == expected


def test_a_store_that_is_closed_leaves_each_record_once_in_its_files(tmp_path: Path, clock: Clock) -> None:
    store = TieredStore(tmp_path, clock_us=clock, synced=False)
    store.commit(Batch([frame(rows("a", 0, 3000, MINUTE_US))]))
    reading = store.records("a", Span())
    next(reading)
    compact(store, clock)
    assert names(tmp_path / "hot") == ["a+000000.jsonl"], "somebody reads it"
    reading.close()  # type: ignore[attr-defined]
    # Of a job that was ended.
    stray = tmp_path / "cold" / "hour" / "2026-01-01T00.00000007.parquet"
    stray.write_bytes(b"half")
    kept = set(names(tmp_path / "cold")) - {stray.name}
    store.close()
    assert names(tmp_path / "hot") == []
    assert set(names(tmp_path / "cold")) == kept


def test_steps_of_hours_and_minutes_are_answered_from_rollups_and_the_plan_says_so(
    store: TieredStore, clock: Clock
) -> None:
    store.commit(Batch([frame(rows("a", 0, 3600 * 3, SECOND_US))]))
    compact(store, clock)
    store.commit(Batch([frame(rows("a", 3600 * 3, 3600 * 4, SECOND_US))]))

    def asked(span: tuple[int, int], width_us: int) -> tuple[dict[int, float], list[str]]:
        plan = Plan()
        found = series(store, ["a"], span, width_us, Aggregation.SUM, plan=plan)["a"]
        return found, plan.lines()

    whole = (BASE_US, BASE_US + 4 * HOUR_US)
    hourly, plan = asked(whole, HOUR_US)
    assert hourly == {hour: sum(range(3600 * hour, 3600 * hour + 3600)) for hour in range(4)}
    assert plan == ["cold 1h: 3 files, 3 rows", "hot: 1 GPUs, 3,600 rows"]
    by_minute, plan = asked(whole, 5 * MINUTE_US)
    assert by_minute[0] == sum(range(300))
    assert plan == ["cold 1m: 3 files, 36 rows", "hot: 1 GPUs, 3,600 rows"]
    by_seconds, plan = asked(whole, 90 * SECOND_US)
    assert by_seconds[1] == sum(range(90, 180))
    assert plan == ["cold hour: 3 files, 10,800 rows", "hot: 1 GPUs, 3,600 rows"]
    # Half an hour at each end is not a whole row of a roll-up.
    edges, plan = asked((BASE_US + 1800 * SECOND_US, BASE_US + 9000 * SECOND_US), HOUR_US)
    assert edges == {0: sum(range(1800, 3600)), 1: sum(range(3600, 7200)), 2: sum(range(7200, 9000))}
    assert plan == ["cold 1h: 1 files, 1 rows", "cold hour: 2 files, 3,600 rows"]


def test_percentiles_come_from_records_of_both_tiers(store: TieredStore, clock: Clock) -> None:
    store.commit(Batch([frame(rows(gpu, 0, 100)) for gpu in "ab"]))
    compact(store, clock)
    store.commit(Batch([frame(rows(gpu, 100, 201)) for gpu in "ab"]))
    found = series(store, ["a", "b"], (BASE_US, BASE_US + HOUR_US), HOUR_US, Aggregation.P95)
    assert found == {"a": {0: 190.0}, "b": {0: 190.0}}


def test_where_records_are_gone_rollups_answer_and_late_records_are_not_counted_twice(
    store: TieredStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "SETTLED_US", 0)
    store.commit(Batch([frame(rows("a", 0, 3600))]))
    compact(store, clock)
    store.commit(Batch([frame(rows("a", 0, 1, start_us=BASE_US + 5 * DAY_US))]))
    clock.now_us = BASE_US + 5 * DAY_US
    compact(store, clock, Retention(raw_us=DAY_US))
    day = (BASE_US, BASE_US + DAY_US)
    assert records(store, "a", Span(*day)) == []
    assert series(store, ["a"], day, HOUR_US, Aggregation.COUNT) == {"a": {0: 3600.0}}
    # Steps that are finer than what is left, and percentiles, are no silent matter.
    plan = Plan()
    assert series(store, ["a"], day, SECOND_US * 40, Aggregation.MAX, plan=plan)["a"][0] == 59.0
    assert "do not fit into steps of 40 s" in plan.warnings[0]
    plan = Plan()
    assert series(store, ["a"], day, HOUR_US, Aggregation.P50, plan=plan) == {"a": {}}
    assert plan.warnings == ["of some of the range only roll-ups are left; they hold no percentiles"]
    # The same records come again. Nobody can know that any more, but nobody counts them either.
    store.commit(Batch([frame(rows("a", 0, 3600))]))
    assert series(store, ["a"], day, HOUR_US, Aggregation.COUNT) == {"a": {0: 3600.0}}
    for _ in range(2):
        compact(store, clock, Retention(raw_us=DAY_US))
        assert series(store, ["a"], day, HOUR_US, Aggregation.COUNT) == {"a": {0: 3600.0}}
    # Those of another GPU, which was not there, do count.
    store.commit(Batch([frame(rows("b", 0, 60))]))
    compact(store, clock, Retention(raw_us=DAY_US))
    assert series(store, ["a", "b"], day, HOUR_US, Aggregation.COUNT) == {"a": {0: 3600.0}, "b": {0: 60.0}}


def test_records_stay_for_a_day_after_they_came_however_old_they_are(store: TieredStore, clock: Clock) -> None:
    clock.now_us = BASE_US + 400 * DAY_US
    store.commit(Batch([frame([*rows("a", 0, 10), ("a", clock.now_us - 1, {"x": 0.0})])]))
    compact(store, clock, Retention(raw_us=DAY_US))
    assert len(records(store, "a")) == 11
    clock.now_us += DAY_US
    store.commit(Batch([frame([("a", clock.now_us - 1, {"x": 0.0})])]))
    compact(store, clock, Retention(raw_us=DAY_US))
    assert len(records(store, "a")) == 2


def test_the_oldest_records_go_when_they_take_too_many_bytes(store: TieredStore, clock: Clock) -> None:
    for day in range(4):
        store.commit(Batch([frame(rows("a", 0, 500, start_us=BASE_US + day * DAY_US))]))
    clock.now_us = BASE_US + 9 * DAY_US
    compact(store, clock)
    tier = store.stats().tiers["raw"]
    assert (tier.files, tier.rows) == (4, 2000)
    compact(store, clock, Retention(raw_bytes=tier.size - 1))
    assert store.stats().tiers["raw"].rows == 1500
    assert records(store, "a")[0][0] == BASE_US + DAY_US
    compact(store, clock, Retention(raw_bytes=1))
    assert store.stats().tiers["raw"].files == 0
    by_day = series(store, ["a"], (BASE_US, BASE_US + 4 * DAY_US), DAY_US, Aggregation.COUNT)
    assert by_day == {"a": dict.fromkeys(range(4), 500.0)}


def test_a_clock_that_is_years_ahead_deletes_nothing_and_one_that_goes_back_loses_nothing(
    tmp_path: Path, store: TieredStore, clock: Clock
) -> None:
    store.commit(Batch([frame(rows("a", 0, 100, MINUTE_US))]))
    compact(store, clock)
    everything = Retention(raw_us=DAY_US, minutes_us=DAY_US, hours_us=DAY_US)
    for now_us in (BASE_US + 9000 * DAY_US, BASE_US + 9002 * DAY_US, BASE_US - 9000 * DAY_US, 0):
        clock.now_us = now_us
        compact(store, clock, everything)
        assert len(records(store, "a")) == 100
        store.commit(Batch([frame(rows("a", 0, 100, MINUTE_US))]))
    assert len(records(store, "a")) == 100
    assert len(series(store, ["a"], (BASE_US, BASE_US + DAY_US), HOUR_US, Aggregation.COUNT)["a"]) == 2


@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_a_damaged_cold_file_costs_only_itself_and_is_reported(
    tmp_path: Path, store: TieredStore, clock: Clock, how: str
) -> None:
    store.commit(Batch([frame(rows("a", 0, 600, 15 * SECOND_US))]))
    compact(store, clock)
    victim = sorted((tmp_path / "cold" / "hour").iterdir())[1]
    data = victim.read_bytes()
    if how == "gone":
        victim.unlink()
    elif how == "cut":
        victim.write_bytes(data[:-20])
    else:
        # A byte of a page.
        place = data.rindex(b"\x28\xb5\x2f\xfd") + 8
        victim.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    whole = [(BASE_US + place * 15 * SECOND_US, {"x": float(place)}) for place in range(600)]
    rest = [each for each in whole if not HOUR_US <= each[0] - BASE_US < 2 * HOUR_US]
    for newest_first in (False, True):
        plan = Plan()
        found = records(store, "a", newest_first=newest_first, plan=plan)
        assert found == (rest[::-1] if newest_first else rest)
        assert len(plan.warnings) == 1
        assert f"cold/hour/{victim.name} cannot be read" in plan.warnings[0]
    plan = Plan()
    found_steps = series(store, ["a"], (BASE_US, BASE_US + DAY_US), 45 * SECOND_US, Aggregation.COUNT, plan=plan)["a"]
    assert sum(found_steps.values()) == len(rest)
    assert len(plan.warnings) == 1
    assert store.stats().damaged_files == 1
    # What comes later is stored, moved and read; the day with the damage is not rewritten.
    clock.now_us = BASE_US + 3 * DAY_US
    store.commit(Batch([frame(rows("a", 0, 10, start_us=BASE_US + 2 * DAY_US))]))
    stats = compact(store, clock)
    assert not stats.trouble
    assert len(records(store, "a")) == len(rest) + 10


def test_a_closed_file_that_lost_its_end_by_hand_stops_only_its_own_gpu(
    tmp_path: Path, store: TieredStore, clock: Clock
) -> None:
    store.commit(Batch([frame(rows(gpu, 0, 20)) for gpu in "abc"]))
    store.close_files(clock.now_us + 1)
    path = tmp_path / "hot" / "b+000000.jsonl"
    path.write_bytes(path.read_bytes()[:-10])
    stats = compact(store, clock)
    assert "GPU b cannot be compacted" in stats.trouble
    assert names(tmp_path / "hot") == ["b+000000.jsonl"]
    assert [len(records(store, gpu)) for gpu in "ac"] == [20, 20]
    store.close()
    reopened = TieredStore(tmp_path, clock_us=clock, cache_entries=0)
    assert not compact(reopened, clock).trouble
    assert [len(records(reopened, gpu)) for gpu in "abc"] == [20, 19, 20]
    assert names(tmp_path / "hot") == []
    reopened.close()


def test_a_line_edited_by_hand_is_kept_aside_and_counted_when_it_is_compacted(
    tmp_path: Path, store: TieredStore, clock: Clock
) -> None:
    store.commit(Batch([frame(rows("a", 0, 20))]))
    path = tmp_path / "hot" / "a.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[3] = b"?" * len(lines[3])
    path.write_bytes(b"\n".join(lines))
    stats = compact(store, clock)
    assert (stats.damaged_lines, stats.trouble) == (1, "")
    assert [metrics["x"] for _, metrics in records(store, "a")] == [0, 1, 2, *range(4, 20)]
    (kept,) = (tmp_path / "cold" / "damaged").iterdir()
    assert kept.read_bytes() == lines[3] + b"\n"


def test_errors_of_the_disk_while_compacting_change_nothing(
    tmp_path: Path, store: TieredStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.commit(Batch([frame(rows("a", 0, 20))]))

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error", "a disk")

    for name in ("os.fsync", "pathlib.Path.rename"):
        with monkeypatch.context() as patch:
            patch.setattr(name, fail)
            with pytest.raises(Exception, match="Input/output error"):
                compact(store, clock)
        assert len(records(store, "a")) == 20
        store.commit(Batch([frame(rows("a", 0, 20))]))
    compact(store, clock)
    assert len(records(store, "a")) == 20
    assert names(tmp_path / "hot") == []


def test_a_checkpoint_of_the_first_version_is_brought_to_this_one(tmp_path: Path) -> None:
    (tmp_path / "hot").mkdir()
    line = b'{"gpu_id":"a","metrics":{"x":1.0},"timestamp":"2026-01-01T00:00:00.000000Z"}\n'
    (tmp_path / "hot" / "a.jsonl").write_bytes(line * 2)
    old = sqlite3.connect(tmp_path / "checkpoint.sqlite")
    old.executescript(f"""
        CREATE TABLE gpus (id INTEGER PRIMARY KEY, gpu TEXT NOT NULL UNIQUE, file TEXT NOT NULL UNIQUE,
            length INTEGER NOT NULL, block_start INTEGER NOT NULL, block_min_us INTEGER NOT NULL,
            block_max_us INTEGER NOT NULL, first_us INTEGER NOT NULL, last_us INTEGER NOT NULL,
            records INTEGER NOT NULL, labels TEXT NOT NULL, latest TEXT NOT NULL);
        CREATE TABLE blocks (id INTEGER NOT NULL, start INTEGER NOT NULL, length INTEGER NOT NULL,
            min_us INTEGER NOT NULL, max_us INTEGER NOT NULL, PRIMARY KEY (id, start)) WITHOUT ROWID;
        CREATE TABLE positions (topic TEXT NOT NULL, partition INTEGER NOT NULL, topic_created_us INTEGER NOT NULL,
            next_offset INTEGER NOT NULL, PRIMARY KEY (topic, partition)) WITHOUT ROWID;
        CREATE TABLE quarantine (only INTEGER PRIMARY KEY CHECK (only = 0), length INTEGER NOT NULL);
        INSERT INTO quarantine VALUES (0, 0);
        INSERT INTO gpus VALUES (7, 'a', 'a.jsonl', {len(line)}, 0, {BASE_US}, {BASE_US}, {BASE_US}, {BASE_US}, 1,
            '{{"host":"n"}}', '{{"x":[{BASE_US},1.0]}}');
        INSERT INTO positions VALUES ('telemetry', 3, 5, 9);
        PRAGMA user_version = 1;
    """)
    old.close()
    clock = Clock(BASE_US + HOUR_US)
    store = TieredStore(tmp_path, clock_us=clock)
    assert records(store, "a") == [(BASE_US, {"x": 1.0})]
    assert store.positions() == {TopicPartition("telemetry", 3): Position(5, 9)}
    assert (tmp_path / "hot" / "a.jsonl").read_bytes() == line
    compact(store, clock)
    assert records(store, "a") == [(BASE_US, {"x": 1.0})]
    assert names(tmp_path / "hot") == []
    store.close()
    with sqlite3.connect(tmp_path / "checkpoint.sqlite") as later:
        later.execute("PRAGMA user_version = 3")
    later.close()
    with pytest.raises(DataDirectoryError, match=r"has format 3; this version reads up to 2"):
        TieredStore(tmp_path)


def test_a_job_whose_collector_died_is_waited_for_before_what_it_left_is_removed(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It publishes once more before it ends; nothing of that may stay. If it does not end, that is for another time."""
    (tmp_path / "cold" / "hour").mkdir(parents=True)
    stray = tmp_path / "cold" / "hour" / "2026-01-01T00.00000007.parquet"
    waiting = threading.Event()
    with alone(tmp_path / "cold"):
        opening = threading.Thread(target=lambda: TieredStore(tmp_path, clock_us=clock).close())
        monkeypatch.setattr("time.sleep", lambda _: waiting.set())
        opening.start()
        assert waiting.wait(10)
        stray.write_bytes(b"half")
    opening.join()
    assert not stray.exists()
    stray.write_bytes(b"half")
    with alone(tmp_path / "cold"), monkeypatch.context() as patch:
        patch.setattr(coldset, "JOB_END_S", 0.0)
        TieredStore(tmp_path, clock_us=clock).close()
        assert "an earlier compaction job is still at work" in str(caplog.records[-1].__dict__)
        assert stray.exists()
    TieredStore(tmp_path, clock_us=clock).close()
    assert not stray.exists()


def test_old_and_new_records_that_come_together_do_not_make_it_look_at_all_between_them(
    store: TieredStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = ("a", "b", "c")
    for day in range(3):
        start_us = BASE_US + day * DAY_US
        store.commit(Batch([frame([row for gpu in gpus for row in rows(gpu, 0, 20, HOUR_US, start_us)])]))
    clock.now_us = BASE_US + 5 * DAY_US
    compact(store, clock)
    looked_at: list[tuple[int, int]] = []

    def spy(tiers: Tiers, views: Sequence[HotGpu], start_us: int, end_us: int, *more: Any) -> Iterator[pl.DataFrame]:
        looked_at.append((len(views), end_us - start_us))
        return rows_of(tiers, views, start_us, end_us, *more)

    monkeypatch.setattr(tiered, "rows_of", spy)
    times = (0, 1, HOUR_US, 19 * HOUR_US, DAY_US + 3 * HOUR_US, 3 * DAY_US - 1, 3 * DAY_US)
    some = [
        (gpu, BASE_US + time, {"x": -1.0 if time == HOUR_US else (time // HOUR_US) % 24})
        for gpu in gpus
        for time in times
    ]
    outcome = store.commit(Batch([frame(some)]))
    assert (outcome.records, outcome.duplicates, outcome.conflicts) == (3 * 4, 3 * 3, 3)
    assert max(span for _, span in looked_at) <= HOUR_US + 1
    assert {count for count, _ in looked_at} == {3}
    looked_at.clear()
    monkeypatch.setattr(tiered, "_LOOKED_AT_S", 7000)
    outcome = store.commit(Batch([frame(some)]))
    assert (outcome.records, outcome.duplicates) == (0, 3 * 7)
    assert (1, HOUR_US + 1) in looked_at
