"""What the contract tests do with an engine: publish, join, receive, settle, look."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from telemetry.queue.core.types import (
    AckEntry,
    AckStatus,
    Delivery,
    Mode,
    Outcome,
    Place,
    PublishBatch,
    Receipt,
    SubscribeOptions,
    SubscriptionEvent,
)
from telemetry.queue.engines.engine import QueueEngine, Subscription
from telemetry.v1 import queue_pb2

WAIT_S = 10.0


def encode(*data: str) -> bytes:
    return queue_pb2.MessageBatch(messages=[queue_pb2.Message(data=one.encode()) for one in data]).SerializeToString()


def decode(batch: bytes) -> list[str]:
    return [message.data.decode() for message in queue_pb2.MessageBatch.FromString(batch).messages]


async def publish(engine: QueueEngine, topic: str, *data: str, partition: int | None = None) -> Receipt:
    return await engine.publish(PublishBatch(topic, encode(*data), len(data), partition=partition))


async def produce(engine: QueueEngine, sequence: int, *data: str, epoch: int = 1) -> Receipt:
    return await engine.publish(
        PublishBatch(
            "t",
            encode(*data),
            len(data),
            partition=0,
            producer_id="p",
            producer_epoch=epoch,
            first_sequence=sequence,
        )
    )


async def join(
    engine: QueueEngine,
    *topics: str,
    group: str = "g",
    permits: int = 1000,
    mode: Mode | None = None,
    member: str = "",
    **wishes: object,
) -> Subscription:
    options = SubscribeOptions(topics or ("t",), group=group, mode=mode, member=member, **wishes)  # type: ignore[arg-type]
    subscription = await engine.subscribe(options)
    if permits:
        subscription.add_permits(permits, 0)
    return subscription


async def events(subscription: Subscription) -> Sequence[SubscriptionEvent]:
    async with asyncio.timeout(WAIT_S):
        return await subscription.next_events()


async def receive(subscription: Subscription, count: int = 1) -> list[Delivery]:
    """The next deliveries, until they hold ``count`` due messages."""
    received: list[Delivery] = []
    while sum(len(due(one)) for one in received) < count:
        got = await events(subscription)
        assert got, f"closed: {subscription.closed_reason}"
        received += [one for one in got if isinstance(one, Delivery)]
    return received


async def nothing_comes(subscription: Subscription) -> None:
    """What has been done so far does not make the engine send anything."""
    upcoming = asyncio.ensure_future(subscription.next_events())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not upcoming.done(), upcoming.result()
    upcoming.cancel()
    with suppress(asyncio.CancelledError):
        await upcoming


def due(delivery: Delivery) -> list[str]:
    """The data of the messages that a delivery is about."""
    data = decode(delivery.batch)
    if not delivery.due:
        return data
    return [one for first, count in delivery.due for one in data[first : first + count]]


def all_due(deliveries: Sequence[Delivery]) -> list[str]:
    return [one for delivery in deliveries for one in due(delivery)]


async def ack(engine: QueueEngine, *deliveries: Delivery) -> list[AckStatus]:
    return list(await engine.ack([AckEntry(one.delivery_id, Outcome.ACK) for one in deliveries]))


async def settle(engine: QueueEngine, entry: AckEntry) -> AckStatus:
    (status,) = await engine.ack([entry])
    return status


async def browse(engine: QueueEngine, topic: str, partition: int | None = None) -> list[str]:
    return [
        one async for batch in engine.browse(topic, partition, Place.EARLIEST, 10_000) for one in decode(batch.batch)
    ]
