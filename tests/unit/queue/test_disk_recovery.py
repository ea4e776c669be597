"""What the disk engine still has after it was stopped, killed, torn and damaged."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import struct
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import google_crc32c
import pytest

from telemetry.queue.core.types import (
    AckEntry,
    AckStatus,
    Delivery,
    Mode,
    Outcome,
    Place,
    PublishBatch,
    Receipt,
    Retention,
    Storage,
    SubscribeOptions,
    TopicConfig,
    TopicLimits,
)
from telemetry.queue.engines.disk import ALWAYS, NEVER, DiskEngine, FsyncPolicy
from telemetry.queue.engines.files import SYSTEM_FILES
from telemetry.queue.engines.quarantine import Quarantine
from telemetry.queue.engines.records import SEAL_TOPIC
from telemetry.queue.engines.recovery import Found, read_segment
from telemetry.queue.engines.segments import list_segments
from telemetry.runtime.errors import DataDirectoryError
from telemetry.v1 import queue_pb2

Open = Callable[..., Awaitable[DiskEngine]]
Crash = Callable[[], Path]


def encode(*data: str) -> bytes:
    return queue_pb2.MessageBatch(messages=[queue_pb2.Message(data=one.encode()) for one in data]).SerializeToString()


def decode(batch: bytes) -> list[str]:
    return [message.data.decode() for message in queue_pb2.MessageBatch.FromString(batch).messages]


async def publish(engine: DiskEngine, *data: str, sequence: int | None = None, topic: str = "t") -> Receipt:
    batch = PublishBatch(topic, encode(*data), len(data), partition=0)
    if sequence is not None:
        batch = PublishBatch(
            topic, encode(*data), len(data), partition=0, producer_id="p", producer_epoch=1, first_sequence=sequence
        )
    return await engine.publish(batch)


async def receive(engine: DiskEngine, count: int, group: str = "g") -> list[Delivery]:
    subscription = await engine.subscribe(SubscribeOptions(("t",), group=group))
    subscription.add_permits(count, 0)
    received: list[Delivery] = []
    async with asyncio.timeout(10):
        while sum(_count(one) for one in received) < count:
            received += [one for one in await subscription.next_events() if isinstance(one, Delivery)]
    return received


def _count(delivery: Delivery) -> int:
    return sum(count for _, count in delivery.due) if delivery.due else delivery.count


async def stored(engine: DiskEngine, topic: str = "t") -> list[str]:
    return [one async for batch in engine.browse(topic, None, Place.EARLIEST, 10_000) for one in decode(batch.batch)]


async def log_stats(engine: DiskEngine) -> tuple[int, int]:
    """Quarantined records and torn bytes."""
    log = (await engine.stats()).log
    assert log is not None
    return log.quarantined_records, log.torn_bytes


def only_segment(directory: Path) -> Path:
    (segment,) = (directory / "log").glob("*.segment")
    return segment


def records(directory: Path) -> list[Found]:
    segments = list_segments(SYSTEM_FILES, directory / "log")
    quarantine = Quarantine(SYSTEM_FILES, directory / "quarantine")
    found: list[Found] = []
    for base, path in segments:
        found += read_segment(SYSTEM_FILES, path, base, last=base == segments[-1][0], quarantine=quarantine)[0]
    return [one for one in found if one.header is None or one.header.topic_id != SEAL_TOPIC]


async def test_everything_is_there_again_after_a_stop(open_engine: Open) -> None:
    engine = await open_engine()
    config = TopicConfig("t", 3, Storage.DISK, Retention(60.5, 1000, False, True), TopicLimits(10, 20, 30, 40_000))
    topic = await engine.create_topic(config)
    await engine.create_topic(TopicConfig("live", storage=Storage.MEMORY))
    options = SubscribeOptions(("t", "other.*"), group="g", mode=Mode.ORDERED, backoff_s=(1.0, 2.5), ack_wait_s=7.5)
    group = (await engine.subscribe(options)).started.settings
    await publish(engine, "a")
    await engine.stop()
    engine = await open_engine()
    assert await engine.get_topic("t") == topic
    assert [one.config.name for one in await engine.list_topics()] == ["live", "t"]
    assert (await engine.get_group("g")).settings == group
    assert await stored(engine) == ["a"]
    assert await publish(engine, "b") == Receipt(0, 1)


@pytest.mark.parametrize("fsync", [ALWAYS, NEVER, FsyncPolicy(0.01)])
async def test_what_was_confirmed_survives_a_crash(open_engine: Open, crash: Crash, fsync: FsyncPolicy) -> None:
    engine = await open_engine(fsync=fsync)
    await asyncio.gather(*(publish(engine, f"{number}") for number in range(50)))
    again = await open_engine(crash())
    assert await stored(again) == [f"{number}" for number in range(50)]
    assert await log_stats(again) == (0, 0)


async def test_acks_survive_a_crash_and_what_was_not_settled_is_delivered_again(
    open_engine: Open, crash: Crash
) -> None:
    engine = await open_engine()
    await publish(engine, "a", "b", "c", "d")
    await publish(engine, "e")
    first, second = await receive(engine, 5)
    entries = [AckEntry(first.delivery_id, Outcome.ACK, (0, 1)), AckEntry(first.delivery_id, Outcome.ACK, (2, 1))]
    assert list(await engine.ack([*entries, AckEntry(second.delivery_id, Outcome.ACK)])) == [AckStatus.OK] * 3
    again = await open_engine(crash())
    (delivery,) = await receive(again, 2)
    assert (delivery.due, delivery.attempt) == (((1, 1), (3, 1)), 2)
    assert list(await again.ack([AckEntry(first.delivery_id, Outcome.ACK)])) == [AckStatus.UNKNOWN]
    assert list(await again.ack([AckEntry(delivery.delivery_id, Outcome.ACK)])) == [AckStatus.OK]
    assert (await again.get_group("g")).positions[0].acked_through == 5


async def test_a_sequence_sent_again_after_a_crash_is_a_duplicate(open_engine: Open, crash: Crash) -> None:
    engine = await open_engine()
    await publish(engine, "a", "b", sequence=0)
    await publish(engine, "c", sequence=2)
    again = await open_engine(crash())
    assert await publish(again, "c", sequence=2) == Receipt(0, 2, duplicate=True)
    assert await publish(again, "a", "b", sequence=0) == Receipt(0, 0, duplicate=True)
    assert await publish(again, "d", sequence=3) == Receipt(0, 3)
    (position,) = await again.describe_producer("t", "p")
    assert position.last_sequence == 3


@pytest.mark.parametrize("rest", ["cut", "zeros"])
async def test_a_tail_torn_at_any_byte_is_cut(open_engine: Open, crash: Crash, rest: str) -> None:
    engine = await open_engine(segment_bytes=4096)
    await publish(engine, "first", sequence=0)
    await publish(engine, "second", sequence=1)
    copy = crash()
    segment, (_, last) = only_segment(copy), records(crash())
    whole = segment.read_bytes()[: last.end]
    for cut in range(last.position, last.end):
        torn = whole[:cut]
        segment.write_bytes(torn if rest == "cut" else torn.ljust(4096, b"\0"))
        found = records(copy)
        only_padding_is_gone = whole[cut:].strip(b"\0") == b""
        assert [one.intact for one in found] == ([True, True] if only_padding_is_gone else [True]), cut
    segment.write_bytes(whole[: last.end - 9])
    again = await open_engine(copy)
    assert await stored(again) == ["first"]
    assert await log_stats(again) == (0, last.end - 9 - last.position + (-(last.end - 9) % 8))
    assert await publish(again, "second", sequence=1) == Receipt(0, 1)
    await again.stop()
    assert await stored(await open_engine(copy)) == ["first", "second"]


async def test_a_first_record_of_a_segment_that_is_torn_may_be_sent_again(open_engine: Open, crash: Crash) -> None:
    engine = await open_engine(segment_bytes=1024)
    await publish(engine, "x" * 700, sequence=0)
    await publish(engine, "y" * 700, sequence=1)
    copy = crash()
    *_, last = sorted((copy / "log").glob("*.segment"))
    data = bytearray(last.read_bytes())
    data[data.index(b"yyy")] = 0
    last.write_bytes(bytes(data))
    again = await open_engine(copy)
    assert await stored(again) == ["x" * 700]
    assert (await log_stats(again))[0] == 0
    assert await publish(again, "y" * 700, sequence=1) == Receipt(0, 1)


async def test_no_flipped_byte_is_ever_served(open_engine: Open, tmp_path: Path) -> None:
    engine = await open_engine()
    for number, data in enumerate(("first", "second", "third")):
        await publish(engine, data, sequence=number)
    await engine.stop()
    directory = tmp_path / "queue"
    segment = only_segment(directory)
    whole = segment.read_bytes()
    good = {one.position: one.header for one in records(directory)}
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        segment.write_bytes(bytes(damaged))
        intact = [one for one in records(directory) if one.intact]
        assert all(one.header == good[one.position] for one in intact)
        # Padding and the segment's own header hold nothing that anybody is served.
        assert len(intact) >= 2, at


@pytest.mark.parametrize("at", [70, 100, 150, 165, 190, 250, 275, 300, 340])
async def test_a_damaged_record_is_put_aside_and_its_offset_never_used_again(
    open_engine: Open, tmp_path: Path, at: int
) -> None:
    engine = await open_engine()
    for number, data in enumerate(("first", "second", "third")):
        await publish(engine, data, sequence=number)
    await engine.stop()
    segment = only_segment(tmp_path / "queue")
    damaged = bytearray(segment.read_bytes())
    damaged[at] ^= 0x01
    segment.write_bytes(bytes(damaged))
    again = await open_engine()
    left = await stored(again)
    assert len(left) == 2
    assert set(left) < {"first", "second", "third"}
    assert (await log_stats(again))[0] == 1
    assert len(list((tmp_path / "queue" / "quarantine").iterdir())) == 1
    receipt = await publish(again, "fourth")
    assert receipt.base_offset is not None
    assert receipt.base_offset >= 3
    deliveries = await receive(again, 3)
    assert [decode(one.batch)[0] for one in deliveries] == [*left, "fourth"]
    await again.ack([AckEntry(one.delivery_id, Outcome.ACK) for one in deliveries])
    (position,) = (await again.get_group("g")).positions
    assert position.acked_through == position.end_offset
    await again.stop()
    assert (await log_stats(await open_engine()))[0] == 1  # the same record is not counted again


async def test_damage_found_while_running_is_put_aside_and_stepped_over(open_engine: Open, tmp_path: Path) -> None:
    engine = await open_engine(cache_bytes=0)
    for data in ("first", "second", "third"):
        await publish(engine, data)
    segment = only_segment(tmp_path / "queue")
    at = segment.read_bytes().index(b"second")
    with segment.open("r+b") as file:
        file.seek(at)
        file.write(b"S")
    deliveries = await receive(engine, 2)
    assert [decode(one.batch) for one in deliveries] == [["first"], ["third"]]
    await engine.ack([AckEntry(one.delivery_id, Outcome.ACK) for one in deliveries])
    assert (await engine.get_group("g")).positions[0].acked_through == 3
    assert (await log_stats(engine))[0] == 1
    assert await stored(engine) == ["first", "third"]


async def test_room_is_reclaimed_and_nothing_is_forgotten_with_it(open_engine: Open, tmp_path: Path) -> None:
    engine = await open_engine(segment_bytes=4096)
    await engine.create_topic(TopicConfig("t", retention=Retention(drop_acked=True)))
    for number in range(20):
        await publish(engine, "x" * 1000, sequence=number)
    assert len(list((tmp_path / "queue" / "log").glob("*.segment"))) > 5
    deliveries = await receive(engine, 20)
    await engine.ack([AckEntry(one.delivery_id, Outcome.ACK) for one in deliveries])
    for _ in range(5):
        await publish(engine, "y" * 1000, topic="other")
    await engine.purge_topic("other", None, None)
    async with asyncio.timeout(10):
        while any(b"x" * 1000 in path.read_bytes() for path in (tmp_path / "queue" / "log").glob("*.segment")):
            await asyncio.sleep(0.05)
    await engine.stop()
    engine = await open_engine()
    assert await stored(engine) == []
    assert await publish(engine, "x", sequence=3) == Receipt(0, None, duplicate=True)
    assert await publish(engine, "x", sequence=20) == Receipt(0, 20)


async def test_a_purge_survives_a_crash(open_engine: Open, crash: Crash) -> None:
    engine = await open_engine()
    await publish(engine, "a", "b", "c")
    assert await engine.purge_topic("t", None, 2) == 2
    again = await open_engine(crash())
    assert await stored(again) == ["c"]


async def test_a_deleted_topic_does_not_come_back_in_a_new_one_of_its_name(open_engine: Open, crash: Crash) -> None:
    engine = await open_engine()
    await receive_nothing(engine)
    await publish(engine, "old", "old")
    await engine.delete_topic("t")
    await publish(engine, "new")
    again = await open_engine(crash())
    assert await stored(again) == ["new"]
    assert [decode(one.batch) for one in await receive(again, 1)] == [["new"]]


async def test_a_deleted_group_does_not_leave_its_position_to_a_new_one(open_engine: Open, crash: Crash) -> None:
    engine = await open_engine()
    await publish(engine, "a")
    (delivery,) = await receive(engine, 1)
    await engine.ack([AckEntry(delivery.delivery_id, Outcome.ACK)])
    await engine.delete_group("g", force=True)
    again = await open_engine(crash())
    assert await again.list_groups() == []
    assert len(await receive(again, 1)) == 1


async def test_what_a_log_that_was_not_synced_has_lost_does_not_swallow_new_messages(
    open_engine: Open, crash: Crash
) -> None:
    engine = await open_engine(fsync=NEVER)
    await publish(engine, "a", "b")
    (delivery,) = await receive(engine, 2)
    await engine.ack([AckEntry(delivery.delivery_id, Outcome.ACK)])
    copy = crash()
    only_segment(copy).unlink()
    again = await open_engine(copy)
    assert await publish(again, "c") == Receipt(0, 2)
    assert [decode(one.batch) for one in await receive(again, 1)] == [["c"]]


async def test_messages_in_memory_are_gone_and_their_topic_is_not(open_engine: Open) -> None:
    engine = await open_engine()
    await engine.create_topic(TopicConfig("t", storage=Storage.MEMORY))
    await publish(engine, "a")
    (delivery,) = await receive(engine, 1)
    await engine.ack([AckEntry(delivery.delivery_id, Outcome.ACK)])
    await engine.stop()
    engine = await open_engine()
    assert await stored(engine) == []
    await publish(engine, "b")
    assert [decode(one.batch) for one in await receive(engine, 1)] == [["b"]]


async def test_a_directory_in_use_is_refused(open_engine: Open) -> None:
    await open_engine()
    with pytest.raises(DataDirectoryError, match="in use"):
        await open_engine()


async def test_a_later_format_is_refused_by_name(open_engine: Open, tmp_path: Path) -> None:
    engine = await open_engine()
    await publish(engine, "a")
    await engine.stop()
    segment = only_segment(tmp_path / "queue")
    whole = segment.read_bytes()
    header = struct.pack("<8sIIQ", b"TQSEGMNT", 2, 0, 0)
    segment.write_bytes(header + google_crc32c.value(header).to_bytes(4, "little") + whole[28:])
    with pytest.raises(DataDirectoryError, match=f"{segment} has format version 2"):
        await open_engine()
    segment.write_bytes(whole)
    with sqlite3.connect(tmp_path / "queue" / "catalogue.sqlite") as connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(DataDirectoryError, match=r"catalogue.sqlite has version 9"):
        await open_engine()


async def test_a_catalogue_that_is_no_database_is_refused_by_name(open_engine: Open, tmp_path: Path) -> None:
    (tmp_path / "queue").mkdir()
    (tmp_path / "queue" / "catalogue.sqlite").write_bytes(b"nonsense" * 1000)
    with pytest.raises(DataDirectoryError, match=r"catalogue.sqlite cannot be used"):
        await open_engine()


async def test_a_process_that_is_killed_loses_nothing_it_has_confirmed(open_engine: Open, tmp_path: Path) -> None:
    program = """
