"""The disk engine on disks that are slow, full or broken."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from telemetry.queue.core.errors import ClosedError, FullError
from telemetry.queue.core.types import (
    AckEntry,
    AckStatus,
    Delivery,
    Outcome,
    Place,
    PublishBatch,
    Receipt,
    SubscribeOptions,
    TopicConfig,
)
from telemetry.queue.engines.disk import DiskEngine, FsyncPolicy

Open = Callable[..., Awaitable[DiskEngine]]


def batch(number: int, size: int = 100) -> PublishBatch:
    data = b"\n" + bytes([size + 3]) + b"\n" + bytes([size + 1]) + b"%0*d" % (size + 1, number)
    return PublishBatch("t", data, 1, partition=0, producer_id="p", producer_epoch=1, first_sequence=number)


async def count_stored(engine: DiskEngine) -> int:
    return len([one async for one in engine.browse("t", None, Place.EARLIEST, 10_000)])


async def fsyncs(engine: DiskEngine) -> int:
    log = (await engine.stats()).log
    assert log is not None
    return log.fsyncs


async def deliver(engine: DiskEngine) -> Delivery:
    subscription = await engine.subscribe(SubscribeOptions(("t",), group="g"))
    subscription.add_permits(1, 0)
    async with asyncio.timeout(10):
        (delivery,) = await subscription.next_events()
    assert isinstance(delivery, Delivery)
    return delivery


class Disk:
    """Stands between the engine and the calls that a disk may fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.allocate_error = 0
        self.write_error_after: int | None = None
        self.sync_error = 0
        self.let_sync = threading.Event()
        self.let_sync.set()
        self._allocate, self._write, self._sync = os.posix_fallocate, os.pwritev, os.fdatasync
        monkeypatch.setattr("telemetry.queue.engines.files.os.posix_fallocate", self.allocate)
        monkeypatch.setattr("telemetry.queue.engines.files.os.pwritev", self.write)
        monkeypatch.setattr("telemetry.queue.engines.files.os.fdatasync", self.sync)

    def allocate(self, fd: int, offset: int, size: int) -> None:
        if self.allocate_error:
            raise OSError(self.allocate_error, os.strerror(self.allocate_error))
        self._allocate(fd, offset, size)

    def write(self, fd: int, buffers: list[bytes], offset: int) -> int:
        if self.write_error_after is None:
            return self._write(fd, buffers, offset)
        if self.write_error_after == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        part = b"".join(buffers)[: self.write_error_after]
        self.write_error_after -= len(part)
        return self._write(fd, [part], offset)

    def sync(self, fd: int) -> None:
        assert self.let_sync.wait(20)
        if self.sync_error:
            raise OSError(self.sync_error, os.strerror(self.sync_error))
        self._sync(fd)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


async def test_publishers_who_wait_together_share_an_fsync(open_engine: Open) -> None:
    engine = await open_engine()
    await engine.create_topic(TopicConfig("t", partitions=8))
    before = await fsyncs(engine)
    batches = [PublishBatch("t", b"\n\x00", 1, partition=number % 8) for number in range(400)]
    await asyncio.gather(*(engine.publish(one) for one in batches))
    assert await fsyncs(engine) - before <= 4


async def test_what_comes_while_the_disk_is_busy_goes_together_the_next_time(open_engine: Open, disk: Disk) -> None:
    engine = await open_engine()
    await engine.publish(batch(0))
    before = await fsyncs(engine)
    disk.let_sync.clear()
    waiting = [asyncio.ensure_future(engine.publish(batch(1)))]
    await asyncio.sleep(0.05)
    waiting += [asyncio.ensure_future(engine.publish(batch(number))) for number in range(2, 50)]
    await asyncio.sleep(0.05)
    assert not any(one.done() for one in waiting)
    assert await count_stored(engine) == 1, "what is not durable is not shown"
    disk.let_sync.set()
    await asyncio.gather(*waiting)
    assert await fsyncs(engine) - before == 2


async def test_a_duplicate_waits_for_its_original(open_engine: Open, disk: Disk) -> None:
    engine = await open_engine()
    await engine.publish(batch(0))
    disk.let_sync.clear()
    original = asyncio.ensure_future(engine.publish(batch(1)))
    await asyncio.sleep(0.05)
    duplicate = asyncio.ensure_future(engine.publish(batch(1)))
    await asyncio.sleep(0.05)
    assert not duplicate.done()
    disk.let_sync.set()
    assert await duplicate == Receipt(0, 1, duplicate=True)
    assert await original == Receipt(0, 1)


async def test_an_interval_syncs_what_nothing_follows(open_engine: Open) -> None:
    engine = await open_engine(fsync=FsyncPolicy(0.05))
    await engine.publish(batch(0))
    await engine.publish(batch(1))
    async with asyncio.timeout(10):
        while await fsyncs(engine) < 2:
            await asyncio.sleep(0.01)


