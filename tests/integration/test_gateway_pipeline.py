"""The gateway in front of a real queue and a real collector: what is published is what the API shows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import schemas
from gateway.server import GatewayServer
from telemetry.codec import ARROW_CONTENT_TYPE, CONTENT_TYPE, encode_arrow, frame_of
from telemetry.collector.collector import Collector, CollectorSettings
from telemetry.model import Record
from telemetry.queue.client import OutgoingMessage, Publisher, partition_of_key
from telemetry.queue.engines.memory import MemoryEngine
from telemetry.queue.server import QueueServer
from telemetry.storage.tiered import TieredStore
from tests.unit.gateway.services import event_stream, gateway_to

API = "/api/v1"
PARTITIONS = 8


@asynccontextmanager
async def running(collector: Collector) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(collector.run(stop))
    while not collector.grpc_port:
        assert not task.done(), task.exception()
        await asyncio.sleep(0.01)
    yield
    stop.set()
    await task


@pytest.fixture
async def pipeline(tmp_path: Path) -> AsyncIterator[tuple[QueueServer, GatewayServer]]:
    """A queue, a collector that stores what it delivers, and a gateway."""
    async with QueueServer(MemoryEngine(), grpc_port=0, http_port=0) as queue:
        settings = CollectorSettings(f"127.0.0.1:{queue.grpc_port}", workers=1, grpc_port=0, http_port=0)
        store = TieredStore(tmp_path / "store", synced=False)
        collector = Collector(settings, store)
        async with running(collector):
            gateway = gateway_to(queue.grpc_port, collector.grpc_port, static_folder=tmp_path / "static")
            async with gateway:
                yield queue, gateway
        store.close()


def records(gpu: str, host: str, index: int, newest: datetime, count: int) -> list[Record]:
    """One record a second, the newest last; its temperature is the number of the record."""
    labels = {"host": host, "index": str(index), "model": "NVIDIA H100 80GB HBM3"}
    return [
        Record(
            newest - timedelta(seconds=count - 1 - number),
            gpu,
            {"temperature": 1.0 * number, "power_draw": 400.5},
            labels,
        )
        for number in range(count)
    ]


async def publish(queue: QueueServer, *batches: list[Record]) -> None:
    """Publish each batch, which is of one GPU, as the streamer does."""
    async with Publisher(f"127.0.0.1:{queue.grpc_port}") as publisher:
        await publisher.ensure_topic("telemetry", partitions=PARTITIONS)
        for batch in batches:
            message = OutgoingMessage(encode_arrow(frame_of(batch)), {CONTENT_TYPE: ARROW_CONTENT_TYPE})
            partition = partition_of_key(batch[0].gpu, PARTITIONS)
            await publisher.publish_batch("telemetry", [message], partition=partition)


async def get(client: httpx.AsyncClient, path: str, **parameters: Any) -> Any:
    answer = await client.get(API + path, params=parameters or None)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_what_is_published_is_what_the_api_shows(pipeline: tuple[QueueServer, GatewayServer]) -> None:
    queue, gateway = pipeline
    newest = datetime.fromtimestamp(int(time.time()), UTC)
    newest_s = newest.timestamp()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.api_port}", timeout=30) as client:
        async with event_stream(client) as events:
            await publish(
                queue,
                records("GPU-0a", "node-1", 0, newest, 40),
                records("GPU-0b", "node-1", 1, newest, 40),
                records("node-2/0", "node-2", 0, newest, 40),
            )
            last: dict[str, float | None] = {}
            while last != {"GPU-0a": 39.0, "GPU-0b": 39.0, "node-2/0": 39.0}:
                event = await events.next_event()
                schemas.LiveUpdate.model_validate(event.data, extra="forbid")
                last |= dict(zip(event.data["gpus"], event.data["columns"]["temperature"]["last"], strict=True))

        gpus = await get(client, "/gpus")
        assert [gpu["gpu"] for gpu in gpus["gpus"]] == ["GPU-0a", "GPU-0b", "node-2/0"]
        assert gpus["gpus"][0]["metrics"] == ["power_draw", "temperature"]
        assert [(host["host"], host["gpus"]) for host in (await get(client, "/hosts"))["hosts"]] == [
            ("node-1", 2),
            ("node-2", 1),
        ]
        assert (await get(client, "/hosts/node-1/gpus", page_size=1))["total"] == 2

        fleet = await get(client, "/fleet")
        assert fleet["hosts"] == ["node-1", "node-1", "node-2"]
        assert fleet["columns"] == {"power_draw": [400.5] * 3, "temperature": [39.0] * 3}
        assert fleet["timestamps"] == [newest_s] * 3
        assert fleet["completeness"] == {"partial": False, "warnings": []}

        gpu = await get(client, "/gpus/node-1%2F1")
        assert (gpu["gpu"], gpu["latest"]["temperature"]) == ("GPU-0b", 39.0)
        found = await get(client, "/gpus/GPU-0a/telemetry", limit=3)
        assert [record["metrics"]["temperature"] for record in found["records"]] == [39.0, 38.0, 37.0]
        found = await get(client, "/gpus/GPU-0a/telemetry", order="oldest", start_time=newest_s - 5, end_time=newest_s)
        assert [record["metrics"]["temperature"] for record in found["records"]] == [34.0, 35.0, 36.0, 37.0, 38.0]

        series = await get(client, "/gpus/node-2%2F0/series", metric="temperature", step="1s", agg="max")
        values = dict(zip(series["timestamps"], series["columns"]["temperature"], strict=True))
        assert values[newest_s] == 39.0
        assert values[newest_s - 39] == 0.0
        assert values[newest_s - 60] is None
        default = await get(client, "/gpus/node-2%2F0/series", metric=["temperature", "power_draw"])
        assert 100 < len(default["timestamps"]) <= 1000
        assert [value for value in default["columns"]["temperature"] if value is not None][-1] >= 36

        health = await get(client, "/health")
        states = {service["name"]: service["state"] for service in health["services"]}
        assert states == {"queue": "ok", "collector": "ok", "streamer": "unknown", "alerts": "unknown", "gateway": "ok"}


async def test_the_queue_s_own_numbers_have_the_same_shape(pipeline: tuple[QueueServer, GatewayServer]) -> None:
    queue, gateway = pipeline
    await publish(queue, records("GPU-0a", "node-1", 0, datetime.now(UTC), 3))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.api_port}", timeout=30) as client:
        ours = await get(client, "/queue/stats")
        own = (await client.get(f"http://127.0.0.1:{queue.http_port}/stats")).json()
        for stats in (ours, own):
            schemas.QueueStats.model_validate(stats, extra="forbid")
        topics = await get(client, "/queue/topics")
        assert {topic["name"]: topic["storage"] for topic in topics["topics"]}["live"] == "memory"
        detail = await get(client, "/queue/topics/telemetry")
        schemas.TopicDetail.model_validate(detail, extra="forbid")
        assert (detail["partitions"], detail["stats"]["published"]) == (PARTITIONS, 1)
        groups = await get(client, "/queue/groups", topic="telemetry")
        schemas.GroupPage.model_validate(groups, extra="forbid")
        assert [group["name"] for group in groups["groups"]] == ["collectors"]


async def test_what_the_services_refuse_names_our_parameter(pipeline: tuple[QueueServer, GatewayServer]) -> None:
    queue, gateway = pipeline
    refused = {
        "/gpus?page_token=mine": "page_token",
        "/hosts?page_token=mine": "page_token",
        "/queue/topics?page_token=mine": "page_token",
        "/queue/groups?page_token=mine": "page_token",
        "/gpus/GPU-0a/series?metric=temperature&step=1ms&start_time=0": "step",
    }
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.api_port}", timeout=30) as client:
        async with event_stream(client) as events:
            await publish(queue, records("GPU-0a", "node-1", 0, datetime.now(UTC), 3))
            await events.next_event()
        for path, parameter in refused.items():
            answer = await client.get(API + path)
            assert (answer.status_code, answer.json().get("parameter")) == (400, parameter), answer.text
            assert answer.headers["content-type"] == "application/problem+json"
