"""Settling deliveries, as every engine promises it: acks, leases, backoff, dead letters."""

from __future__ import annotations

import asyncio

import pytest

from telemetry.queue.core.types import (
    AckEntry,
    AckStatus,
    Outcome,
    Place,
    PublishBatch,
)
from telemetry.queue.engines.engine import QueueEngine
from telemetry.v1 import queue_pb2
from tests.contract.calls import (
    WAIT_S,
    ack,
    browse,
    due,
    join,
    nothing_comes,
    publish,
    receive,
    settle,
)


async def test_a_partial_ack_leaves_the_rest_due(engine: QueueEngine) -> None:
    await publish(engine, "t", "a", "b", "c", "d")
    member = await join(engine)
    (delivery,) = await receive(member, 4)
    assert await settle(engine, AckEntry(delivery.delivery_id, Outcome.ACK, (1, 2))) is AckStatus.OK
    assert await settle(engine, AckEntry(delivery.delivery_id, Outcome.ACK, (1, 2))) is AckStatus.OK
    assert await settle(engine, AckEntry(delivery.delivery_id, Outcome.NACK)) is AckStatus.OK
    (again,) = await receive(member, 2)
    assert (due(again), again.due, again.attempt) == (["a", "d"], ((0, 1), (3, 1)), 2)
    assert await ack(engine, again) == [AckStatus.OK]
    assert (await engine.get_group("g")).positions[0].acked_through == 4


async def test_a_range_outside_the_delivery_is_unknown(engine: QueueEngine) -> None:
    await publish(engine, "t", "a", "b")
    member = await join(engine, permits=1)
    (delivery,) = await receive(member)
    for run in ((1, 1), (0, 2), (0, 0), (-1, 1)):
        assert await settle(engine, AckEntry(delivery.delivery_id, Outcome.ACK, run)) is AckStatus.UNKNOWN
    assert await ack(engine, delivery) == [AckStatus.OK]


async def test_an_ack_sent_again_is_answered_as_before(engine: QueueEngine) -> None:
    await publish(engine, "t", "a")
    member = await join(engine)
    (delivery,) = await receive(member)
    assert await ack(engine, delivery) == [AckStatus.OK]
    assert await ack(engine, delivery) == [AckStatus.OK]
    assert await settle(engine, AckEntry(delivery.delivery_id, Outcome.NACK)) is AckStatus.STALE


@pytest.mark.parametrize("delivery_id", ["", "nonsense", "cafe-1", "cafe-", "-1", "é"])
async def test_an_invented_delivery_is_unknown(engine: QueueEngine, delivery_id: str) -> None:
    assert await settle(engine, AckEntry(delivery_id, Outcome.ACK)) is AckStatus.UNKNOWN


async def test_a_late_ack_is_stale_and_changes_nothing(engine: QueueEngine) -> None:
    await publish(engine, "t", "a")
    slow = await join(engine, ack_wait_s=0.05, member="slow", permits=1)
    (late,) = await receive(slow)
    fast = await join(engine, member="fast")
    (again,) = await receive(fast)
    assert again.attempt == 2
    await settle(engine, AckEntry(again.delivery_id, Outcome.EXTEND, delay_s=60))
    for outcome in Outcome:
        assert await settle(engine, AckEntry(late.delivery_id, outcome)) is AckStatus.STALE
    assert await ack(engine, again) == [AckStatus.OK]


async def test_extending_keeps_the_lease(engine: QueueEngine) -> None:
    await publish(engine, "t", "a")
    member = await join(engine, ack_wait_s=0.05)
    (delivery,) = await receive(member)
    assert await settle(engine, AckEntry(delivery.delivery_id, Outcome.EXTEND, delay_s=60)) is AckStatus.OK
    await publish(engine, "t", "b")
    (other,) = await receive(member)
    (other_again,) = await receive(member)  # its lease has run out, the extended one has not
    assert (due(other), due(other_again), other_again.attempt) == (["b"], ["b"], 2)
    assert await ack(engine, delivery, other_again) == [AckStatus.OK, AckStatus.OK]


async def test_a_nack_delays_the_next_attempt(engine: QueueEngine) -> None:
    await publish(engine, "t", "a")
    member = await join(engine)
    (delivery,) = await receive(member)
    await settle(engine, AckEntry(delivery.delivery_id, Outcome.NACK, delay_s=0.05))
    await nothing_comes(member)
    (again,) = await receive(member)
    assert (due(again), again.attempt) == (["a"], 2)


async def test_backoff_delays_attempts_and_its_last_step_repeats(engine: QueueEngine) -> None:
    await publish(engine, "t", "a")
    member = await join(engine, backoff_s=(0.02, 0.03))
    for attempt in range(1, 5):
        (delivery,) = await receive(member)
        assert delivery.attempt == attempt
        await settle(engine, AckEntry(delivery.delivery_id, Outcome.NACK))
        await nothing_comes(member)


async def test_a_message_that_has_used_up_its_attempts_moves_to_the_dead_letters(engine: QueueEngine) -> None:
    await publish(engine, "t", "ok", "bad")
    member = await join(engine, max_deliver=2)
    (first,) = await receive(member, 2)
    await settle(engine, AckEntry(first.delivery_id, Outcome.ACK, (0, 1)))
    await settle(engine, AckEntry(first.delivery_id, Outcome.NACK))
    (second,) = await receive(member)
    watcher = await join(engine, "t.dead-letter", group="watcher")
    await settle(engine, AckEntry(second.delivery_id, Outcome.NACK, reason="too hot"))
    (letter,) = await receive(watcher)
    (message,) = queue_pb2.MessageBatch.FromString(letter.batch).messages
    attributes = dict(message.attributes)
    assert message.data == b"bad"
    assert attributes.pop("dead-letter-first-time") <= attributes.pop("dead-letter-last-time")
    assert attributes == {
        "dead-letter-topic-origin": "t",
        "dead-letter-partition": "0",
        "dead-letter-offset": "1",
        "dead-letter-group": "g",
        "dead-letter-attempts": "2",
        "dead-letter-reason": "delivered 2 times, too hot",
    }
    async with asyncio.timeout(WAIT_S):
        while (await engine.get_group("g")).positions[0].acked_through < 2:
            await asyncio.sleep(0)
    groups = {group.group: group for group in (await engine.stats()).groups}
    assert groups["g"].dead_lettered == 1


async def test_terminating_moves_a_message_at_once_and_keeps_what_it_had(engine: QueueEngine) -> None:
    message = queue_pb2.Message(data=b"x", attributes={"content-type": "text/plain"}, ordering_key="k")
    await engine.publish(PublishBatch("t", queue_pb2.MessageBatch(messages=[message]).SerializeToString(), 1))
    member = await join(engine, dead_letter_topic="graveyard")
    (delivery,) = await receive(member)
    entry = AckEntry(delivery.delivery_id, Outcome.TERMINATE, reason="not a number")
    assert await settle(engine, entry) is AckStatus.OK
    (stored,) = [batch async for batch in engine.browse("graveyard", None, Place.EARLIEST, 10)]
    (letter,) = queue_pb2.MessageBatch.FromString(stored.batch).messages
    assert (letter.data, letter.ordering_key, letter.attributes["content-type"]) == (b"x", "k", "text/plain")
    assert letter.attributes["dead-letter-reason"] == "not a number"
    assert (await engine.get_group("g")).positions[0].acked_through == 1
    assert await settle(engine, entry) is AckStatus.OK
    assert len(await browse(engine, "graveyard")) == 1
