"""Publisher and Subscriber against a real queue in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from telemetry.queue.client import (
    AckStatus,
    BlockingPublisher,
    MissedMessages,
    OutgoingMessage,
    PartitionsAssigned,
    PartitionsRevoked,
    Place,
    PreconditionFailedError,
    Publisher,
    QueueNotFoundError,
    Receipt,
    ReceivedDelivery,
    Subscriber,
    partition_of_key,
)
from telemetry.queue.engines.memory import MemoryEngine
from telemetry.queue.server import QueueServer


@pytest.fixture
async def server() -> AsyncIterator[QueueServer]:
    async with QueueServer(MemoryEngine(), grpc_port=0, http_port=0) as running:
        yield running


@pytest.fixture
def address(server: QueueServer) -> str:
    return f"127.0.0.1:{server.grpc_port}"


def data_of(delivery: ReceivedDelivery) -> list[bytes]:
    return [message.data for message in delivery.messages]


async def next_delivery(subscriber: Subscriber) -> ReceivedDelivery:
    async for event in subscriber:
        if isinstance(event, ReceivedDelivery):
            return event
    raise AssertionError("the subscriber was closed")


async def receive(subscriber: Subscriber, count: int, *, ack: bool = True) -> list[bytes]:
    """The data of the next `count` messages."""
    received: list[bytes] = []
    while len(received) < count:
        delivery = await next_delivery(subscriber)
        received += data_of(delivery)
        if ack:
            await delivery.ack()
    return received


async def test_what_is_published_arrives_once_with_all_that_it_carries(address: str) -> None:
    async with Publisher(address) as publisher, Subscriber(address, ["t"], "g") as subscriber:
        receipt = await publisher.publish("t", b"data", {"content-type": "text/plain"}, ordering_key="gpu-1")
        assert receipt == Receipt(0, 0)
        delivery = await next_delivery(subscriber)
        (message,) = delivery.messages
        assert (message.data, dict(message.attributes), message.ordering_key) == (
            b"data",
            {"content-type": "text/plain"},
            "gpu-1",
        )
        assert (delivery.topic, delivery.partition, list(delivery.offsets), delivery.attempt) == ("t", 0, [0], 1)
        assert await delivery.ack() is AckStatus.OK


async def test_keys_keep_their_partition_and_their_order(address: str) -> None:
    async with Publisher(address, batch_messages=7) as publisher:
        await publisher.ensure_topic("t", partitions=8)
        sent = {f"gpu-{gpu}": [b"%d" % number for number in range(50)] for gpu in range(4)}
        await asyncio.gather(
            *[publisher.publish("t", sent[key][number], ordering_key=key) for number in range(50) for key in sent]
        )
        async with Subscriber(address, ["t"], "g") as subscriber:
            received: dict[str, list[bytes]] = {key: [] for key in sent}
            while sum(map(len, received.values())) < 200:
                delivery = await next_delivery(subscriber)
                for message in delivery.messages:
                    assert delivery.partition == partition_of_key(message.ordering_key, 8)
                    received[message.ordering_key].append(message.data)
                await delivery.ack()
    assert received == sent


async def test_messages_without_a_key_spread_over_the_partitions(address: str) -> None:
    async with Publisher(address, batch_messages=10) as publisher:
        await publisher.ensure_topic("t", partitions=4)
        receipts = await asyncio.gather(*[publisher.publish("t", b"x") for _ in range(80)])
    assert {receipt.partition for receipt in receipts} == {0, 1, 2, 3}


async def test_a_nacked_delivery_comes_again(address: str) -> None:
    async with Publisher(address) as publisher, Subscriber(address, ["t"], "g") as subscriber:
        await publisher.publish("t", b"a")
        assert await (await next_delivery(subscriber)).nack(delay_s=0.0, reason="not now") is AckStatus.OK
        again = await next_delivery(subscriber)
        assert (data_of(again), again.attempt) == ([b"a"], 2)
        await again.ack()


async def test_a_terminated_delivery_goes_to_the_dead_letter_topic(address: str) -> None:
    async with Publisher(address) as publisher, Subscriber(address, ["t"], "g") as subscriber:
        await publisher.publish("t", b"poison")
        await (await next_delivery(subscriber)).terminate("cannot be read")
        async with Subscriber(address, ["t.dead-letter"], "undertakers") as undertaker:
            dead = await next_delivery(undertaker)
    assert data_of(dead) == [b"poison"]
    assert dead.messages[0].attributes["dead-letter-reason"] == "cannot be read"


async def test_what_was_acked_does_not_come_to_the_next_member(address: str) -> None:
    async with Publisher(address) as publisher:
        await publisher.publish_batch("t", [OutgoingMessage(b"a")], partition=0)
        await publisher.publish_batch("t", [OutgoingMessage(b"b")], partition=0)
    async with Subscriber(address, ["t"], "g") as subscriber:
        first, second = await next_delivery(subscriber), await next_delivery(subscriber)
        assert await subscriber.ack_many([first]) == [AckStatus.OK]
    async with Subscriber(address, ["t"], "g") as subscriber:
        again = await next_delivery(subscriber)
        assert (data_of(again), again.attempt) == ([b"b"], 2)
        assert await second.ack() is AckStatus.STALE


async def test_a_slow_consumer_keeps_its_lease(address: str) -> None:
    async with Publisher(address) as publisher, Subscriber(address, ["t"], "g", ack_wait_s=1.0) as slow:
        await publisher.publish("t", b"a")
        delivery = await next_delivery(slow)
        async with Subscriber(address, ["t"], "g") as other:
            await other.wait_started()
            stolen = asyncio.create_task(next_delivery(other))
            await asyncio.sleep(2.0)  # two ack waits: this is what the test is about
            assert await delivery.ack() is AckStatus.OK
            assert not stolen.done()
            stolen.cancel()


async def test_an_unsettled_subscriber_gets_no_more_messages_than_its_permits(
    server: QueueServer, address: str
) -> None:
    async with Publisher(address) as publisher:
        await publisher.publish_batch("t", [OutgoingMessage(b"%d" % number) for number in range(100)], partition=0)
        async with Subscriber(address, ["t"], "g", permits_messages=30) as subscriber:
            held: list[ReceivedDelivery] = []
            while sum(len(delivery.messages) for delivery in held) < 30:
                held.append(await next_delivery(subscriber))
            (group,) = (await server.stats()).queue.groups
            assert (group.unacked, group.members[0].permits_messages) == (30, 0)
            received = [data for delivery in held for data in data_of(delivery)]
            await subscriber.ack_many(held)
            received += await receive(subscriber, 70)
    assert received == [b"%d" % number for number in range(100)]


async def test_permits_return_to_what_they_were(server: QueueServer, address: str) -> None:
    async with Publisher(address) as publisher:
        async with Subscriber(address, ["t"], "g", permits_messages=50, permits_bytes=5000) as subscriber:
            for size in (1, 10, 40, 7):
                await publisher.publish_batch("t", [OutgoingMessage(b"x" * 50)] * size, partition=0)
                await receive(subscriber, size)
            while True:
                (group,) = (await server.stats()).queue.groups
                if (group.members[0].permits_messages, group.members[0].permits_bytes) == (50, 5000):
                    break
                await asyncio.sleep(0.01)


async def test_a_message_larger_than_all_bytes_permitted_still_arrives(address: str) -> None:
    async with Publisher(address) as publisher, Subscriber(address, ["t"], "g", permits_bytes=1000) as subscriber:
        for number in range(5):
            await publisher.publish("t", b"%d" % number * 3000)
        assert await receive(subscriber, 5) == [b"%d" % number * 3000 for number in range(5)]


async def test_ordered_members_share_the_partitions_and_each_sees_its_own_in_order(address: str) -> None:
    async with Publisher(address) as publisher:
        await publisher.ensure_topic("t", partitions=4)
        async with Subscriber(address, ["t"], "g", "first", mode="ordered") as first:
            event = await anext(first)
            assert isinstance(event, PartitionsAssigned)
            assert {one.partition for one in event.partitions} == {0, 1, 2, 3}
            async with Subscriber(address, ["t"], "g", "second") as second:
                revoked = await anext(first)
                assert isinstance(revoked, PartitionsRevoked)
                assigned = await anext(second)
                assert isinstance(assigned, PartitionsAssigned)
                assert set(assigned.partitions) == set(revoked.partitions)
                assert len(assigned.partitions) == 2
                for partition in range(4):
                    for number in range(20):
                        await publisher.publish_batch("t", [OutgoingMessage(b"%d" % number)], partition=partition)
                mine = {one.partition for one in assigned.partitions}
                for subscriber, partitions in ((first, {0, 1, 2, 3} - mine), (second, mine)):
                    received: dict[int, list[bytes]] = {partition: [] for partition in partitions}
                    while sum(map(len, received.values())) < 40:
                        delivery = await next_delivery(subscriber)
                        received[delivery.partition] += data_of(delivery)
                        await delivery.ack()
                    assert received == {partition: [b"%d" % number for number in range(20)] for partition in partitions}
            back = await anext(first)
            assert isinstance(back, PartitionsAssigned)
            assert set(back.partitions) == set(revoked.partitions)


async def test_a_group_with_other_settings_refuses_and_says_which(address: str) -> None:
    async with Subscriber(address, ["t"], "g", mode="shared") as first:
        await first.wait_started()
        async with Subscriber(address, ["t"], "g", mode="ordered") as second:
            with pytest.raises(PreconditionFailedError) as caught:
                await second.wait_started()
    assert "mode" in caught.value.field


async def test_an_ephemeral_subscriber_sees_what_is_published_from_now_on(address: str) -> None:
    async with Publisher(address) as publisher:
        await publisher.publish("live", b"before")
        async with Subscriber(address, ["live"]) as subscriber:
            await subscriber.wait_started()
            await publisher.publish("live", b"after")
            assert await receive(subscriber, 1, ack=False) == [b"after"]
        async with Subscriber(address, ["live"], position=Place.EARLIEST) as subscriber:
            assert await receive(subscriber, 2, ack=False) == [b"before", b"after"]


async def test_a_slow_ephemeral_subscriber_learns_how_much_it_has_missed(address: str) -> None:
    total = 2000
    async with Publisher(address) as publisher:
        async with Subscriber(address, ["live"], permits_messages=10) as subscriber:
            await subscriber.wait_started()
            for start in range(0, total, 50):
                messages = [OutgoingMessage(b"%d" % number) for number in range(start, start + 50)]
                await publisher.publish_batch("live", messages, partition=0)
            seen = 0
            while seen < total:
                event = await anext(subscriber)
                if isinstance(event, MissedMessages):
                    seen += event.missed
                elif isinstance(event, ReceivedDelivery):
                    seen += len(event.messages)
            assert seen == total


async def test_wildcards_join_topics_that_appear_later(address: str) -> None:
    async with Publisher(address) as publisher, Subscriber(address, ["metrics.*"], "g") as subscriber:
        await subscriber.wait_started()
        await publisher.publish("metrics.gpu", b"a")
        assert (await next_delivery(subscriber)).topic == "metrics.gpu"


async def test_a_server_without_the_topic_says_so() -> None:
    async with QueueServer(MemoryEngine(create_missing_topics=False), grpc_port=0, http_port=0) as server:
        async with Subscriber(f"127.0.0.1:{server.grpc_port}", ["t"], "g") as subscriber:
            with pytest.raises(QueueNotFoundError):
                await subscriber.wait_started()


async def test_a_script_publishes_without_an_event_loop(address: str) -> None:
    def script() -> list[Receipt]:
        with BlockingPublisher(address) as publisher:
            assert publisher.ensure_topic("t", partitions=2) == 2
            first = publisher.publish("t", b"a", {"k": "v"}, ordering_key="key")
            second = publisher.publish_batch("t", [OutgoingMessage(b"b"), OutgoingMessage(b"c")], partition=1)
        publisher.close()
        return [first, second]

    first, second = await asyncio.to_thread(script)
    assert first.partition == partition_of_key("key", 2)
    assert second.partition == 1
