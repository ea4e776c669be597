"""What is known of closed segments without reading them: the same as what is in them, or nothing."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import struct
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.queue.core.batches import Entry
from telemetry.queue.core.queue import QueueCore
from telemetry.queue.core.topics import TopicDefaults
from telemetry.queue.core.types import (
    AckEntry,
    Delivery,
    Outcome,
    Place,
    PublishBatch,
    Storage,
    SubscribeOptions,
    TopicConfig,
)
from telemetry.queue.engines.disk import NEVER, DiskEngine
from telemetry.queue.engines.files import SYSTEM_FILES, Bytes, SystemFiles
from telemetry.queue.engines.quarantine import Quarantine
from telemetry.queue.engines.records import HEADER_BYTES, SEAL_TOPIC
from telemetry.queue.engines.recovery import read_segment, recover
from telemetry.queue.engines.restoring import Restoring
from telemetry.queue.engines.segments import list_segments
from telemetry.queue.engines.sqlite_catalogue import SqliteCatalogue
from telemetry.v1 import queue_pb2

Open = Callable[..., Awaitable[DiskEngine]]
Crash = Callable[[], Path]
ROUNDS = int(os.environ.get("TELEMETRY_TEST_ROUNDS", "1"))


class WatchedFiles(SystemFiles):
    """A disk that counts which files are read in full, and may refuse to keep summaries."""

    def __init__(self, refuses: int = 0) -> None:
        self.viewed = 0
        self._refuses = refuses

    @contextmanager
    def view(self, fd: int) -> Iterator[Bytes]:
        self.viewed += 1
        with super().view(fd) as data:
            yield data

    def make(self, path: Path) -> int:
        if self._refuses and path.suffix == ".summary":
            raise OSError(self._refuses, os.strerror(self._refuses))
        return super().make(path)


async def publish(engine: DiskEngine, data: str, sequence: int, topic: str = "t") -> int:
    batch = queue_pb2.MessageBatch(messages=[queue_pb2.Message(data=data.encode())]).SerializeToString()
    receipt = await engine.publish(
        PublishBatch(topic, batch, 1, partition=0, producer_id="p", producer_epoch=1, first_sequence=sequence)
    )
    assert receipt.base_offset is not None
    return receipt.base_offset


async def stored(engine: DiskEngine) -> list[str]:
    batches = [one.batch async for one in engine.browse("t", None, Place.EARLIEST, 10_000)]
    return [one.data.decode() for batch in batches for one in queue_pb2.MessageBatch.FromString(batch).messages]


async def quarantined(engine: DiskEngine) -> int:
    log = (await engine.stats()).log
    assert log is not None
    return log.quarantined_records


def log_files(directory: Path, suffix: str) -> list[Path]:
    return sorted((directory / "log").glob(f"*.{suffix}"))


class PartitionState(NamedTuple):
    """All that a partition is after a start."""

    offsets: tuple[int, int, int]
    size: int
    entries: list[Entry]
    holes: list[tuple[int, int]]
    producers: list[tuple[str, int, int, int, list[int]]]


class LogState(NamedTuple):
    """All that is known of a log after a start."""

    partitions: dict[tuple[str, int], PartitionState]
    segments: list[tuple[int, int, int]]
    next_topic_id: int


def state_of(directory: Path, *, by_reading: bool = False) -> LogState:
    """What a start makes of a directory; ``by_reading`` every record in turn, as if there were no summaries."""
    quarantine = Quarantine(SYSTEM_FILES, directory / "quarantine")
    catalogue = SqliteCatalogue(SYSTEM_FILES, directory / "catalogue.sqlite", lambda error: None)
    core = QueueCore("nonce", TopicDefaults(Storage.DISK, {Storage.DISK: 1 << 30}))
    restoring = Restoring(core, catalogue.load())
    catalogue.close()
    found = []
    if by_reading:
        listed = list_segments(SYSTEM_FILES, directory / "log")
        for base, path in listed:
            last = base == listed[-1][0]
            records, end, _ = read_segment(SYSTEM_FILES, path, base, last=last, quarantine=quarantine)
            live = sum(
                restoring.take(one) for one in records if one.header is None or one.header.topic_id != SEAL_TOPIC
            )
            if records:
                found.append((base, end, live))
    else:
        segments = recover(SYSTEM_FILES, directory / "log", quarantine, restoring).segments
        found = [(segment.base, segment.end, segment.live) for segment in segments]
    restoring.finish()
    partitions = {}
    for topic in core.topics.values():
        for one in topic.partitions:
            partitions[topic.name, one.number] = PartitionState(
                (one.start_offset, one.visible_end, one.end_offset),
                one.size_bytes,
                list(one.index),
                list(one.holes),
                [
                    (name, state.epoch, state.last_sequence, state.last_time_us, state.recent.numbers.tolist())
                    for name, state in one.producers
                ],
            )
    return LogState(partitions, found, core._last_topic_id)


async def test_a_start_after_a_stop_reads_no_segment_in_full(open_engine: Open) -> None:
    engine = await open_engine(segment_bytes=1024)
    for number in range(10):
        await publish(engine, f"{number:0100}", number)
    await engine.stop()
    files = WatchedFiles()
    engine = await open_engine(files=files)
    assert files.viewed == 0
    assert await stored(engine) == [f"{number:0100}" for number in range(10)]
    assert await publish(engine, "next", 10) == 10


async def test_a_start_after_a_crash_reads_only_the_last_segment_in_full(open_engine: Open, crash: Crash) -> None:
    engine = await open_engine(segment_bytes=1024)
    for number in range(10):
        await publish(engine, f"{number:0100}", number)
    directory = crash()
    assert len(log_files(directory, "segment")) == len(log_files(directory, "summary")) + 1 > 1
    files = WatchedFiles()
    again = await open_engine(directory, files=files)
    assert files.viewed == 1
    assert await stored(again) == [f"{number:0100}" for number in range(10)]
    assert await publish(again, "next", 10) == 10


@pytest.fixture
async def closed(open_engine: Open, tmp_path: Path) -> Path:
    """A directory with a few segments of messages, some acked, none damaged."""
    engine = await open_engine(segment_bytes=512)
    await engine.create_topic(TopicConfig("t", partitions=2))
    subscription = await engine.subscribe(SubscribeOptions(("t",), group="g"))
    subscription.add_permits(2, 0)
    for number in range(12):
        await publish(engine, f"{number:050}", number)
    (delivery,) = [one for one in await subscription.next_events() if isinstance(one, Delivery)][:1]
    await engine.ack([AckEntry(delivery.delivery_id, Outcome.ACK)])
    await engine.purge_topic("t", 0, 1)
    await engine.stop()
    return tmp_path / "queue"


@pytest.mark.parametrize("damage", ["flipped", "cut", "longer"])
def test_a_summary_that_is_damaged_anywhere_is_built_again(closed: Path, damage: str) -> None:
    expected = state_of(closed, by_reading=True)
    assert state_of(closed) == expected
    summary = log_files(closed, "summary")[1]
    whole = summary.read_bytes()
    for at in range(len(whole)):
        match damage:
            case "flipped":
                summary.write_bytes(whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1 :])
            case "cut":
                summary.write_bytes(whole[:at])
            case "longer":
                summary.write_bytes(whole + whole[: at + 1])
        assert state_of(closed) == expected, at
        assert summary.read_bytes() == whole


@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_summary_that_is_missing_is_built_again(closed: Path, which: int, caplog: pytest.LogCaptureFixture) -> None:
    expected = state_of(closed)
    summary = log_files(closed, "summary")[which]
    whole = summary.read_bytes()
    summary.unlink()
    assert state_of(closed) == expected
    assert summary.read_bytes() == whole
    # That the last one has none is the rule after a crash.
    assert len(caplog.records) == (which != -1)


def test_a_summary_of_another_format_version_is_built_again(closed: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = state_of(closed)
    summary = log_files(closed, "summary")[0]
    whole = summary.read_bytes()
    body = whole[:8] + struct.pack("<I", 2) + whole[12:-4]
    summary.write_bytes(body + google_crc32c.value(body).to_bytes(4, "little"))
    assert state_of(closed) == expected
    assert caplog.records[0].__dict__["summary"] == "of format version 2"
    assert summary.read_bytes() == whole


def test_a_summary_of_another_segment_is_not_believed(closed: Path) -> None:
    expected = state_of(closed)
    first, second = log_files(closed, "summary")[:2]
    whole = second.read_bytes()
    second.write_bytes(first.read_bytes())
    assert state_of(closed) == expected
    assert second.read_bytes() == whole


async def test_a_summary_of_a_segment_that_is_gone_goes_too(open_engine: Open, crash: Crash) -> None:
    engine = await open_engine(segment_bytes=1024)
    for number in range(20):
        await publish(engine, f"old {number:0100}", number)
    directory = crash()
    for segment in log_files(directory, "segment"):
        segment.unlink()
    # Positions begin at 0 again, and so do the names of segments.
    again = await open_engine(directory, segment_bytes=1024)
    assert log_files(directory, "summary") == []
    assert await stored(again) == []
    for number in range(20):
        await publish(again, f"new {number:0100}", number)
    await again.stop()
    assert await stored(await open_engine(directory)) == [f"new {number:0100}" for number in range(20)]


async def test_a_summary_left_over_from_a_log_that_was_lost_is_not_believed(open_engine: Open, crash: Crash) -> None:
    engine = await open_engine(segment_bytes=1024)
    for number in range(20):
        await publish(engine, f"old {number:0100}", number)
    directory = crash()
    summaries = {path: path.read_bytes() for path in log_files(directory, "summary")}
    for path in log_files(directory, "segment"):
        path.unlink()
    again = await open_engine(directory, segment_bytes=1024)
    for number in range(20):
        await publish(again, f"new {number:0100}", number)
    await again.stop()
    for path, data in summaries.items():
        path.write_bytes(data)
    assert await stored(await open_engine(directory)) == [f"new {number:0100}" for number in range(20)]


async def test_summaries_are_reclaimed_with_their_segments(open_engine: Open, tmp_path: Path) -> None:
    engine = await open_engine(segment_bytes=1024)
    for number in range(20):
        await publish(engine, f"{number:0200}", number)
    await engine.purge_topic("t", None, None)
    async with asyncio.timeout(10):
        while len(log_files(tmp_path / "queue", "segment")) > 2:
            await asyncio.sleep(0.05)
    segments, summaries = (log_files(tmp_path / "queue", suffix) for suffix in ("segment", "summary"))
    assert {path.stem for path in summaries} <= {path.stem for path in segments}


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
async def test_a_summary_that_cannot_be_written_is_not_missed(open_engine: Open, tmp_path: Path, error: int) -> None:
    engine = await open_engine(segment_bytes=512, files=WatchedFiles(refuses=error))
    for number in range(10):
        await publish(engine, f"{number:050}", number)
    await engine.stop()
    assert log_files(tmp_path / "queue", "summary") == []
    assert await stored(await open_engine()) == [f"{number:050}" for number in range(10)]
    assert len(log_files(tmp_path / "queue", "summary")) > 3


async def test_damage_in_a_closed_segment_is_found_when_it_is_read(open_engine: Open, tmp_path: Path) -> None:
    engine = await open_engine()
    for number, data in enumerate(("first", "second", "third")):
        await publish(engine, data, number)
    await engine.stop()
    (segment,) = log_files(tmp_path / "queue", "segment")
    damaged = segment.read_bytes().replace(b"second", b"sEcond")
    segment.write_bytes(damaged)
    files = WatchedFiles()
    engine = await open_engine(files=files)
    assert (files.viewed, await quarantined(engine)) == (0, 0)
    subscription = await engine.subscribe(SubscribeOptions(("t",), group="g"))
    subscription.add_permits(10, 0)
    deliveries: list[Delivery] = []
    async with asyncio.timeout(10):
        while len(deliveries) < 2:
            deliveries += [one for one in await subscription.next_events() if isinstance(one, Delivery)]
    assert [one.base_offset for one in deliveries] == [0, 2]
    await engine.ack([AckEntry(one.delivery_id, Outcome.ACK) for one in deliveries])
    assert (await engine.get_group("g")).positions[0].acked_through == 3
    assert await quarantined(engine) == 1
    assert len(list((tmp_path / "queue" / "quarantine").iterdir())) == 1
    await engine.stop()
    # From now on what is counted does not include what is damaged, and the segment need not be read for that.
    engine = await open_engine(files=files)
    assert (files.viewed, await quarantined(engine)) == (0, 1)
    (topic,) = (await engine.stats()).topics
    assert topic.messages == 2
    assert await publish(engine, "second", 3) == 3


@pytest.mark.parametrize("damaged", ["first", "second", "third"])
async def test_a_segment_whose_damage_is_known_is_read_once_and_no_offset_or_sequence_of_it_is_used_again(
    open_engine: Open, tmp_path: Path, damaged: str
) -> None:
    engine = await open_engine()
    for number, data in enumerate(("first", "second", "third")):
        await publish(engine, data, number)
    await engine.stop()
    (segment,) = log_files(tmp_path / "queue", "segment")
    segment.write_bytes(segment.read_bytes().replace(damaged.encode(), damaged.upper().encode()))
    for summary in log_files(tmp_path / "queue", "summary"):
        summary.unlink()
    read: list[int] = []
    left = [one for one in ("first", "second", "third") if one != damaged]
    for _ in range(3):
        files = WatchedFiles()
        engine = await open_engine(files=files)
        read.append(files.viewed)
        assert await stored(engine) == left
        assert await quarantined(engine) == 1
        await engine.stop()
    assert read == [1, 0, 0]
    engine = await open_engine()
    assert await publish(engine, "fourth", 3) == 3
    assert await stored(engine) == [*left, "fourth"]


async def test_no_flipped_byte_of_a_closed_segment_is_served(open_engine: Open, tmp_path: Path) -> None:
    engine = await open_engine(fsync=NEVER)
    messages = ["first", "second", "third"]
    for number, data in enumerate(messages):
        await publish(engine, data, number)
    await engine.stop()
    (segment,) = log_files(tmp_path / "queue", "segment")
    whole = segment.read_bytes()
    for at in range(0, len(whole), 3 if ROUNDS == 1 else 1):
        copy = shutil.copytree(tmp_path / "queue", tmp_path / "copy")
        segment = log_files(copy, "segment")[0]
        segment.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        again = DiskEngine(copy, fsync=NEVER)
        await again.start()
        left = await stored(again)
        assert left == [one for one in messages if one in left]
        assert len(left) >= 2, at
        assert await quarantined(again) == 3 - len(left)
        assert await publish(again, "fourth", 3) >= 3
        await again.stop()
        shutil.rmtree(copy)


Step = tuple[str, int, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["publish"] * 12 + ["purge", "delete", "restart", "crash", "damage"]),
        st.integers(0, 3),
        st.integers(0, 3),
        st.integers(1, 200),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=40 * ROUNDS)
@given(STEPS)
def test_a_start_with_summaries_is_a_start_by_reading_everything(steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_live_through(Path(folder), steps))


async def _live_through(folder: Path, steps: list[Step]) -> None:
    directory, copies = folder / "queue", 0
    engine = DiskEngine(directory, fsync=NEVER, segment_bytes=1024, cache_bytes=0)
    await engine.start()
    epochs: dict[tuple[str, int, str], list[int]] = {}
    all_headers_readable = True
    for action, one, other, size in steps:
        topic = ("a", "b")[one % 2]
        match action:
            case "publish":
                await _publish_some(engine, topic, one // 2, ("", "p", "q", "q")[other], size, epochs)
            case "purge" if topic in {found.config.name for found in await engine.list_topics()}:
                await engine.purge_topic(topic, None, size)
            case "delete" if topic in {found.config.name for found in await engine.list_topics()}:
                await engine.delete_topic(topic)
                epochs = {key: value for key, value in epochs.items() if key[0] != topic}
            case "restart":
                await engine.stop()
                engine = DiskEngine(directory, fsync=NEVER, segment_bytes=1024, cache_bytes=0)
                await engine.start()
            case "crash":
                copies += 1
                directory = shutil.copytree(directory, folder / f"crashed-{copies}")
                await engine.stop()
                engine = DiskEngine(directory, fsync=NEVER, segment_bytes=1024, cache_bytes=0)
                await engine.start()
            case "damage":
                all_headers_readable &= await _damage(engine, directory, size)
    crashed = shutil.copytree(directory, folder / "crashed")
    await engine.stop()
    for last in (crashed, directory):
        read = shutil.copytree(last, folder / f"{last.name}-read")
        summed, by_reading = state_of(last), state_of(read, by_reading=True)
        if all_headers_readable:
            assert summed == by_reading
        else:
            _assert_knows_at_least(summed, by_reading)


def _assert_knows_at_least(summed: LogState, by_reading: LogState) -> None:
    """The same is stored; of a record whose header cannot be read only a summary knows the offsets and the producer."""
    assert summed.partitions.keys() == by_reading.partitions.keys()
    for place, mine in summed.partitions.items():
        read = by_reading.partitions[place]
        assert (mine.entries, mine.size) == (read.entries, read.size)
        assert mine.offsets[0] == read.offsets[0]
        assert mine.offsets[2] <= read.offsets[2], "who cannot read a header leaves out more offsets than there were"
        known = {name: (epoch, last_sequence) for name, epoch, last_sequence, *_ in mine.producers}
        for name, epoch, last_sequence, *_ in read.producers:
            assert known[name] >= (epoch, last_sequence)


async def _damage(engine: DiskEngine, directory: Path, which: int) -> bool:
    """Flip a bit in a batch of a closed segment, or in its header, and have somebody come upon it.

    Returns whether the header can still be read.
    """
    bases = [int(path.stem) for path in log_files(directory, "segment")]
    partitions = [one for topic in engine._core.topics.values() for one in topic.partitions]
    closed = [entry.position for one in partitions for entry in one.index if entry.position < bases[-1]]
    if not closed:
        return True
    position = closed[which % len(closed)]
    base = max(one for one in bases if one <= position)
    with (directory / "log" / f"{base:020d}.segment").open("r+b") as file:
        file.seek(position - base + (HEADER_BYTES + 1 if which % 3 else HEADER_BYTES // 2))
        (byte,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    for topic in await engine.list_topics():
        async for _ in engine.browse(topic.config.name, None, Place.EARLIEST, 1 << 40):
            pass
    return which % 3 != 0


async def _publish_some(
    engine: DiskEngine,
    topic: str,
    partition: int,
    producer: str,
    size: int,
    epochs: dict[tuple[str, int, str], list[int]],
) -> None:
    if topic not in {found.config.name for found in await engine.list_topics()}:
        await engine.create_topic(TopicConfig(topic, partitions=2))
    messages = 1 + size % 3
    batch = queue_pb2.MessageBatch(messages=[queue_pb2.Message(data=bytes(size))] * messages).SerializeToString()
    epoch = epochs.setdefault((topic, partition, producer), [1, 0])
    if size % 17 == 0:
        epoch[:] = [epoch[0] + 1, 0]
    wanted = PublishBatch(
        topic,
        batch,
        messages,
        partition=partition,
        producer_id=producer,
        producer_epoch=epoch[0] if producer else 0,
        first_sequence=epoch[1] if producer else 0,
    )
    await engine.publish(wanted)
    epoch[1] += messages