import asyncio, pathlib, sys
from telemetry.queue.core.types import PublishBatch
from telemetry.queue.engines.disk import DiskEngine

async def main():
    engine = DiskEngine(pathlib.Path(sys.argv[1]), segment_bytes=1 << 16)
    await engine.start()
    async def publisher(partition):
        for number in range(10**9):
            batch = b"\\n\\x0b\\n\\x09%09d" % number
            receipt = await engine.publish(PublishBatch("t", batch, 1, partition=0))
            print(receipt.base_offset, number, flush=True)
    await asyncio.gather(*(publisher(number) for number in range(8)))

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path / "queue"), stdout=asyncio.subprocess.PIPE, cwd=Path.cwd()
    )
    assert process.stdout is not None
    lines = [await process.stdout.readline() for _ in range(2000)]
    os.kill(process.pid, signal.SIGKILL)
    lines += (await process.stdout.read()).splitlines(keepends=True)
    await process.wait()
    confirmed = dict(line.split() for line in lines if line.endswith(b"\n"))
    engine = await open_engine()
    there = {
        str(batch.base_offset): decode(batch.batch)[0]
        async for batch in engine.browse("t", None, Place.EARLIEST, 10_000_000)
    }
    assert len(confirmed) >= 2000
    assert all(int(there[offset.decode()]) == int(number) for offset, number in confirmed.items())


async def receive_nothing(engine: DiskEngine) -> Sequence[Delivery]:
    """Makes the group."""
    (await engine.subscribe(SubscribeOptions(("t",), group="g"))).close(drained=True)
    return ()
