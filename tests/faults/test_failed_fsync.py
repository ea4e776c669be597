"""An fsync that fails in a real queue process: it ends loudly, and has confirmed nothing that is not there."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest

from telemetry.v1 import queue_admin_pb2, queue_pb2
from tests.faults.queue_process import QueueProcess, Start
from tests.integration.queue_server.wire_client import Client, ending, read_delivery

PUBLISHERS = 8


@pytest.fixture
def signs(tmp_path: Path) -> Path:
    """Where a test says what the disk shall do; see `broken_disk`."""
    place = tmp_path / "signs"
    place.mkdir()
    return place


def on_broken_disk(signs: Path) -> Sequence[object]:
    return ("-m", "tests.faults.broken_disk", signs)


async def publish_on(client: Client, name: str, confirmed: dict[int, bytes], begun: asyncio.Event) -> int:
    """Publish until the stream breaks; returns how many requests were not answered."""
    call = client.queue.Publish()
    sent = 0
    try:
        while True:
            data = f"{name}/{sent}".encode()
            await call.write(client.request("t", data, partition=0))
            sent += 1
            response = await call.read()
            if not isinstance(response, queue_pb2.PublishResponse):
                break
            assert response.HasField("receipt"), response.error
            confirmed[response.receipt.base_offset] = data
            if sent == 10:
                begun.set()
    except grpc.aio.AioRpcError:
        pass
    code, status = await ending(call)
    # The second is what this side's own gRPC says when a write meets the end of the stream.
    assert code is grpc.StatusCode.UNAVAILABLE or status.message == "Internal error from Core", status
    return sent


async def stored(queue: QueueProcess) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    async for each in queue.client.admin.Browse(queue_admin_pb2.BrowseRequest(topic="t", max_messages=10_000)):
        for at, message in enumerate(each.batch.messages):
            found[each.base_offset + at] = message.data
    return found


def check_last_words(said: Sequence[str]) -> None:
    assert "the queue has failed" in "".join(said)
    assert said[-1].startswith("telemetry-queue: the queue can no longer keep what it promises and stops: "), said[-1]
    assert "Input/output error" in said[-1]


async def test_a_failed_fsync_ends_the_process_and_nothing_confirmed_is_lost(
    start: Start, signs: Path, tmp_path: Path, rounds: int
) -> None:
    confirmed: dict[int, bytes] = {}
    sent = 0
    for number in range(2 * rounds):
        queue = await start("--data-dir", tmp_path / "queue", program=on_broken_disk(signs))
        begun = [asyncio.Event() for _ in range(PUBLISHERS)]
        publishing = [
            asyncio.create_task(publish_on(queue.client, f"{number}-{each}", confirmed, begun[each]))
            for each in range(PUBLISHERS)
        ]
        for event in begun:
            async with asyncio.timeout(30):
                await event.wait()
        (signs / "eio").touch()
        assert await queue.ended() == 1
        sent += sum(await asyncio.gather(*publishing))
        check_last_words(queue.said)
        (signs / "eio").unlink()
    again = await start("--data-dir", tmp_path / "queue")
    there = await stored(again)
    assert {offset: there.get(offset) for offset in confirmed} == confirmed
    assert len(set(there.values())) == len(there) <= sent
    assert (await again.page("/stats"))["log"]["quarantined_records"] == 0
    assert await again.end(signal.SIGTERM) == 0


async def test_a_file_that_cannot_be_synced_when_it_is_made_ends_the_process(
    start: Start, signs: Path, tmp_path: Path
) -> None:
    queue = await start("--data-dir", tmp_path / "queue", program=on_broken_disk(signs))
    await queue.client.admin.CreateTopic(queue_admin_pb2.CreateTopicRequest(topic=queue_admin_pb2.Topic(name="t")))
    (signs / "eio").touch()
    call = queue.client.queue.Publish()
    await call.write(queue.client.request("t", b"first"))
    assert (await ending(call))[0] is grpc.StatusCode.UNAVAILABLE
    assert await queue.ended() == 1
    check_last_words(queue.said)
    (signs / "eio").unlink()
    again = await start("--data-dir", tmp_path / "queue")
    assert await stored(again) == {}
    assert (await again.client.publish("t", b"second")).base_offset == 0


async def test_a_sync_at_intervals_that_fails_ends_the_process_too(start: Start, signs: Path, tmp_path: Path) -> None:
    broken = on_broken_disk(signs)
    queue = await start("--data-dir", tmp_path / "queue", "--fsync", "interval:20", program=broken)
    await queue.client.publish("t", b"first")
    (signs / "eio").touch()
    call = queue.client.queue.Publish()
    await call.write(queue.client.request("t", b"second"))  # is confirmed, or not if a sync is due just then
    assert await queue.ended() == 1
    check_last_words(queue.said)


async def test_a_dead_letter_whose_copy_cannot_be_synced_stays_with_its_group(
    start: Start, signs: Path, tmp_path: Path
) -> None:
    queue = await start("--data-dir", tmp_path / "queue", program=on_broken_disk(signs))
    await queue.client.publish("t", b"poison")
    subscription = await queue.client.subscribe("t", group="g")
    delivery = await read_delivery(subscription)
    (signs / "eio").touch()
    call = queue.client.queue.Ack()
    entry = queue_pb2.AckEntry(delivery_id=delivery.delivery_id, outcome=queue_pb2.ACK_OUTCOME_TERMINATE)
    await call.write(queue_pb2.AckRequest(entries=[entry]))
    assert (await ending(call))[0] is grpc.StatusCode.UNAVAILABLE
    assert await queue.ended() == 1
    (signs / "eio").unlink()
    again = await start("--data-dir", tmp_path / "queue")
    subscription = await again.client.subscribe("t", group="g")
    assert (await read_delivery(subscription)).batch.messages[0].data == b"poison"
    subscription.cancel()
