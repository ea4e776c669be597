"""What the simulation has found, each as the shortest story that tells it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from telemetry.queue.core.clock import Instant
from telemetry.queue.core.errors import ClosedError, FullError
from telemetry.queue.core.queue import QueueCore, Stand
from telemetry.queue.core.sessions import Handout, Session
from telemetry.queue.core.topics import TopicDefaults
from telemetry.queue.core.types import (
    AckEntry,
    GroupSettings,
    Mode,
    Outcome,
    Place,
    PublishBatch,
    Receipt,
    Storage,
    SubscribeOptions,
    TopicConfig,
)
from telemetry.queue.engines.disk import DiskEngine
from tests.simulation.disk import SimulatedDisk

Open = Callable[..., Awaitable[DiskEngine]]
START = Instant(100.0, 1_000_000)


def later(seconds: float) -> Instant:
    return Instant(START.monotonic_s + seconds, START.wall_us + int(seconds * 1e6))


def queue_of(messages: int) -> QueueCore:
    core = QueueCore("nonce", TopicDefaults(Storage.MEMORY, {Storage.MEMORY: 1 << 40}))
    core.create_topic(TopicConfig("t"), START)
    for position in range(messages):
        target = core.target(batch := PublishBatch("t", bytes(10), 1))
        core.confirm([core.place(target.partition, batch, position, START)], START)
    return core


def take(core: QueueCore, session: Session, now: Instant) -> list[Handout]:
    return [one for one in core.take(session, now) if isinstance(one, Handout)]


def batch(number: int) -> PublishBatch:
    data = b"\n\x72\n\x70" + b"%0112d" % number
    return PublishBatch("t", data, 1, partition=0, producer_id="p", producer_epoch=1, first_sequence=number)


async def open_on(disk: SimulatedDisk, life: int) -> DiskEngine:
    engine = DiskEngine(Path("/queue"), files=disk, segment_bytes=700, nonce=f"life{life}")
    await engine.start()
    return engine


async def stored(engine: DiskEngine) -> list[int]:
    return [int(one.batch[4:]) async for one in engine.browse("t", None, Place.EARLIEST, 1000)]


@pytest.mark.parametrize("how", ["its lease runs out", "it is nacked"])
def test_nothing_that_waits_to_be_sent_overtakes_a_message_that_comes_again(how: str) -> None:
    core = queue_of(3)
    session = core.subscribe(SubscribeOptions(("t",), group="g", mode=Mode.ORDERED, ack_wait_s=30.0), START)
    assert take(core, session, START) == []  # it is told which partitions are its own
    core.add_permits(session, 1, 0, START)
    first = take(core, session, START) if how == "it is nacked" else []
    core.add_permits(session, 2, 0, later(1))
    now = later(2)
    if first:
        core.ack([AckEntry(first[0].delivery_id, Outcome.NACK, delay_s=5.0)], now)
        assert take(core, session, now) == []
        core.add_permits(session, 1, 0, now)
        now = later(8)
    else:
        now = later(30)
    core.tick(now)
    assert [(one.entry.base_offset, one.attempt) for one in take(core, session, now)] == [(0, 2), (1, 1), (2, 1)]


@pytest.mark.parametrize("how", ["purge", "damage"])
def test_what_waits_behind_a_message_that_comes_again_goes_out_when_that_message_is_gone(how: str) -> None:
    core = queue_of(2)
    session = core.subscribe(SubscribeOptions(("t",), group="g", mode=Mode.ORDERED, ack_wait_s=30.0), START)
    take(core, session, START)  # it is told which partitions are its own
    core.add_permits(session, 1, 0, START)
    (first,) = take(core, session, START)
    core.ack([AckEntry(first.delivery_id, Outcome.NACK, delay_s=60.0)], later(1))
    core.add_permits(session, 9, 0, later(2))
    assert take(core, session, later(2)) == []
    if how == "purge":
        core.purge(first.partition, 1, later(3))
    else:
        core.lose(first.partition, first.entry, later(3))
    assert [one.entry.base_offset for one in take(core, session, later(3))] == [1]


def test_what_was_acked_before_a_restart_does_not_come_again_once_what_lay_before_it_is_lost() -> None:
    core = queue_of(3)
    core.adopt_group("g", GroupSettings(("t",)), lambda partition: Stand(0, [(1, 2)]))
    (partition,) = core.topics["t"].partitions
    first = partition.index.first()
    assert first is not None
    core.lose(partition, first, START)
    session = core.subscribe(SubscribeOptions(("t",), group="g"), START)
    core.add_permits(session, 9, 0, START)
    assert [one.entry.base_offset for one in take(core, session, START)] == [2]


@pytest.mark.parametrize("seed", range(10))
async def test_what_a_failed_fsync_has_left_in_memory_is_not_taken_for_durable(seed: int) -> None:
    disk = SimulatedDisk(random.Random(seed))
    engine = await open_on(disk, 1)
    await engine.publish(batch(0))
    disk.fail_syncs = True
    with pytest.raises(ClosedError):
        await engine.publish(batch(1))
    await engine.stop()
    disk.fail_syncs = False
    disk.end_process()
    engine = await open_on(disk, 2)
    receipt = await engine.publish(batch(1))
    assert receipt == Receipt(0, 1, duplicate=True), "memory still had it"
    await engine.stop()
    disk.end_power()
    engine = await open_on(disk, 3)
    assert await stored(engine) == [0, 1]
    await engine.stop()
    disk.throw_away()


@pytest.mark.parametrize("seed", range(20))
async def test_a_seal_that_found_no_room_is_no_damage(seed: int) -> None:
    disk = SimulatedDisk(random.Random(seed))
    engine = await open_on(disk, 1)
    for number in range(3):
        await engine.publish(batch(number))
    disk.full = True
    with pytest.raises(FullError):
        await engine.publish(batch(3))
    disk.full = False
    await engine.publish(batch(3))
    disk.end_power()
    again = await open_on(disk, 2)
    log = (await again.stats()).log
    assert log is not None
    assert log.quarantined_records == 0
    assert await stored(again) == [0, 1, 2, 3]
    await again.stop()
    disk.throw_away()


async def test_damage_stays_damage_when_the_record_that_proved_it_is_cut_off(
    open_engine: Open, crash: Callable[[], Path]
) -> None:
    engine = await open_engine()
    for number in range(2):
        await engine.publish(batch(number))
    copy = crash()
    (segment,) = (copy / "log").glob("*.segment")
    data = bytearray(segment.read_bytes())
    for number in range(2):
        data[data.index(b"%0112d" % number)] ^= 1
    segment.write_bytes(data)
    await (await open_engine(copy)).stop()
    again = await open_engine(copy)
    log = (await again.stats()).log
    assert log is not None
    assert log.quarantined_records == 1
    assert (await again.publish(batch(1))).base_offset == 1


async def test_a_copy_of_a_damaged_record_survives_the_loss_of_power() -> None:
    for seed in range(10):
        disk = SimulatedDisk(random.Random(seed))
        engine = await open_on(disk, 1)
        for number in range(2):
            await engine.publish(batch(number))
        ((_, file),) = disk.files(".segment")
        for data in (file.cached, file.stored):
            data[data.index(b"%0112d" % 0)] ^= 1
        disk.end_power()
        again = await open_on(disk, 2)
        disk.end_power()
        ((_, copy),) = disk.files(".damaged")
        assert b"%0110d" % 0 in copy.stored
        del again
        disk.throw_away()


async def test_a_queue_that_cannot_make_the_copy_of_a_damaged_record_durable_ends() -> None:
    # Seed 609909: what is damaged is found while it is read, and the disk that has damaged it fails for good.
    disk = SimulatedDisk(random.Random(1))
    engine = await open_on(disk, 1)
    for number in range(8):
        await engine.publish(batch(number))
    await engine.stop()
    again = await open_on(disk, 2)  # which has nothing in its memory
    for _, file in disk.files(".segment"):
        for data in (file.cached, file.stored):
            if (at := data.find(b"%0112d" % 0)) >= 0:
                data[at] ^= 1
    disk.fail_syncs = True
    with pytest.raises(ClosedError):
        _ = [one async for one in again.browse("t", 0, Place.EARLIEST, 1)]
    assert isinstance(await again.wait_failed(), OSError)
    disk.throw_away()


@pytest.mark.parametrize("seed", range(20))
async def test_what_proves_damage_is_not_cut_off_before_a_copy_of_the_damaged_record_is_durable(seed: int) -> None:
    disk = SimulatedDisk(random.Random(seed))
    engine = await open_on(disk, 1)
    for number in range(2):
        await engine.publish(batch(number))
    disk.end_process()
    ((_, file),) = disk.files(".segment")
    for data in (file.cached, file.stored):
        for number in range(2):  # the second looks torn, and says in its header that the first was durable
            data[data.index(b"%0112d" % number)] ^= 1
    disk.fail_syncs = True
    for life in range(2, 5):
        with pytest.raises(OSError, match="Input/output"):
            await open_on(disk, life)
        disk.end_power()
    disk.fail_syncs = False
    again = await open_on(disk, 5)
    assert (await again.publish(batch(1))).base_offset == 1, "offset 0 was given to another"
    log = (await again.stats()).log
    assert log is not None
    assert log.quarantined_records == 1
    await again.stop()
    disk.throw_away()
    del engine
