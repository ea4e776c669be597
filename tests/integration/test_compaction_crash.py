"""A collector that is killed while its records move to the cold tier: each is in one tier, once, and is read back."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import Counter
from pathlib import Path

import orjson
import polars as pl

from telemetry.queue.client import Publisher
from telemetry.queue.engines.memory import MemoryEngine
from telemetry.queue.server import QueueServer
from telemetry.storage.store import Span
from telemetry.storage.tiered import TieredStore
from telemetry.topics import DATA_TOPIC
from tests.integration.test_collector_crash import (
    GPUS,
    WAIT_S,
    collector,
    publish_all,
    wait_until_acked,
    wait_until_larger,
)

KILLS = 4
PART = 10
ROUNDS = KILLS * PART + 1


async def wait_until_compacted(directory: Path, files: int) -> int:
    """Wait until the cold tier has had more than ``files`` files in all; returns how many it has had."""
    async with asyncio.timeout(WAIT_S):
        while True:
            connection = sqlite3.connect(directory / "checkpoint.sqlite", isolation_level=None)
            try:
                now: int = connection.execute("SELECT next FROM cold_numbers").fetchone()[0]
            finally:
                connection.close()
            if now > files:
                return now
            await asyncio.sleep(0.01)


def in_files(directory: Path) -> Counter[tuple[str, str]]:
    """How often each record is in the files of both tiers."""
    lines = [line for path in (directory / "hot").glob("*.jsonl") for line in path.read_bytes().splitlines()]
    found = Counter((record["gpu_id"], record["timestamp"]) for record in map(orjson.loads, lines))
    for path in [*directory.glob("cold/hour/*.parquet"), *directory.glob("cold/day/*.parquet")]:
        frame = pl.read_parquet(path, columns=["gpu", "timestamp"])
        times = frame.get_column("timestamp").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
        found.update(zip(frame.get_column("gpu"), times, strict=True))
    return found


async def test_records_that_move_when_the_collector_dies_are_in_one_tier_once(tmp_path: Path) -> None:
    chance = random.Random(5)
    flags = ("--compact-interval", "20ms", "--compact-after", "0s")
    files = 0
    async with QueueServer(MemoryEngine(), grpc_port=0, http_port=0) as queue:
        address = f"127.0.0.1:{queue.grpc_port}"
        async with Publisher(address) as publisher:
            await publisher.ensure_topic(DATA_TOPIC, partitions=8)
            for number in range(KILLS):
                async with collector(tmp_path, "--queue", address, *flags) as process:
                    first = number * PART
                    await publish_all(publisher, range(first, first + 1))
                    if not number:
                        await wait_until_larger(tmp_path, 0)
                    await wait_until_acked(address)
                    publishing = asyncio.create_task(publish_all(publisher, range(first + 1, first + PART)))
                    if number:
                        files = await wait_until_compacted(tmp_path, files)
                    # Anywhere in the jobs and adoptions that follow one another.
                    await asyncio.sleep(chance.random())
                    process.kill()
                    await process.wait()
                    await publishing
                async with collector(tmp_path, "--queue", address, *flags) as process:
                    await publish_all(publisher, [KILLS * PART])
                    await wait_until_acked(address)
                    process.terminate()
                    assert await process.wait() == 0
    store = TieredStore(tmp_path)
    for gpu in GPUS:
        values = [value for frame in store.records(gpu, Span()) for value in frame.get_column("x")]
        assert values == [float(second // 10) for second in range(ROUNDS * 10)]
    assert store.stats().tiers["raw"].rows > 0
    assert store.stats().damaged_files == 0
    store.close()
    counts = in_files(tmp_path)
    assert len(counts) == ROUNDS * 10 * len(GPUS)
    assert set(counts.values()) == {1}
