"""A store whose disk is full or read-only: nothing half is stored or moved, and it goes on when it can."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import suppress

import pytest

from telemetry.runtime.errors import DataDirectoryError
from telemetry.storage.cold.job import JobError
from telemetry.storage.store import Batch, StoreError
from telemetry.storage.tiered import TieredStore
from tests.faults.small_disk import SmallDisk
from tests.unit.storage.naive import Row
from tests.unit.storage.rounds import BASE_US, SECOND_US, Clock, compact, frame, records

Mount = Callable[[int], SmallDisk]
GPUS = ("a", "b", "c")


def rows(first: int, last: int) -> list[Row]:
    return [(gpu, BASE_US + second * SECOND_US, {"x": second / 7}) for second in range(first, last) for gpu in GPUS]


def seconds(store: TieredStore) -> list[list[int]]:
    return [[(time - BASE_US) // SECOND_US for time, _ in records(store, gpu)] for gpu in GPUS]


def test_wherever_the_disk_becomes_full_nothing_is_lost_or_stored_twice(mount: Mount) -> None:
    disk = mount(6)
    clock = Clock(BASE_US)
    store = TieredStore(disk.place / "data", clock_us=clock, rotate_bytes=8 << 10, cache_entries=0)
    stored = 0
    failed = 0
    for room in (*range(0, 200, 12), 1 << 30):
        disk.fill(leave=room << 10)
        with suppress(StoreError):
            store.commit(Batch([frame(rows(stored, stored + 60))]))
            stored += 60
        assert seconds(store) == [list(range(stored))] * 3
        try:
            compact(store, clock)
        except (JobError, StoreError):
            failed += 1
        assert seconds(store) == [list(range(stored))] * 3
        if room % 36 == 0:
            store.close()
            # To open a database needs a little room.
            disk.fill(leave=256 << 10)
            store = TieredStore(disk.place / "data", clock_us=clock, rotate_bytes=8 << 10, cache_entries=0)
            assert seconds(store) == [list(range(stored))] * 3
        disk.relieve()
    assert failed
    assert stored >= 60
    assert store.stats().tiers["raw"].rows == stored * 3
    store.close()


def test_a_read_only_disk_is_reported_and_left_as_it_is(mount: Mount) -> None:
    disk = mount(6)
    clock = Clock(BASE_US)
    directory = disk.place / "data"
    store = TieredStore(directory, clock_us=clock, cache_entries=0)
    store.commit(Batch([frame(rows(0, 30))]))
    compact(store, clock)
    store.commit(Batch([frame(rows(30, 60))]))
    store.close()
    subprocess.run(["mount", "-o", "remount,ro", disk.place], check=True)
    with pytest.raises(DataDirectoryError, match=r"cannot be used"):
        TieredStore(directory, clock_us=clock)
    subprocess.run(["mount", "-o", "remount,rw", disk.place], check=True)
    store = TieredStore(directory, clock_us=clock)
    store.commit(Batch([frame(rows(60, 90))]))
    compact(store, clock)
    assert seconds(store) == [list(range(90))] * 3
    store.close()
