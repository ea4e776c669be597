"""A reader that stops reading, in a real queue process: it costs a bounded amount of memory and disturbs nobody."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf.duration_pb2 import Duration

from telemetry.queue.client import OutgoingMessage, Publisher, Subscriber
from telemetry.queue.client import ReceivedDelivery as Received
from telemetry.v1 import queue_pb2
from tests.faults.queue_process import QueueProcess, Start, watching
from tests.integration.queue_server.wire_client import read_delivery

BATCH_BYTES: Final = 1 << 20
BATCHES: Final = 1024
"""How many of them are published: 1 GiB."""
RSS_MB_MAX: Final = 300
UNREAD_BYTES_MAX: Final = 32 << 20
"""What may be on its way to a reader that reads nothing: the outbox, and what both ends' gRPC take in advance."""


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A data directory whose gigabyte does not outlive the test."""
    yield tmp_path / "queue"
    shutil.rmtree(tmp_path / "queue")


async def publish(queue: QueueProcess, batches: int) -> None:
    """Publish numbered batches of 1 MiB, each of four messages."""
    padding = os.urandom(BATCH_BYTES // 4 - 8)
    async with Publisher(queue.address) as publisher:
        for number in range(batches):
            data = b"%08d" % number + padding
            await publisher.publish_batch("t", [OutgoingMessage(data)] * 4, partition=0)


async def consume(queue: QueueProcess, batches: int) -> int:
    """Read and ack everything as another group; returns how many messages came."""
    messages = 0
    async with Subscriber(queue.address, topics=["t"], group="quick", permits_bytes=8 << 20) as subscriber:
        async for event in subscriber:
            assert isinstance(event, Received)
            for at, message in enumerate(event.messages):
                assert int(message.data[:8]) == (messages + at) // 4
            messages += len(event.messages)
            await event.ack()
            if messages == batches * 4:
                break
    return messages


async def group(queue: QueueProcess, name: str) -> dict[str, Any]:
    stats = await queue.page("/stats")
    found: dict[str, Any] = next(each for each in stats["groups"] if each["group"] == name)
    return found


async def test_a_group_member_that_stops_reading_costs_little_and_loses_nothing(start: Start, data: Path) -> None:
    queue = await start("--data-dir", data)
    stalled = await queue.client.subscribe("t", group="slow", member="snail", messages=1_000_000)
    async with watching(queue) as watch:
        quick = asyncio.create_task(consume(queue, BATCHES))
        await publish(queue, BATCHES)
        assert await quick == BATCHES * 4
    assert watch.most_mb < RSS_MB_MAX

    slow = await group(queue, "slow")
    (snail,) = slow["members"]
    assert (snail["member"], slow["lag_messages"]) == ("snail", BATCHES * 4)
    assert 0 < snail["unacked"] * BATCH_BYTES // 4 <= UNREAD_BYTES_MAX
    assert snail["permits_messages"] == 1_000_000 - snail["unacked"]
    assert slow["oldest_unacked_age_s"] > 0

    # When it reads again, all is there, in order, and for the first time.
    for number in range(BATCHES):
        delivery = await read_delivery(stalled)
        assert (delivery.base_offset, delivery.attempt) == (number * 4, 1)
        assert int(delivery.batch.messages[3].data[:8]) == number
    stalled.cancel()
    assert queue.rss_mb < RSS_MB_MAX


async def test_a_reader_without_a_group_that_stops_reading_costs_little(start: Start, data: Path) -> None:
    queue = await start("--data-dir", data)
    stalled = [await queue.client.subscribe("t", messages=1_000_000) for _ in range(4)]
    async with watching(queue) as watch:
        await publish(queue, BATCHES // 4)
        await consume(queue, BATCHES // 4)
    assert watch.most_mb < RSS_MB_MAX
    for call in stalled:
        assert (await read_delivery(call)).base_offset == 0
        call.cancel()


async def test_a_stalled_member_leaves_its_messages_to_others_when_its_ack_wait_is_over(
    start: Start, data: Path
) -> None:
    queue = await start("--data-dir", data)
    stalled = await queue.client.subscribe("t", group="g", messages=1_000_000, ack_wait=Duration(seconds=1))
    await publish(queue, 40)
    other = await queue.client.subscribe("t", group="g", messages=1_000_000)
    offsets: set[int] = set()
    async with asyncio.timeout(60):
        while len(offsets) < 40:
            delivery = await read_delivery(other)
            if await queue.client.settle(delivery.delivery_id) == [queue_pb2.ACK_STATUS_OK]:
                offsets.add(delivery.base_offset)
    late = await read_delivery(stalled)
    assert await queue.client.settle(late.delivery_id) == [queue_pb2.ACK_STATUS_STALE]
    stalled.cancel()
    other.cancel()
