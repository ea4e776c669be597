"""A disk that is really full: publishing is refused, nothing is damaged, and all goes on when there is room again."""

from __future__ import annotations

import asyncio
import hashlib
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2

from telemetry.queue.client import Publisher
from telemetry.queue.engines.disk import DiskEngine
from telemetry.queue.server import QueueServer
from telemetry.runtime.grpc_server import CHANNEL_OPTIONS
from telemetry.v1 import queue_admin_pb2, queue_pb2
from tests.faults.queue_process import Start, launch
from tests.faults.small_disk import SmallDisk
from tests.integration.queue_server.wire_client import Client, ending, read, read_delivery

FULL = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
Mount = Callable[[int], SmallDisk]


def content(number: int, size: int) -> bytes:
    """Bytes that nobody can mistake for those of another number."""
    return hashlib.sha256(b"%d" % number).digest() * (size // 32)


async def publish_until_refused(client: Client, first: int, size: int) -> int:
    """Publish numbered messages until one is refused, and check how; returns the number of that one."""
    call = client.queue.Publish()
    number = first
    while True:
        request = client.request(
            "t", content(number, size), partition=0, producer_id="p", producer_epoch=1, first_sequence=number
        )
        await call.write(request)
        response = await read(call)
        if response.HasField("error"):
            break
        assert (response.receipt.base_offset, response.receipt.duplicate) == (number, False)
        number += 1
    assert response.error.code == FULL, response.error
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in response.error.details)
    assert retry.retry_delay.ToTimedelta().total_seconds() > 0
    call.cancel()
    return number


async def stored(client: Client) -> list[bytes]:
    """All that lies in the topic, by offset."""
    found: list[bytes] = []
    while True:
        position = queue_pb2.StartPosition(offset=len(found))
        request = queue_admin_pb2.BrowseRequest(topic="t", position=position, max_messages=10_000)
        before = len(found)
        async for each in client.admin.Browse(request):
            assert each.base_offset == len(found), "no offset is left out"
            found += [message.data for message in each.batch.messages]
        if len(found) == before:
            return found


async def ack(client: Client, delivery_id: str) -> int:
    """Ack a delivery; returns the code of the refusal, or 0. The stream stays open either way."""
    call = client.queue.Ack()
    entry = queue_pb2.AckEntry(delivery_id=delivery_id, outcome=queue_pb2.ACK_OUTCOME_ACK)
    await call.write(queue_pb2.AckRequest(entries=[entry]))
    response = await read(call)
    call.cancel()
    if not response.HasField("error"):
        assert [each.status for each in response.results] == [queue_pb2.ACK_STATUS_OK]
    code: int = response.error.code
    return code


async def test_a_queue_whose_disk_is_full_refuses_reads_on_and_resumes(start: Start, mount: Mount) -> None:
    disk = mount(72)
    size = 1 << 20
    queue = await start("--data-dir", disk.place / "queue")
    subscription = await queue.client.subscribe("t", group="g", messages=1_000_000)
    waiting = await queue.client.subscribe("t", group="idle", messages=0)
    confirmed = await publish_until_refused(queue.client, 0, size)
    assert confirmed >= 50
    disk.fill()
    assert disk.free == 0
    assert await publish_until_refused(queue.client, confirmed, 32) == confirmed

    # What can be done without room is done.
    deliveries = [await read_delivery(subscription) for _ in range(confirmed)]
    assert [each.batch.messages[0].data for each in deliveries] == [content(n, size) for n in range(confirmed)]
    assert (await queue.page("/health"))["status"] == "ok"
    refused = [await ack(queue.client, each.delivery_id) for each in deliveries[:5]]
    assert set(refused) <= {0, FULL}
    topic = queue_admin_pb2.Topic(name="another")
    code, status = await ending(queue.client.admin.CreateTopic(queue_admin_pb2.CreateTopicRequest(topic=topic)))
    assert code in (grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED), status

    # With room again, the same requests succeed.
    disk.relieve()
    disk.grow(200)
    assert [await ack(queue.client, each.delivery_id) for each in deliveries[:8]] == [0] * 8
    async with Publisher(queue.address, producer_id="p", producer_epoch=1) as publisher:
        for number in range(confirmed, confirmed + 3):
            receipt = await publisher.publish("t", content(number, 64))
            assert receipt.base_offset == number
    subscription.cancel()
    waiting.cancel()
    await queue.end(signal.SIGKILL)

    again = await start("--data-dir", disk.place / "queue")
    assert await stored(again.client) == [content(n, size) for n in range(confirmed)] + [
        content(n, 64) for n in range(confirmed, confirmed + 3)
    ]
    log = (await again.page("/stats"))["log"]
    assert (log["quarantined_records"], log["torn_bytes"]) == (0, 0)
    subscription = await again.client.subscribe("t", group="g")
    assert (await read_delivery(subscription)).base_offset == 8
    subscription.cancel()
    assert not [line for line in again.said if "Traceback" in line]
    assert await again.end(signal.SIGTERM) == 0


