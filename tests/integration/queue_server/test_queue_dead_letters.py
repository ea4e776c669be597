"""Dead letters put back or thrown away: what goes where, what stays, how fast, and how it is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
import pytest

from telemetry.v1 import queue_admin_pb2 as admin
from telemetry.v1 import queue_pb2
from tests.integration.queue_server.wire_client import Client, fields_of, read_delivery, status_of

DEAD = "t.dead-letter"


async def bury(client: Client, *data: bytes, **publish: Any) -> None:
    """Publish messages to topic `t` and have a group give them up, each in a batch of its own."""
    for each in data:
        await client.publish("t", each, **publish)
    call = await client.subscribe("t", group="g")
    for _ in data:
        delivery = await read_delivery(call)
        await client.settle(delivery.delivery_id, outcome=queue_pb2.ACK_OUTCOME_TERMINATE, reason="no good")
    call.cancel()


async def stored(client: Client, topic: str) -> list[tuple[int, queue_pb2.Message]]:
    """What lies in a topic, with its offsets."""
    found: list[tuple[int, queue_pb2.Message]] = []
    async for each in client.admin.Browse(admin.BrowseRequest(topic=topic)):
        found += enumerate(each.batch.messages, each.base_offset)
    return found


async def data_of(client: Client, topic: str) -> list[bytes]:
    return [message.data for _, message in await stored(client, topic)]


async def replay(client: Client, **fields: Any) -> list[tuple[int, int]]:
    request = admin.ReplayDeadLettersRequest(topic=DEAD, messages_per_second=10_000, **fields)
    return [(each.done, each.total) async for each in client.admin.ReplayDeadLetters(request)]


async def discard(client: Client, offsets: Sequence[int] = (), partition: int | None = None) -> list[tuple[int, int]]:
    request = admin.DiscardDeadLettersRequest(topic=DEAD, offsets=offsets, partition=partition)
    return [(each.done, each.total) async for each in client.admin.DiscardDeadLetters(request)]


async def test_letters_go_back_to_where_they_came_from(client: Client) -> None:
    await client.admin.CreateTopic(admin.CreateTopicRequest(topic=admin.Topic(name="t", partitions=4)))
    await bury(client, b"one", b"two", ordering_key="key")
    partition = (await client.publish("t", b"marker", ordering_key="key")).partition
    assert await replay(client) == [(0, 2), (2, 2)]
    back = [each async for each in client.admin.Browse(admin.BrowseRequest(topic="t", partition=partition))][-2:]
    assert [each.batch.messages[0].data for each in back] == [b"one", b"two"]
    assert dict(back[1].batch.messages[0].attributes) == {"dead-letter-replayed-from": f"{DEAD}/0/1"}
    assert await data_of(client, DEAD) == []


async def test_a_replayed_letter_is_a_first_attempt(client: Client) -> None:
    await bury(client, b"one")
    await replay(client)
    call = await client.subscribe("t", group="g")
    delivery = await read_delivery(call)
    assert (delivery.batch.messages[0].data, delivery.attempt) == (b"one", 1)
    call.cancel()


async def test_chosen_letters_are_replayed_and_the_others_stay(client: Client) -> None:
    await bury(client, b"0", b"1", b"2", b"3")
    assert await replay(client, partition=0, offsets=[2, 1]) == [(0, 2), (2, 2)]
    assert sorted(await data_of(client, DEAD)) == [b"0", b"3"]
    assert (await data_of(client, "t"))[-2:] == [b"1", b"2"]


async def test_discarded_letters_are_gone_and_the_others_stay(client: Client) -> None:
    await bury(client, b"0", b"1", b"2")
    kept = dict((await stored(client, DEAD))[0][1].attributes)
    assert await discard(client, [1], partition=0) == [(0, 1), (1, 1)]
    assert sorted(await data_of(client, DEAD)) == [b"0", b"2"]
    assert kept in [dict(message.attributes) for _, message in await stored(client, DEAD)]
    assert await discard(client) == [(0, 2), (2, 2)]
    assert await data_of(client, DEAD) == []


async def test_an_offset_that_is_not_stored_is_refused_before_anything_is_done(client: Client) -> None:
    await bury(client, b"0")
    for call in (replay(client, partition=0, offsets=[0, 7]), discard(client, [0, 7], partition=0)):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert fields_of(status_of(refused.value)) == ["offsets"]
    assert await data_of(client, DEAD) == [b"0"]


async def test_a_message_that_was_never_given_up_cannot_be_replayed(client: Client) -> None:
    await client.publish(DEAD, b"put here by hand")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await replay(client)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "dead-letter-topic-origin" in (refused.value.details() or "")
    assert await data_of(client, DEAD) == [b"put here by hand"]


async def test_a_replay_to_a_topic_that_is_gone_is_refused(client: Client) -> None:
    await bury(client, b"one")
    await client.admin.DeleteTopic(admin.DeleteTopicRequest(topic="t"))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await replay(client)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_replay_can_be_cancelled_and_what_was_replayed_stays_replayed(client: Client) -> None:
    await bury(client, b"0", b"1", b"2")
    slow = client.admin.ReplayDeadLetters(admin.ReplayDeadLettersRequest(topic=DEAD, messages_per_second=1))
    await slow.read()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await replay(client)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION, "one at a time"
    async with asyncio.timeout(20):
        while (await data_of(client, "t"))[3:] == []:
            await asyncio.sleep(0.01)
    slow.cancel()
    async with asyncio.timeout(20):
        while len(await data_of(client, DEAD)) == 3:
            await asyncio.sleep(0.01)
    assert await data_of(client, DEAD) == [b"1", b"2"]
    assert (await data_of(client, "t"))[3:] == [b"0"]
