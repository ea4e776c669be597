"""A collector process that is killed while records stream in: afterwards each sample is stored exactly once."""

from __future__ import annotations

import asyncio
import signal
import socket
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import orjson

from telemetry.codec import ARROW_CONTENT_TYPE, CONTENT_TYPE, encode_arrow, frame_of
from telemetry.model import Record
from telemetry.queue.client import OutgoingMessage, Publisher, partition_of_key
from telemetry.queue.engines.memory import MemoryEngine
from telemetry.queue.server import QueueServer
from telemetry.topics import DATA_TOPIC
from telemetry.v1 import queue_admin_pb2, queue_admin_pb2_grpc

START = datetime(2026, 1, 1, tzinfo=UTC)
WAIT_S = 60.0
GPUS = [f"GPU-{number:04}" for number in range(24)]


@asynccontextmanager
async def collector(directory: Path, *flags: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A real collector process; killed at the end if it is still there."""
    command = [sys.executable, "-m", "telemetry", "collector", "--data-dir", str(directory)]
    ports = ["--grpc-port", "0", "--health-port", "0", "--broker-port", "0"]
    process = await asyncio.create_subprocess_exec(*command, *ports, *flags, stderr=asyncio.subprocess.DEVNULL)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def publish_all(publisher: Publisher, rounds: Sequence[int]) -> None:
    """Publish ten records of each GPU in each round, in order of time."""
    for number in rounds:
        for gpu in GPUS:
            times = [START + timedelta(seconds=number * 10 + second) for second in range(10)]
            frame = frame_of([Record(time, gpu, {"x": float(number)}) for time in times])
            message = OutgoingMessage(encode_arrow(frame), {CONTENT_TYPE: ARROW_CONTENT_TYPE})
            await publisher.publish_batch(DATA_TOPIC, [message], partition=partition_of_key(gpu, 8))


async def wait_until_acked(address: str) -> None:
    """Wait until the collectors have acked everything."""
    async with grpc.aio.insecure_channel(address) as channel, asyncio.timeout(WAIT_S):
        admin: queue_admin_pb2_grpc.QueueAdminServiceAsyncStub = queue_admin_pb2_grpc.QueueAdminServiceStub(channel)
        while True:
            group = (await admin.GetGroup(queue_admin_pb2.GetGroupRequest(group="collectors"))).group
            if all(position.end_offset == position.acked_through for position in group.positions):
                return
            await asyncio.sleep(0.05)


async def wait_until_larger(directory: Path, size: int) -> int:
    """Wait until the records in ``directory`` take more than ``size`` bytes; returns how many they take."""
    async with asyncio.timeout(WAIT_S):
        while True:
            now = sum(path.stat().st_size for path in (directory / "hot").glob("*.jsonl"))
            if now > size:
                return now
            await asyncio.sleep(0.01)


def lines_of(directory: Path) -> Counter[tuple[str, str]]:
    """How often each record is in the files."""
    lines = [line for path in (directory / "hot").glob("*.jsonl") for line in path.read_bytes().splitlines()]
    return Counter((record["gpu_id"], record["timestamp"]) for record in map(orjson.loads, lines))


@contextmanager
def checkpoints_held_up(directory: Path) -> Iterator[int]:
    """Let no transaction of the collector begin; yields how many bytes the last one vouches for."""
    connection = sqlite3.connect(directory / "checkpoint.sqlite", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection.execute("SELECT sum(length) FROM gpus").fetchone()[0]
    finally:
        connection.execute("ROLLBACK")
        connection.close()


async def test_each_sample_is_stored_once_whenever_the_collector_dies(tmp_path: Path) -> None:
    rounds, part = 45, 15
    async with QueueServer(MemoryEngine(), grpc_port=0, http_port=0) as queue:
        address = f"127.0.0.1:{queue.grpc_port}"
        async with Publisher(address) as publisher:
            await publisher.ensure_topic(DATA_TOPIC, partitions=8)
            for first, between_files_and_checkpoint in zip(range(0, rounds, part), (True, False, True), strict=True):
                async with collector(tmp_path, "--queue", address) as process:
                    await publish_all(publisher, range(first, first + 2))
                    size = await wait_until_larger(tmp_path, 0)
                    await wait_until_acked(address)
                    with checkpoints_held_up(tmp_path) if between_files_and_checkpoint else nullcontext(size) as size:
                        publishing = asyncio.create_task(publish_all(publisher, range(first + 2, first + part)))
                        await wait_until_larger(tmp_path, size)
                        process.kill()
                        await process.wait()
                    await publishing
            async with collector(tmp_path, "--queue", address) as process:
                await wait_until_acked(address)
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0
    counts = lines_of(tmp_path)
    assert len(counts) == rounds * 10 * len(GPUS)
    assert set(counts.values()) == {1}


def free_pair_of_ports() -> int:
    """The first of two neighbouring ports that nobody listens on now."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            with suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 1))
                return port


async def test_a_collector_with_a_queue_of_its_own_loses_nothing_when_both_are_killed(tmp_path: Path) -> None:
    port = free_pair_of_ports()
    address = f"127.0.0.1:{port + 1}"
    for number, end in enumerate((signal.SIGKILL, signal.SIGTERM)):
        async with collector(tmp_path, "--broker-port", str(port)) as process, Publisher(address) as publisher:
            await publisher.ensure_topic(DATA_TOPIC, partitions=8)
            await publish_all(publisher, [number])
            if end is signal.SIGTERM:
                await wait_until_acked(address)
            process.send_signal(end)
            assert await process.wait() == (0 if end is signal.SIGTERM else -end)
    counts = lines_of(tmp_path)
    assert len(counts) == 2 * 10 * len(GPUS)
    assert set(counts.values()) == {1}