async def test_a_full_disk_refuses_without_damage_and_goes_on_later(open_engine: Open, disk: Disk) -> None:
    engine = await open_engine(segment_bytes=2048)
    await engine.create_topic(TopicConfig("t"))
    for number in range(5):
        await engine.publish(batch(number))
    disk.allocate_error = errno.ENOSPC
    results = await asyncio.gather(*(engine.publish(batch(number)) for number in range(5, 30)), return_exceptions=True)
    stored = [one for one in results if isinstance(one, Receipt)]
    refused = [one for one in results if isinstance(one, FullError)]
    assert len(stored) + len(refused) == 25
    assert refused
    assert all(one.retry_after_s for one in refused)
    assert await count_stored(engine) == 5 + len(stored)
    disk.allocate_error = 0
    for number in range(5 + len(stored), 30):
        assert await engine.publish(batch(number)) == Receipt(0, number)
    await engine.stop()
    engine = await open_engine()
    assert [one.base_offset async for one in engine.browse("t", None, Place.EARLIEST, 100)] == list(range(30))
    log = (await engine.stats()).log
    assert log is not None
    assert (log.quarantined_records, log.torn_bytes) == (0, 0)


@pytest.mark.parametrize("room", [0, 1, 100, 250, 400])
async def test_a_write_that_runs_out_of_room_leaves_nothing_behind(
    open_engine: Open, crash: Callable[[], Path], disk: Disk, room: int
) -> None:
    engine = await open_engine(cache_bytes=0)
    await engine.publish(batch(0))
    disk.write_error_after = room
    results = await asyncio.gather(*(engine.publish(batch(number)) for number in range(1, 9)), return_exceptions=True)
    assert all(isinstance(one, FullError) for one in results), results
    disk.write_error_after = None
    assert await count_stored(await open_engine(crash())) == 1
    for number in range(1, 9):
        assert await engine.publish(batch(number)) == Receipt(0, number)
    assert await count_stored(engine) == 9
    await engine.stop()
    engine = await open_engine()
    assert await count_stored(engine) == 9


async def test_a_failed_fsync_ends_everything_loudly(open_engine: Open, disk: Disk) -> None:
    engine = await open_engine()
    await engine.publish(batch(0))
    disk.sync_error = errno.EIO
    results = await asyncio.gather(engine.publish(batch(1)), engine.publish(batch(2)), return_exceptions=True)
    assert all(isinstance(one, ClosedError) for one in results), results
    async with asyncio.timeout(10):
        assert "fsync failed" in str(await engine.wait_failed())
    disk.sync_error = 0
    with pytest.raises(ClosedError):
        await engine.publish(batch(3))


async def test_a_dead_letter_is_durable_before_the_position_passes_it(open_engine: Open, disk: Disk) -> None:
    engine = await open_engine()
    await engine.publish(batch(0))
    delivery = await deliver(engine)
    disk.let_sync.clear()
    terminating = asyncio.ensure_future(engine.ack([AckEntry(delivery.delivery_id, Outcome.TERMINATE)]))
    await asyncio.sleep(0.05)
    assert not terminating.done()
    assert (await engine.get_group("g")).positions[0].acked_through == 0
    disk.let_sync.set()
    assert list(await terminating) == [AckStatus.OK]
    assert (await engine.get_group("g")).positions[0].acked_through == 1
    assert (await engine.get_topic("t.dead-letter")).config.partitions == 1


async def test_a_dead_letter_that_finds_no_room_is_tried_again(open_engine: Open, disk: Disk) -> None:
    engine = await open_engine()
    await engine.publish(batch(0))
    delivery = await deliver(engine)
    entry = AckEntry(delivery.delivery_id, Outcome.TERMINATE)
    disk.write_error_after = 0
    with pytest.raises(FullError):
        await engine.ack([entry])
    assert (await engine.get_group("g")).positions[0].acked_through == 0
    disk.write_error_after = None
    assert list(await engine.ack([entry])) == [AckStatus.OK]
    assert (await engine.get_group("g")).positions[0].acked_through == 1


async def test_acks_that_find_no_room_are_written_once_there_is_some(open_engine: Open, tmp_path: Path) -> None:
    engine = await open_engine()
    await engine.publish(batch(0))
    delivery = await deliver(engine)
    connection = engine._catalogue._connection
    connection.execute("PRAGMA max_page_count = 1")
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    groups = [SubscribeOptions(("t",), group=f"group-{number:03}-{'x' * 100}") for number in range(60)]
    results = await asyncio.gather(*(engine.subscribe(one) for one in groups), return_exceptions=True)
    assert any(isinstance(one, FullError) for one in results)
    entry = AckEntry(delivery.delivery_id, Outcome.ACK)
    with pytest.raises(FullError):
        await engine.ack([entry])
    connection.execute(f"PRAGMA max_page_count = {pages + 1000}")
    assert list(await engine.ack([entry])) == [AckStatus.OK]
    await engine.stop()
    engine = await open_engine()
    assert (await engine.get_group("g")).positions[0].acked_through == 1
