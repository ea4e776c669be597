"""A simulated fleet through a real queue: every record once, each GPU's in order and in its partition."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from telemetry.codec import CONTENT_TYPE, decode
from telemetry.queue.client import Publisher, ReceivedDelivery, Subscriber, partition_of_key
from telemetry.queue.engines.memory import MemoryEngine
from telemetry.queue.server import QueueServer
from telemetry.simulator import Fleet
from telemetry.simulator.publish import FleetPublisher, Rate


@pytest.fixture
async def queue() -> AsyncIterator[str]:
    async with QueueServer(MemoryEngine(), grpc_port=0, http_port=0) as running:
        yield f"127.0.0.1:{running.grpc_port}"


async def publish(queue: str, fleet: Fleet, rate: Rate, stop: asyncio.Event | None = None) -> int:
    async with Publisher(queue) as publisher:
        run = FleetPublisher(fleet, publisher, "telemetry", rate)
        await run.run(stop or asyncio.Event())
        return run.done.records


async def received(queue: str, records: int) -> dict[int, pl.DataFrame]:
    """By partition, what arrived, in order."""
    frames: dict[int, list[pl.DataFrame]] = {}
    async with Subscriber(queue, topics=["telemetry"], group="test") as subscriber:
        while records > 0:
            event = await anext(aiter(subscriber))
            if isinstance(event, ReceivedDelivery):
                for message in event.messages:
                    frame = decode(message.data, message.attributes[CONTENT_TYPE])
                    frames.setdefault(event.partition, []).append(frame)
                    records -= frame.height
                await event.ack()
    return {partition: pl.concat(parts) for partition, parts in frames.items()}


@pytest.mark.parametrize("rate", [0.0, 50_000.0])
async def test_all_records_arrive_once_and_in_order(queue: str, rate: Rate) -> None:
    # A frame is more than a message of each partition.
    fleet = Fleet(500, duration=timedelta(minutes=20), incidents="random")
    expected = pl.concat(fleet.frames())
    assert await publish(queue, fleet, rate) == expected.height
    parts = await received(queue, expected.height)
    assert len(parts) == 8
    for partition, frame in parts.items():
        assert {partition_of_key(gpu, 8) for gpu in frame["gpu"].unique()} == {partition}
        own = expected.filter(pl.col("gpu").is_in(frame["gpu"].unique().implode()))
        assert_frame_equal(frame, own)


async def test_in_real_time_the_past_comes_at_once_and_the_future_when_it_is_due(queue: str) -> None:
    interval = timedelta(milliseconds=100)
    start = datetime.now(UTC) - 5 * interval
    fleet = Fleet(3, duration=10 * interval, interval=interval, start=start)
    assert await publish(queue, fleet, "realtime") == 30
    assert datetime.now(UTC) >= start + 9 * interval


async def test_a_stop_ends_it_after_what_was_sent_is_confirmed(queue: str) -> None:
    stop = asyncio.Event()
    fleet = Fleet(4, duration=timedelta(hours=1), start=datetime.now(UTC) - timedelta(seconds=95))
    running = asyncio.create_task(publish(queue, fleet, "realtime", stop))
    await received(queue, 40)
    stop.set()
    assert await running == 40
