"""What is compacted when, and what a compactor does when its jobs fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from telemetry.storage import compaction
from telemetry.storage.checkpoint import Segment
from telemetry.storage.cold.files import DAY_US, HOUR_US, MINUTE_US, ColdFile, HotSegment, Level, Window
from telemetry.storage.cold.job import Job, JobError, JobResult
from telemetry.storage.compaction import GRACE_US, Retention, departures, expired, merges, moves
from telemetry.storage.compactor import CompactionSettings, Compactor
from telemetry.storage.leases import Leases
from telemetry.storage.store import Batch
from telemetry.storage.tiered import Closed, TieredStore
from tests.unit.storage.rounds import BASE_US, Clock, frame, records, run_here

AFTER_US = HOUR_US
FILE = ColdFile(
    id=1,
    level=Level.HOUR,
    window=Window.hour_of(BASE_US),
    path="hour/1",
    rows=1,
    samples=1,
    size=100,
    crc32c=0,
    footer_crc32c=0,
    first_us=BASE_US,
    last_us=BASE_US + HOUR_US - 1,
    gpu_min="a",
    gpu_max="z",
    metrics=("x",),
    generation=1,
)


def _placed(file: ColdFile, window: Window) -> ColdFile:
    return replace(file, level=window.level, window=window, first_us=window.start_us, last_us=window.end_us - 1)


def hour_file(number: int, hour: int, generation: int = 1) -> ColdFile:
    window = Window.hour_of(BASE_US + hour * HOUR_US)
    return _placed(replace(FILE, id=number, path=f"hour/{number}", generation=generation), window)


def day_file(number: int, day: int, generation: int = 1) -> ColdFile:
    window = Window.day_of(BASE_US + day * DAY_US)
    return _placed(replace(FILE, id=number, path=f"day/{number}", generation=generation), window)


def rollup(number: int, source: ColdFile, level: Level = Level.HOUR_ROLLUP) -> ColdFile:
    return replace(source, id=number, level=level, path=f"{level.value}/{number}", derived_from=source.id)


def merged(files: list[ColdFile], now_us: int, damaged: dict[str, str] | None = None) -> list[list[int]]:
    return [
        [file.id for file in (*each.files, *each.rollups)] for each in merges(files, now_us, AFTER_US, damaged or {})
    ]


def test_an_hour_in_layers_is_merged_once_it_is_over() -> None:
    files = [hour_file(1, 0), rollup(2, hour_file(1, 0)), hour_file(5, 0, generation=5), hour_file(6, 1)]
    over_us = BASE_US + HOUR_US + AFTER_US + GRACE_US
    assert merged(files, over_us - 1) == []
    assert merged(files, over_us) == [[1, 5, 2]]


def test_files_of_one_generation_are_no_layers() -> None:
    assert merged([hour_file(1, 0), hour_file(2, 0)], BASE_US + 10 * HOUR_US) == []


def test_the_hours_of_a_day_become_a_day_once_it_is_over() -> None:
    files = [hour_file(1, 3), hour_file(2, 9, generation=2), day_file(3, 1)]
    over_us = BASE_US + DAY_US + AFTER_US + GRACE_US
    assert merged(files, over_us - 1) == []
    assert merged(files, over_us) == [[1, 2]]
    late = [day_file(3, 1), day_file(4, 1, generation=4)]
    assert merged(late, over_us + DAY_US) == [[3, 4]]
    assert merged([day_file(3, 1)], over_us + DAY_US) == []


def test_a_day_with_a_damaged_file_is_left_alone() -> None:
    files = [hour_file(1, 3), hour_file(2, 9), hour_file(3, 30)]
    assert merged(files, BASE_US + 9 * DAY_US, {"hour/2": "it is cut"}) == [[3]]


def test_closed_files_are_moved_in_jobs_of_a_bearable_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "JOB_BYTES", 100)
    closed = [Closed(Segment(1, start, start + 60, 0), HotSegment("a", Path("a"), 60)) for start in (0, 60, 120)]
    assert [list(each.segments) for each in moves(closed)] == [[closed[0]], [closed[1]], [closed[2]]]
    assert list(moves([])) == []


def test_rollups_go_by_their_own_age_and_outlive_their_records() -> None:
    old, young = day_file(1, 0), day_file(2, 50)
    files = [old, rollup(3, old, Level.MINUTE_ROLLUP), rollup(4, old), young, rollup(5, young, Level.MINUTE_ROLLUP)]
    known = [(file, BASE_US) for file in files]
    now_us = BASE_US + 60 * DAY_US

    def gone(retention: Retention) -> list[int]:
        return [file.id for file in expired(known, retention, now_us, now_us)]

    assert gone(Retention()) == []
    assert gone(Retention(raw_us=30 * DAY_US)) == [1]
    assert gone(Retention(minutes_us=30 * DAY_US)) == [3]
    assert gone(Retention(raw_us=30 * DAY_US, minutes_us=30 * DAY_US, hours_us=59 * DAY_US)) == [1, 3, 4]
    assert gone(Retention(raw_us=59 * DAY_US + 1)) == []
    assert gone(Retention(raw_bytes=100)) == [1]


def test_records_get_their_roll_up_by_the_minute_before_they_go_if_it_is_to_outlive_them() -> None:
    old, rolled, young = day_file(1, 0), day_file(2, 1), day_file(3, 50)
    files = [old, rollup(4, old), rolled, rollup(5, rolled, Level.MINUTE_ROLLUP), young]
    known = [(file, BASE_US) for file in files]
    now_us = BASE_US + 60 * DAY_US

    def departing(retention: Retention, damaged: dict[str, str] | None = None) -> list[list[int]]:
        merges = departures(known, retention, now_us, now_us, damaged or {})
        return [[file.id for file in merge.minutes_of] for merge in merges]

    assert departing(Retention()) == []
    assert departing(Retention(raw_us=30 * DAY_US)) == [[1]]
    assert departing(Retention(raw_us=30 * DAY_US, minutes_us=90 * DAY_US)) == [[1]]
    assert departing(Retention(raw_us=30 * DAY_US, minutes_us=30 * DAY_US)) == []
    assert departing(Retention(raw_bytes=1)) == [[1], [3]]
    assert departing(Retention(raw_bytes=1), {old.path: "it is cut"}) == [[3]]


def test_roll_ups_that_may_stand_for_the_same_records_are_not_both_kept_whatever_their_levels() -> None:
    earlier, later, other = day_file(1, 0), replace(day_file(2, 0), generation=2), day_file(3, 1)
    now_us = BASE_US + 60 * DAY_US

    def gone(*rollups: ColdFile) -> list[int]:
        return [file.id for file in expired([(file, BASE_US) for file in rollups], Retention(), now_us, now_us)]

    hours = [rollup(number, source) for number, source in ((11, earlier), (12, later), (13, other))]
    minutes = [rollup(number, source, Level.MINUTE_ROLLUP) for number, source in ((21, earlier), (22, later))]
    assert gone(*hours) == [12]
    assert gone(hours[0], minutes[1], hours[2]) == [22]
    assert gone(*hours, *minutes) == [12, 22]
    # By the minute it can be seen that they are apart, by the hour it can not.
    apart = [replace(minutes[0], last_us=minutes[0].first_us), replace(minutes[1], first_us=minutes[1].last_us)]
    assert gone(*apart) == []
    assert gone(replace(hours[0], last_us=hours[0].first_us), replace(apart[1], first_us=BASE_US + MINUTE_US)) == [22]


def test_leases_hold_back_only_what_was_there_when_they_began() -> None:
    leases: Leases[str] = Leases()
    with leases.hold():
        leases.put_aside("one")
        with leases.hold():
            leases.put_aside("two")
            assert leases.due() == []
        assert leases.due() == []
    with leases.hold():
        assert leases.due() == ["one", "two"]
        leases.put_aside("three")
    assert leases.due() == ["three"]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that no event announces."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("fault", [JobError("the job was killed by signal 9"), ZeroDivisionError("a fault of ours")])
async def test_a_job_that_fails_is_reported_and_tried_again_while_records_are_stored(
    tmp_path: Path, fault: Exception
) -> None:
    clock = Clock(BASE_US + HOUR_US)
    store = TieredStore(tmp_path, clock_us=clock, synced=False)
    store.commit(Batch([frame([("a", BASE_US, {"x": 1.0})])]))
    faults = [fault, fault]

    async def run(job: Job) -> JobResult:
        if faults:
            store.commit(Batch([frame([("a", BASE_US + len(faults), {"x": 2.0})])]))
            raise faults.pop()
        return await run_here(job)

    compactor = Compactor(store, CompactionSettings(interval_s=0.01, after_s=-1.0), run=run, clock_us=clock)
    running = asyncio.create_task(compactor.run())
    await until(lambda: compactor.stats.failures == 1)
    assert str(fault) in compactor.stats.trouble
    await until(lambda: compactor.stats.last_us is not None)
    assert (compactor.stats.failures, compactor.stats.trouble) == (2, "")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    compactor.close()
    assert len(records(store, "a")) == 3
    assert store.stats().tiers["hot"].files == 0
    store.close()


async def test_a_real_child_moves_records_and_one_that_is_killed_changes_nothing(tmp_path: Path) -> None:
    clock = Clock(BASE_US + HOUR_US)
    store = TieredStore(tmp_path, clock_us=clock)
    store.commit(Batch([frame([("a", BASE_US + second, {"x": float(second)}) for second in range(1000)])]))
    compactor = Compactor(store, CompactionSettings(after_s=-1.0), clock_us=clock)
    started = asyncio.Event()

    original = asyncio.create_subprocess_exec

    async def starting(*arguments: str, **more: object) -> asyncio.subprocess.Process:
        process = await original(*arguments, **more)  # type: ignore[arg-type]
        started.set()
        return process

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "create_subprocess_exec", starting)
        dying = asyncio.create_task(compactor.round())
        await started.wait()
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
    assert dying.cancelled()
    assert len(records(store, "a")) == 1000
    assert store.stats().tiers["raw"].rows == 0
    await compactor.round()
    assert store.stats().tiers["raw"].rows == len(records(store, "a")) == 1000
    compactor.close()
    store.close()