async def test_a_publisher_waits_until_there_is_room(start: Start, mount: Mount) -> None:
    disk = mount(80)
    queue = await start("--data-dir", disk.place / "queue")
    async with Publisher(queue.address) as publisher:
        disk.fill()
        publishing = asyncio.create_task(publisher.publish("t", b"patient"))
        refused = asyncio.create_task(publish_until_refused(queue.client, 0, 32))
        assert await refused == 0
        assert not publishing.done()
        disk.relieve()
        async with asyncio.timeout(30):
            assert (await publishing).base_offset == 0


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[Client]:
    """A queue in this process whose segments are so small that a disk of a few MiB holds many."""
    engine = DiskEngine(directory, segment_bytes=128 << 10, cache_bytes=0)
    async with QueueServer(engine, grpc_port=0, http_port=0) as server:
        address = f"127.0.0.1:{server.grpc_port}"
        async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
            yield Client(channel)


async def test_wherever_the_disk_becomes_full_nothing_is_lost_or_stored_twice(mount: Mount, rounds: int) -> None:
    chance = random.Random(4)
    disk = mount(6)
    directory = disk.place / "queue"
    sizes: list[int] = []
    for _ in range(5 * rounds):
        settled = 0
        async with serving(directory) as client:
            subscription = await client.subscribe("t", group="g", messages=1_000_000)
            for _ in range(3):
                disk.fill(leave=chance.randrange(0, 300 << 10))
                size = 32 * chance.choice([20, 100, 1000])
                end = await publish_until_refused(client, len(sizes), size)
                sizes += [size] * (end - len(sizes))
                if sizes and settled < len(sizes):
                    delivery = await read_delivery(subscription)
                    if not await ack(client, delivery.delivery_id):
                        settled = delivery.base_offset + 1
                disk.relieve()
            assert await stored(client) == [content(number, size) for number, size in enumerate(sizes)]
            subscription.cancel()
        async with serving(directory) as client:
            assert await stored(client) == [content(number, size) for number, size in enumerate(sizes)]
            group = (await client.admin.GetGroup(queue_admin_pb2.GetGroupRequest(group="g"))).group
            assert group.positions[0].acked_through >= settled
            stats = (await client.admin.GetStats(queue_admin_pb2.GetStatsRequest())).stats
            assert (stats.log.quarantined_records, stats.log.torn_bytes) == (0, 0)
            if disk.free < 2 << 20:
                await client.admin.DeleteTopic(queue_admin_pb2.DeleteTopicRequest(topic="t"))
                sizes = []


async def is_refused(client: Client, group: str) -> bool:
    """Subscribe as a new group and leave again; returns whether there was no room for that."""
    call = client.queue.Subscribe()
    await call.write(queue_pb2.SubscribeRequest(start=queue_pb2.SubscribeStart(topics=["t"], group=group)))
    try:
        assert isinstance(await call.read(), queue_pb2.SubscribeResponse)
    except grpc.aio.AioRpcError:
        code, status = await ending(call)
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED, status
        return True
    call.cancel()
    return False


async def test_a_subscription_that_finds_no_room_is_refused_and_leaves_no_member_behind(mount: Mount) -> None:
    disk = mount(6)
    async with serving(disk.place / "queue") as client:
        await client.publish("t", b"one")
        disk.fill()
        number = 0
        while not await is_refused(client, f"{number}-{'g' * 100}"):
            number += 1
        async with asyncio.timeout(20):
            while (stats := (await client.admin.GetStats(queue_admin_pb2.GetStatsRequest())).stats).connections:
                await asyncio.sleep(0.01)
        assert not [member for group in stats.groups for member in group.members]


@pytest.mark.parametrize("ending_signal", [signal.SIGKILL, signal.SIGTERM])
async def test_a_queue_that_finds_the_disk_full_when_it_starts_damages_nothing(
    start: Start, mount: Mount, ending_signal: signal.Signals
) -> None:
    disk = mount(80)
    queue = await start("--data-dir", disk.place / "queue")
    for number in range(10):
        await queue.client.publish("t", content(number, 1024))
    await queue.end(ending_signal)
    disk.fill()
    starting = await launch("--data-dir", disk.place / "queue")
    said: list[str] = []
    assert starting.stderr is not None
    async with asyncio.timeout(60):
        async for line in starting.stderr:
            said.append(line.decode())
            if '"ready"' in said[-1]:
                starting.kill()
        code = await starting.wait()
    if code != -signal.SIGKILL:
        assert code == 1, said
        assert said[-1].startswith("telemetry-queue: "), said
        assert str(disk.place / "queue") in said[-1]
    assert "Traceback" not in "".join(said)
    disk.relieve()
    again = await start("--data-dir", disk.place / "queue")
    assert await stored(again.client) == [content(number, 1024) for number in range(10)]
    assert (await again.client.publish("t", b"more")).base_offset == 10


async def test_a_queue_whose_first_start_finds_no_room_says_so(mount: Mount) -> None:
    disk = mount(1)
    disk.fill()
    starting = await launch("--data-dir", disk.place / "queue")
    async with asyncio.timeout(60):
        _, said = await starting.communicate()
    assert starting.returncode == 1
    assert said.decode() == (
        f"telemetry-queue: data directory {disk.place / 'queue'} is not writable: No space left on device\n"
    )
