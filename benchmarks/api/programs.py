"""The processes of the measurement: queue, collector and gateway with a fleet in it, and the floor, each on a core."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import polars as pl
import psutil

from telemetry.codec import ARROW_CONTENT_TYPE, CONTENT_TYPE, TIME_TYPE, encode_arrow
from telemetry.model import GPU, TIMESTAMP
from telemetry.query.collector import CollectorClient
from telemetry.queue.client import OutgoingMessage, Publisher, partition_of_key
from telemetry.topics import DATA, DATA_TOPIC
from telemetry.v1 import query_pb2

METRICS: Final = (
    *("memory_free", "memory_temperature", "memory_used", "memory_utilization", "power_draw"),
    *("sm_clock", "temperature", "tensor_active", "throttle_reasons", "utilization"),
)
SERIES_POINTS: Final = 300
START_S_MAX: Final = 120.0
HOST: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Program:
    """A process and the ports that it said it has."""

    watched: psutil.Process
    ports: dict[str, int]

    def cpu_s(self) -> float:
        """CPU that it has used."""
        times = self.watched.cpu_times()
        return float(times.user + times.system)

    def rss_bytes(self) -> int:
        """Memory that it holds."""
        return int(self.watched.memory_info().rss)


def core(number: int, *command: str) -> list[str]:
    """A command that runs on one core only, where the machine has several and knows how."""
    cores = sorted(os.sched_getaffinity(0))
    taskset = shutil.which("taskset")
    if taskset is None or len(cores) < 2:
        return list(command)
    return [taskset, "--cpu-list", str(cores[number % len(cores)]), *command]


@asynccontextmanager
async def program(number: int, *arguments: str) -> AsyncIterator[Program]:
    """One of our processes on a core."""
    command = core(number, sys.executable, "-m", "telemetry", *arguments, "--log-level", "info")
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    ports: dict[str, int] = {}
    async with asyncio.timeout(START_S_MAX):
        async for line in process.stderr:
            fields = json.loads(line)
            if fields["message"] == "ready":
                ports = {name: value for name, value in fields.items() if isinstance(value, int)}
                break
    draining = asyncio.create_task(_drain(process.stderr))
    try:
        yield Program(psutil.Process(process.pid), ports)
    finally:
        process.terminate()
        await process.wait()
        await draining


@asynccontextmanager
async def floor(number: int, body: bytes) -> AsyncIterator[int]:
    """The floor on a core, answering ``body``; gives its port."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "body"
        file.write_bytes(body)
        command = core(number, sys.executable, "-m", "benchmarks.api.floor", str(file))
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        try:
            yield int(await process.stdout.readline())
        finally:
            process.kill()
            await process.wait()


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A running gateway and the fleet behind it."""

    gateway: Program
    queue: str
    gpus: list[str]

    @property
    def port(self) -> int:
        """The API's port."""
        return self.gateway.ports["api"]


@asynccontextmanager
async def pipeline(gpus: int) -> AsyncIterator[Pipeline]:
    """A gateway on the first core; a queue and a collector that has the newest record of each GPU on the second."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        queue = await stack.enter_async_context(
            program(1, "queue", "--engine", "memory", "--grpc-port", "0", "--http-port", "0")
        )
        address = f"{HOST}:{queue.ports['grpc']}"
        # One caller asks for thousands a second here, which is what the limit is to prevent.
        unlimited = ("--rate-limit", "0")
        where = (*unlimited, "--queue", address, "--data-dir", str(folder / "store"))
        collector = await stack.enter_async_context(
            program(1, "collector", *where, "--grpc-port", "0", "--health-port", "0")
        )
        fleet = Fleet(gpus)
        async with Publisher(address) as publisher:
            await fleet.publish(publisher, datetime.now(UTC), history=SERIES_POINTS)
        await _stored(f"{HOST}:{collector.ports['grpc']}", gpus)
        asked = (*unlimited, "--collector", f"{HOST}:{collector.ports['grpc']}", "--streamer-http", f"{HOST}:1")
        gateway = await stack.enter_async_context(
            program(0, "gateway", "--queue", address, *asked, "--dashboard-port", "0", "--api-port", "0")
        )
        yield Pipeline(gateway, address, fleet.names)


class Fleet:
    """GPUs that can be published."""

    def __init__(self, gpus: int) -> None:
        self.names: Final = [f"GPU-{number:08x}-86f3-7a43-b711-{number:012x}" for number in range(gpus)]
        self._chance = random.Random(7)

    async def publish(self, publisher: Publisher, now: datetime, history: int = 1) -> None:
        """Publish a record of each GPU, and of the first so many seconds."""
        by_partition: dict[int, list[int]] = {}
        for number, name in enumerate(self.names):
            by_partition.setdefault(partition_of_key(name, DATA.partitions), []).append(number)
        frames = [(partition, self._frame(numbers, now)) for partition, numbers in by_partition.items()]
        if history > 1:
            past = pl.concat(self._frame([0], now - timedelta(seconds=back)) for back in range(history - 1, 0, -1))
            frames.insert(0, (partition_of_key(self.names[0], DATA.partitions), past))
        for partition, frame in frames:
            message = OutgoingMessage(encode_arrow(frame), {CONTENT_TYPE: ARROW_CONTENT_TYPE})
            await publisher.publish_batch(DATA_TOPIC, [message], partition=partition)

    def _frame(self, numbers: list[int], now: datetime) -> pl.DataFrame:
        return pl.DataFrame(
            {
                TIMESTAMP: pl.Series([now] * len(numbers), dtype=TIME_TYPE),
                GPU: [self.names[number] for number in numbers],
                **{metric: [round(self._chance.uniform(20, 95), 1) for _ in numbers] for metric in METRICS},
                "host": [f"node-{number // 8}" for number in numbers],
                "index": [str(number % 8) for number in numbers],
                "model": ["NVIDIA H100 80GB HBM3"] * len(numbers),
                "uuid": [self.names[number] for number in numbers],
            }
        )


async def _stored(address: str, gpus: int) -> None:
    """Wait until a collector has them all."""
    client = CollectorClient(address)
    try:
        async with asyncio.timeout(START_S_MAX):
            while (await client.list_gpus(query_pb2.ListGpusRequest(page_size=1))).total < gpus:
                await asyncio.sleep(0.1)
    finally:
        await client.close()


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(1 << 16):
        pass
