"""Two collectors that share a queue behind one gateway, until one of them is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from telemetry.codec import ARROW_CONTENT_TYPE, CONTENT_TYPE, encode_arrow, frame_of
from telemetry.collector.collector import Collector, CollectorSettings
from telemetry.model import Record
from telemetry.queue.client import OutgoingMessage, Publisher, partition_of_key
from telemetry.queue.engines.memory import MemoryEngine
from telemetry.queue.server import QueueServer
from telemetry.storage.tiered import TieredStore
from tests.unit.gateway.services import gateway_to

PARTITIONS = 8
START = datetime(2026, 1, 1, tzinfo=UTC)
GPUS = [f"GPU-{number:02}" for number in range(16)]


@asynccontextmanager
async def collecting(queue: QueueServer, folder: Path) -> AsyncIterator[Collector]:
    store = TieredStore(folder, synced=False)
    settings = CollectorSettings(f"127.0.0.1:{queue.grpc_port}", workers=1, grpc_port=0, http_port=0)
    collector, stop = Collector(settings, store), asyncio.Event()
    task = asyncio.create_task(collector.run(stop))
    try:
        while not collector.grpc_port:
            assert not task.done(), task.exception()
            await asyncio.sleep(0.01)
        yield collector
    finally:
        stop.set()
        await task
        store.close()


async def publish(queue: QueueServer, first: int, count: int) -> None:
    """So many records, a second apart, of every GPU."""
    async with Publisher(f"127.0.0.1:{queue.grpc_port}") as publisher:
        await publisher.ensure_topic("telemetry", partitions=PARTITIONS)
        for number, gpu in enumerate(GPUS):
            labels = {"host": f"node-{number // 8}", "index": str(number % 8)}
            records = [
                Record(START + timedelta(seconds=second), gpu, {"temperature": second + 100.0 * number}, labels)
                for second in range(first, first + count)
            ]
            message = OutgoingMessage(encode_arrow(frame_of(records)), {CONTENT_TYPE: ARROW_CONTENT_TYPE})
            await publisher.publish_batch("telemetry", [message], partition=partition_of_key(gpu, PARTITIONS))


async def get(client: httpx.AsyncClient, path: str, **parameters: Any) -> Any:
    answer = await client.get(f"/api/v1{path}", params=parameters or None)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def until_newest(client: httpx.AsyncClient, second: int) -> None:
    """Wait until the newest record of every GPU is that of this second."""
    newest = (START + timedelta(seconds=second)).timestamp()
    while True:
        fleet = await get(client, "/fleet")
        if fleet["gpus"] == GPUS and set(fleet["timestamps"]) == {newest}:
            return
        await asyncio.sleep(0.02)


async def test_gpus_that_went_from_one_collector_to_another_are_whole_until_one_is_gone(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        queue = await stack.enter_async_context(QueueServer(MemoryEngine(), grpc_port=0, http_port=0))
        first = await stack.enter_async_context(collecting(queue, tmp_path / "first"))
        leaving = AsyncExitStack()
        await stack.enter_async_context(leaving)
        second = await leaving.enter_async_context(collecting(queue, tmp_path / "second"))
        addresses = [f"127.0.0.1:{each.grpc_port}" for each in (first, second)]
        gateway = await stack.enter_async_context(
            gateway_to(queue.grpc_port, 1, collectors=addresses, static_folder=tmp_path)
        )
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.api_port}", timeout=30)
        )
        await publish(queue, 0, 10)
        await until_newest(client, 9)
        # A third joins for a while: partitions, and with them GPUs, go there and come back.
        async with collecting(queue, tmp_path / "third") as third:
            del third
            await publish(queue, 10, 10)
        await publish(queue, 20, 10)

        health = await get(client, "/health")
        assert [each["name"] for each in health["services"] if "collector" in each["name"]] == [
            f"collector {address}" for address in addresses
        ]
        assert {each["state"] for each in health["services"] if "collector" in each["name"]} == {"ok"}
        hosts = await get(client, "/hosts")
        assert [(host["host"], host["gpus"]) for host in hosts["hosts"]] == [("node-0", 8), ("node-1", 8)]
        listed = await get(client, "/gpus", page_size=100)
        assert ([gpu["gpu"] for gpu in listed["gpus"]], listed["total"]) == (GPUS, 16)
        assert listed["completeness"] == {"partial": False, "warnings": []}
        await until_newest(client, 29)
        series = await get(
            client, f"/gpus/{GPUS[3]}/series", metric="temperature", start_time=START.timestamp(),
            end_time=START.timestamp() + 10, step="10s", agg="count",
        )  # fmt: skip
        assert series["columns"] == {"temperature": [10.0]}

        await leaving.aclose()
        fleet = await get(client, "/fleet")
        assert fleet["completeness"]["partial"]
        assert addresses[1] in fleet["completeness"]["warnings"][0]
        health = await get(client, "/health")
        assert health["status"] == "degraded"
        lost = sorted(set(GPUS) - set(fleet["gpus"]))
        for gpu in lost:
            answer = await client.get(f"/api/v1/gpus/{gpu}")
            assert answer.status_code == 503
            assert addresses[1] in answer.json()["detail"]
