"""A wall clock that jumps by hours: waits follow the other clock, times of messages never go back, nothing is lost."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from telemetry.queue.core.clock import Instant
from telemetry.queue.engines.disk import DiskEngine
from telemetry.queue.engines.engine import QueueEngine
from telemetry.queue.engines.memory import MemoryEngine
from telemetry.queue.server import QueueServer
from telemetry.runtime.grpc_server import CHANNEL_OPTIONS
from telemetry.v1 import queue_admin_pb2 as admin
from telemetry.v1 import queue_pb2
from tests.integration.queue_server.wire_client import Client, read_delivery

HOUR_S: Final = 3600.0
JUMPS: Final = [5 * HOUR_S, -5 * HOUR_S]
NACK, EXTEND = queue_pb2.ACK_OUTCOME_NACK, queue_pb2.ACK_OUTCOME_EXTEND
OK, STALE = queue_pb2.ACK_STATUS_OK, queue_pb2.ACK_STATUS_STALE


@dataclass
class JumpingClock:
    """The machine's clocks, of which somebody sets the one on the wall."""

    ahead_s: float = 0.0

    def __call__(self) -> Instant:
        return Instant(time.monotonic(), time.time_ns() // 1000 + int(self.ahead_s * 1e6))


@pytest.fixture(params=["memory", "disk"])
def engine(request: pytest.FixtureRequest, tmp_path: Path, clock: JumpingClock) -> QueueEngine:
    """An engine of each kind, with a clock that jumps."""
    return MemoryEngine(clock=clock) if request.param == "memory" else DiskEngine(tmp_path / "queue", clock=clock)


@pytest.fixture
def clock() -> JumpingClock:
    """The clock of ``engine``."""
    return JumpingClock()


@asynccontextmanager
async def serving(engine: QueueEngine) -> AsyncIterator[Client]:
    async with QueueServer(engine, grpc_port=0, http_port=0) as server:
        address = f"127.0.0.1:{server.grpc_port}"
        async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
            yield Client(channel)


@pytest.fixture
async def client(engine: QueueEngine) -> AsyncIterator[Client]:
    """A client of a server over ``engine``."""
    async with serving(engine) as client:
        yield client


@pytest.mark.parametrize("jump_s", JUMPS)
async def test_a_lease_lasts_as_long_as_it_would_have(client: Client, clock: JumpingClock, jump_s: float) -> None:
    await client.publish("t", b"one")
    call = await client.subscribe("t", group="g", ack_wait=Duration(seconds=60))
    delivery = await read_delivery(call)
    clock.ahead_s += jump_s
    assert await client.settle(delivery.delivery_id, outcome=EXTEND) == [OK], "the lease was not lost"
    clock.ahead_s += jump_s
    assert await client.settle(delivery.delivery_id) == [OK]
    call.cancel()


@pytest.mark.parametrize("jump_s", JUMPS)
async def test_an_ack_wait_and_a_delay_end_when_they_should(client: Client, clock: JumpingClock, jump_s: float) -> None:
    await client.publish("t", b"one")
    call = await client.subscribe("t", group="g", ack_wait=Duration(seconds=1))
    first = await read_delivery(call)
    clock.ahead_s += jump_s
    second = await read_delivery(call)
    assert (first.attempt, second.attempt) == (1, 2)
    delay = Duration(nanos=200_000_000)
    assert await client.settle(first.delivery_id, second.delivery_id, outcome=NACK, delay=delay) == [STALE, OK]
    clock.ahead_s -= 2 * jump_s
    third = await read_delivery(call)
    assert third.attempt == 3
    assert await client.settle(third.delivery_id) == [OK]
    call.cancel()


async def offset_at(client: Client, time_us: int) -> int:
    """Where a group that is moved to this time stands."""
    to = Timestamp(seconds=time_us // 1_000_000, nanos=time_us % 1_000_000 * 1000)
    request = admin.SeekGroupRequest(group="g", position=queue_pb2.StartPosition(time=to), dry_run=True)
    (position,) = (await client.admin.SeekGroup(request)).positions
    return position.acked_through


async def check_times(client: Client, count: int) -> list[int]:
    """All times of publishing, in microseconds, having checked that they can be sought."""
    times: list[int] = []
    async for each in client.admin.Browse(admin.BrowseRequest(topic="t", max_messages=10_000)):
        time_us = each.publish_time.seconds * 1_000_000 + each.publish_time.nanos // 1000
        times += [time_us] * len(each.batch.messages)
    assert len(times) == count
    assert times == sorted(times), "the time of publishing never goes back"
    for time_us in {each + change for each in times for change in (-1, 0, 1)}:
        wanted = next((offset for offset, each in enumerate(times) if each >= time_us), count)
        assert await offset_at(client, time_us) == wanted
    return times


async def test_times_of_publishing_never_go_back_and_can_be_sought(
    engine: QueueEngine, clock: JumpingClock, tmp_path: Path, rounds: int
) -> None:
    chance = random.Random(7)
    count = 0
    async with serving(engine) as client:
        (await client.subscribe("t", group="g", messages=0)).cancel()
        for _ in range(20 * rounds):
            clock.ahead_s += chance.uniform(-6 * HOUR_S, 5 * HOUR_S)
            await client.publish("t", *[b"x"] * chance.randint(1, 3))
            count = (await client.publish("t", b"x")).base_offset + 1
        times = await check_times(client, count)
    if isinstance(engine, DiskEngine):
        # A restart, by which time the clock has gone back once more.
        clock.ahead_s -= 20 * HOUR_S
        async with serving(DiskEngine(tmp_path / "queue", clock=clock)) as client:
            await client.publish("t", b"x")
            assert (await check_times(client, count + 1))[:count] == times


async def test_retention_by_age_keeps_what_is_unacked_and_nothing_goes_early(
    client: Client, clock: JumpingClock
) -> None:
    topic = admin.Topic(name="t", retention=admin.Retention(age=Duration(seconds=3600)))
    await client.admin.CreateTopic(admin.CreateTopicRequest(topic=topic))

    async def left() -> list[bytes]:
        # Updating a topic applies its retention at once.
        await client.admin.UpdateTopic(admin.UpdateTopicRequest(topic=topic))
        seen = [each async for each in client.admin.Browse(admin.BrowseRequest(topic="t"))]
        return [message.data for each in seen for message in each.batch.messages]

    call = await client.subscribe("t", group="g")
    await client.publish("t", b"one")
    delivery = await read_delivery(call)
    clock.ahead_s += 2 * HOUR_S
    assert await left() == [b"one"], "it is not acked"
    await client.publish("t", b"two")
    clock.ahead_s -= 4 * HOUR_S
    await client.publish("t", b"three")
    for _ in range(2):
        delivery_id = (await read_delivery(call)).delivery_id
        assert await client.settle(delivery_id) == [OK]
    assert await client.settle(delivery.delivery_id) == [OK]
    assert await left() == [b"one", b"two", b"three"], "nothing is older than an hour by a clock that went back"
    clock.ahead_s += 4 * HOUR_S
    assert await left() == [b"two", b"three"]
    clock.ahead_s += 2 * HOUR_S
    assert await left() == []
    assert (await client.publish("t", b"four")).base_offset == 3
    assert await left() == [b"four"]
    call.cancel()


async def test_statistics_show_no_negative_ages_and_a_producer_is_remembered(
    client: Client, clock: JumpingClock
) -> None:
    who = {"producer_id": "p", "producer_epoch": 1, "partition": 0}
    await client.publish("t", b"one", first_sequence=0, **who)
    call = await client.subscribe("t", group="g")
    await read_delivery(call)
    for jump_s in (-9 * HOUR_S, 20 * HOUR_S, -5 * HOUR_S):
        clock.ahead_s += jump_s
        stats = (await client.admin.GetStats(admin.GetStatsRequest())).stats
        (group,) = stats.groups
        for age in (group.oldest_unacked_age, group.lag_age):
            assert age.ToNanoseconds() >= 0
        assert min(group.deliver_rate, group.ack_rate, stats.topics[0].publish_rate) >= 0
        assert (await client.publish("t", b"one", first_sequence=0, **who)).duplicate
    call.cancel()


async def test_many_jumps_under_load_lose_and_repeat_nothing(client: Client, clock: JumpingClock, rounds: int) -> None:
    chance = random.Random(11)
    total = 150 * rounds
    call = await client.subscribe("t", group="g", ack_wait=Duration(seconds=60))

    async def jump() -> None:
        while True:
            clock.ahead_s = chance.uniform(-24 * HOUR_S, 24 * HOUR_S)
            await asyncio.sleep(0.001)

    async def publish() -> None:
        for number in range(total):
            await client.publish("t", b"%d" % number)

    async with asyncio.TaskGroup() as tasks:
        jumping = tasks.create_task(jump())
        publishing = tasks.create_task(publish())
        received: list[bytes] = []
        while len(received) < total:
            delivery = await read_delivery(call)
            received += [message.data for message in delivery.batch.messages]
            assert delivery.attempt == 1
            assert await client.settle(delivery.delivery_id) == [OK]
        await publishing
        jumping.cancel()
    assert received == [b"%d" % number for number in range(total)]
    call.cancel()
