"""What many connections may cost a real queue process together, and groups that wait for their own members."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import grpc
import pytest

from telemetry.runtime.grpc_server import CHANNEL_OPTIONS
from telemetry.v1 import queue_admin_pb2 as admin
from telemetry.v1 import queue_pb2
from tests.faults.queue_process import QueueProcess, Start, watching
from tests.integration.queue_server.wire_client import Client, PublishCall, read, read_delivery

CONNECTIONS: Final = 24
REQUESTS: Final = 20
REQUEST_BYTES: Final = 2 << 20
"""What each connection sends without reading an answer: 960 MiB of them all."""
RSS_MB_MAX: Final = 750
"""The server's 256 MiB of requests in progress and 64 MiB of newest batches, for each connection a request that waits
to be let in and the MiB that gRPC reads in advance, copies while requests are parsed, and the program."""


@pytest.fixture
def signs(tmp_path: Path) -> Path:
    """Where a test says what the disk shall do; see `broken_disk`."""
    place = tmp_path / "signs"
    place.mkdir()
    return place


async def connect(stack: AsyncExitStack, queue: QueueProcess) -> Client:
    """A client over a connection of its own."""
    options = (*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(queue.address, options=options))
    await channel.channel_ready()
    return Client(channel)


async def test_publishers_that_outrun_a_stuck_disk_cost_a_bounded_amount_of_memory(
    start: Start, signs: Path, tmp_path: Path
) -> None:
    queue = await start("--data-dir", tmp_path / "queue", program=("-m", "tests.faults.broken_disk", signs))
    await queue.client.publish("t", b"first")
    (signs / "stuck").touch()
    data = bytes(REQUEST_BYTES)
    async with AsyncExitStack() as stack, watching(queue) as watch:
        sent = 0

        async def send(call: PublishCall, request: queue_pb2.PublishRequest) -> None:
            nonlocal sent
            for _ in range(REQUESTS):
                await call.write(request)
                sent += 1
            await call.done_writing()

        calls: list[PublishCall] = []
        senders: list[asyncio.Task[None]] = []
        for _ in range(CONNECTIONS):
            client = await connect(stack, queue)
            calls.append(client.queue.Publish())
            senders.append(asyncio.create_task(send(calls[-1], client.request("t", data, partition=0))))
        before = -1
        while sent != before:  # nobody announces that nothing more is taken in
            before = sent
            await asyncio.sleep(1)
        assert sent < CONNECTIONS * REQUESTS, "the queue stops reading"
        assert watch.most_mb < RSS_MB_MAX
        # Whoever looks and whoever waits for no disk is served all the same.
        assert (await queue.page("/stats"))["connections"] == CONNECTIONS
        assert len([each async for each in queue.client.admin.Browse(admin.BrowseRequest(topic="t"))]) == 1
        (signs / "stuck").unlink()
        stored = 0
        for call in calls:
            for _ in range(REQUESTS):
                response = await read(call)
                stored += response.HasField("receipt")
                assert response.HasField("receipt") or response.error.code == 8, response.error
            assert await call.read() is grpc.aio.EOF
        await asyncio.gather(*senders)
        assert watch.most_mb < RSS_MB_MAX
    (topic,) = (await queue.page("/stats"))["topics"]
    assert topic["messages"] == stored + 1


async def test_requests_that_are_all_envelope_are_bounded_too(start: Start) -> None:
    queue = await start("--engine", "memory")
    request = queue_pb2.PublishRequest(request_id="x" * (4 << 20), topic="t")
    async with AsyncExitStack() as stack, watching(queue) as watch:
        calls = [(await connect(stack, queue)).queue.Publish() for _ in range(4)]

        async def send(call: PublishCall) -> None:
            for _ in range(100):
                await call.write(request)

        senders = [asyncio.create_task(send(call)) for call in calls]
        await asyncio.wait(senders, timeout=4)  # nobody announces that nothing more is taken in
        assert not any(sender.done() for sender in senders), "answers are not read, so requests are not either"
        assert watch.most_mb < RSS_MB_MAX
        for call in calls:
            response = await read(call)
            assert response.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
            call.cancel()
        await asyncio.gather(*senders, return_exceptions=True)


async def test_a_group_that_waits_for_its_own_acks_is_seen_and_goes_on(start: Start, tmp_path: Path) -> None:
    queue = await start("--data-dir", tmp_path / "queue")
    call = await queue.client.subscribe("t", group="g", max_unacked=3, messages=100)
    free = await queue.client.subscribe("t", group="free", messages=100)

    async def blocked(name: str) -> bool:
        groups = (await queue.page("/stats"))["groups"]
        by_http = next(each for each in groups if each["group"] == name)["blocked_on_max_unacked"]
        stats = (await queue.client.admin.GetStats(admin.GetStatsRequest())).stats
        (by_grpc,) = {each.blocked_on_max_unacked for each in stats.groups if each.group == name}
        assert by_http == by_grpc
        return bool(by_grpc)

    assert not await blocked("g")
    for number in range(8):
        await queue.client.publish("t", b"%d" % number)
    taken = [await read_delivery(call) for _ in range(3)]
    assert [each.base_offset for each in [await read_delivery(free) for _ in range(8)]] == list(range(8))
    assert (await blocked("g"), await blocked("free")) == (True, False)
    stats = next(each for each in (await queue.page("/stats"))["groups"] if each["group"] == "g")
    assert (stats["unacked"], stats["members"][0]["permits_messages"]) == (3, 97)

    # What waits for another attempt still counts, and what is done makes room for as much.
    nack, terminate = queue_pb2.ACK_OUTCOME_NACK, queue_pb2.ACK_OUTCOME_TERMINATE
    await queue.client.settle(taken[0].delivery_id, outcome=nack)
    again = await read_delivery(call)
    assert (again.base_offset, again.attempt) == (0, 2)
    await queue.client.settle(again.delivery_id, taken[1].delivery_id)
    await queue.client.settle(taken[2].delivery_id, outcome=terminate)
    offsets = []
    for _ in range(5):
        delivery = await read_delivery(call)
        offsets.append(delivery.base_offset)
        await queue.client.settle(delivery.delivery_id)
    assert offsets == [3, 4, 5, 6, 7]
    assert not await blocked("g")
    call.cancel()
    free.cancel()
