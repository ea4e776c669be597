"""What every engine promises, held against each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from telemetry.queue.core.errors import (
    AlreadyExistsError,
    ClosedError,
    FullError,
    InvalidArgumentError,
    NotFoundError,
    PreconditionError,
)
from telemetry.queue.core.types import (
    AckEntry,
    AckStatus,
    Assigned,
    AtOffset,
    AtTime,
    Delivery,
    Gap,
    Mode,
    Outcome,
    Place,
    PublishBatch,
    Receipt,
    Retention,
    Revoked,
    Storage,
    SubscribeOptions,
    SubscriptionEvent,
    TopicConfig,
    TopicLimits,
    TopicPartition,
)
from telemetry.queue.engines.disk import DiskEngine
from telemetry.queue.engines.engine import QueueEngine, Subscription
from telemetry.queue.engines.memory import MemoryEngine
from telemetry.v1 import queue_pb2

WAIT_S = 10.0


@pytest.fixture(params=["memory", "disk"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[QueueEngine]:
    engine: QueueEngine = MemoryEngine() if request.param == "memory" else DiskEngine(tmp_path / "queue")
    await engine.start()
    yield engine
    await engine.stop()


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


# Publishing


async def test_offsets_are_dense_within_a_partition(engine: QueueEngine) -> None:
    await engine.create_topic(TopicConfig("t", partitions=2))
    assert await publish(engine, "t", "a", "b", partition=0) == Receipt(0, 0)
    assert await publish(engine, "t", "c", partition=0) == Receipt(0, 2)
    assert await publish(engine, "t", "d", partition=1) == Receipt(1, 0)
    assert await publish(engine, "t", "e", partition=0) == Receipt(0, 3)


async def test_many_publishers_at_once_keep_the_order_of_their_calls(engine: QueueEngine) -> None:
    receipts = await asyncio.gather(*(publish(engine, "t", str(number)) for number in range(200)))
    assert [receipt.base_offset for receipt in receipts] == list(range(200))
    assert await browse(engine, "t") == [str(number) for number in range(200)]


async def test_publishing_makes_the_topic(engine: QueueEngine) -> None:
    await publish(engine, "new.topic", "a")
    assert (await engine.get_topic("new.topic")).config.partitions == 1


async def test_without_partition_or_key_batches_are_spread(engine: QueueEngine) -> None:
    await engine.create_topic(TopicConfig("t", partitions=4))
    receipts = [await publish(engine, "t", "a") for _ in range(8)]
    assert [receipt.partition for receipt in receipts] == [0, 1, 2, 3, 0, 1, 2, 3]


async def test_a_key_goes_to_the_partition_of_its_crc32(engine: QueueEngine) -> None:
    await engine.create_topic(TopicConfig("t", partitions=8))
    receipt = await engine.publish(PublishBatch("t", encode("a"), 1, ordering_key="123456789"))
    assert receipt.partition == 0xCBF43926 % 8  # the check value of CRC-32/ISO-HDLC


@pytest.mark.parametrize(
    ("batch", "field"),
    [
        (PublishBatch("T!", b"\n\x00", 1), "topic"),
        (PublishBatch("t", b"\n\x00", 1, partition=1), "partition"),
        (PublishBatch("t", b"\n\x00", 3), "batch.messages"),
        (PublishBatch("t", b"\n\x00" * 40, 1), "batch"),
        (PublishBatch("t", b"\n\x00", 1, largest_message=50), "batch.messages.data"),
        (PublishBatch("t", b"\n\x00", 1, producer_id="p"), "producer_id"),
        (PublishBatch("t", b"\n\x00", 1, partition=0, producer_id="p" * 129), "producer_id"),
    ],
)
async def test_a_bad_batch_is_refused_by_its_field(engine: QueueEngine, batch: PublishBatch, field: str) -> None:
    await engine.create_topic(TopicConfig("t", limits=TopicLimits(message_bytes=40, batch_bytes=50, batch_messages=2)))
    with pytest.raises(InvalidArgumentError) as caught:
        await engine.publish(batch)
    assert caught.value.field.endswith(field)
    assert await browse(engine, "t") == []


async def test_a_sequence_sent_again_is_stored_once_and_answered_with_its_offset(engine: QueueEngine) -> None:
    assert await produce(engine, 0, "a", "b") == Receipt(0, 0)
    assert await produce(engine, 2, "c") == Receipt(0, 2)
    assert await produce(engine, 0, "a", "b") == Receipt(0, 0, duplicate=True)
    assert await produce(engine, 2, "c") == Receipt(0, 2, duplicate=True)
    assert await browse(engine, "t") == ["a", "b", "c"]
    (stats,) = (await engine.stats()).topics
    assert (stats.published, stats.duplicates) == (3, 2)


async def test_a_duplicate_of_a_batch_in_flight_is_confirmed_with_it(engine: QueueEngine) -> None:
    receipts = await asyncio.gather(produce(engine, 0, "a"), produce(engine, 0, "a"), produce(engine, 1, "b"))
    assert list(receipts) == [Receipt(0, 0), Receipt(0, 0, duplicate=True), Receipt(0, 1)]


async def test_a_duplicate_from_long_ago_has_no_offset(engine: QueueEngine) -> None:
    for sequence in range(100):
        await produce(engine, sequence, "a")
    assert await produce(engine, 0, "a") == Receipt(0, None, duplicate=True)


async def test_a_gap_in_the_sequence_is_refused(engine: QueueEngine) -> None:
    await produce(engine, 0, "a")
    with pytest.raises(PreconditionError) as caught:
        await produce(engine, 2, "c")
    assert caught.value.field == "first_sequence"
    assert await produce(engine, 1, "b") == Receipt(0, 1)


async def test_an_older_epoch_is_fenced_and_a_newer_one_starts_anywhere(engine: QueueEngine) -> None:
    await produce(engine, 0, "a", epoch=1)
    assert await produce(engine, 40, "b", epoch=2) == Receipt(0, 1)
    with pytest.raises(PreconditionError) as caught:
        await produce(engine, 1, "c", epoch=1)
    assert caught.value.field == "producer_epoch"
    (position,) = await engine.describe_producer("t", "p")
    assert (position.epoch, position.last_sequence) == (2, 40)


async def test_a_full_partition_refuses_and_drops_nothing_unacked(engine: QueueEngine) -> None:
    await engine.create_topic(TopicConfig("t", limits=TopicLimits(partition_bytes=100)))
    member = await join(engine, "t")
    await publish(engine, "t", "a" * 60)
    with pytest.raises(FullError) as caught:
        await publish(engine, "t", "b" * 60)
    assert caught.value.retry_after_s is not None
    (delivery,) = await receive(member)
    await ack(engine, delivery)
    assert await publish(engine, "t", "c" * 60) == Receipt(0, 1)
    assert all_due(await receive(member)) == ["c" * 60]


# Consuming


async def test_a_group_sees_everything_from_the_start(engine: QueueEngine) -> None:
    await publish(engine, "t", "a", "b")
    await publish(engine, "t", "c")
    member = await join(engine)
    deliveries = await receive(member, 3)
    assert all_due(deliveries) == ["a", "b", "c"]
    assert [(one.base_offset, one.attempt, one.due) for one in deliveries] == [(0, 1, ()), (2, 1, ())]
    assert await ack(engine, *deliveries) == [AckStatus.OK, AckStatus.OK]
    (group,) = (await engine.stats()).groups
    assert (group.lag_messages, group.unacked, group.acked, group.delivered) == (0, 0, 3, 3)


async def test_a_waiting_member_is_woken_by_a_publish(engine: QueueEngine) -> None:
    member = await join(engine)
    waiting = asyncio.create_task(receive(member))
    await asyncio.sleep(0)
    await publish(engine, "t", "a")
    assert all_due(await waiting) == ["a"]


async def test_groups_do_not_see_each_other(engine: QueueEngine) -> None:
    first, second = await join(engine, group="one"), await join(engine, group="two")
    await publish(engine, "t", "a")
    await ack(engine, *await receive(first))
    assert all_due(await receive(second)) == ["a"]


@pytest.mark.parametrize(
    ("position", "expected"),
    [(Place.EARLIEST, ["a", "b", "c"]), (Place.LATEST, ["c"]), (AtOffset(1), ["b", "c"]), (AtTime(0), ["a", "b", "c"])],
)
async def test_a_new_group_begins_where_it_asks(engine: QueueEngine, position: Place, expected: list[str]) -> None:
    await publish(engine, "t", "a")
    await publish(engine, "t", "b")
    member = await join(engine, position=position)
    await publish(engine, "t", "c")
    assert all_due(await receive(member, len(expected))) == expected


async def test_no_more_is_delivered_than_is_permitted(engine: QueueEngine) -> None:
    await publish(engine, "t", "a", "b", "c", "d", "e")
    member = await join(engine, permits=2)
    (first,) = await receive(member, 2)
    assert due(first) == ["a", "b"]
    await nothing_comes(member)
    member.add_permits(2, 0)
    (second,) = await receive(member, 2)
    assert due(second) == ["c", "d"]
    assert second.attempt == 1
    await ack(engine, first, second)
    member.add_permits(10, 0)
    assert all_due(await receive(member)) == ["e"]


async def test_bytes_are_permitted_too_and_a_larger_batch_goes_alone(engine: QueueEngine) -> None:
    await publish(engine, "t", "a" * 50)
    await publish(engine, "t", "b" * 500)
    await publish(engine, "t", "c" * 50)
    member = await join(engine, permits=0)
    member.add_permits(10, 100)
    (small,) = await receive(member)
    assert due(small) == ["a" * 50]
    await nothing_comes(member)
    await ack(engine, small)
    (large,) = await receive(member)
    assert due(large) == ["b" * 500]
    await ack(engine, large)
    await nothing_comes(member)
    member.add_permits(0, 1000)
    assert all_due(await receive(member)) == ["c" * 50]


async def test_max_unacked_bounds_what_a_group_has(engine: QueueEngine) -> None:
    await publish(engine, "t", "a", "b", "c")
    member = await join(engine, max_unacked=2)
    (first,) = await receive(member, 2)
    assert due(first) == ["a", "b"]
    (group,) = (await engine.stats()).groups
    assert group.blocked_on_max_unacked
    await settle(engine, AckEntry(first.delivery_id, Outcome.ACK, (0, 1)))
    assert all_due(await receive(member)) == ["c"]


async def test_members_of_a_shared_group_compete_fairly(engine: QueueEngine) -> None:
    members = [await join(engine, permits=10) for _ in range(3)]
    for number in range(9):
        await publish(engine, "t", str(number))
    received = [all_due(await receive(member, 3)) for member in members]
    assert [len(one) for one in received] == [3, 3, 3]
    assert sorted(one for some in received for one in some) == [str(number) for number in range(9)]


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


async def test_a_member_that_vanishes_costs_an_attempt_and_one_that_is_drained_does_not(engine: QueueEngine) -> None:
    await publish(engine, "t", "a")
    first = await join(engine)
    (delivery,) = await receive(first)
    first.close(drained=True)
    second = await join(engine)
    (drained,) = await receive(second)
    assert drained.attempt == 1
    second.close(drained=False)
    third = await join(engine)
    (vanished,) = await receive(third)
    assert vanished.attempt == 2
    assert await ack(engine, delivery, drained, vanished) == [AckStatus.STALE, AckStatus.STALE, AckStatus.OK]


async def test_a_member_of_the_same_name_takes_over(engine: QueueEngine) -> None:
    await publish(engine, "t", "a")
    first = await join(engine, member="m")
    (delivery,) = await receive(first)
    second = await join(engine, member="m")
    assert await events(first) == ()
    assert "m" in first.closed_reason
    assert all_due(await receive(second)) == ["a"]
    assert await ack(engine, delivery) == [AckStatus.STALE]


async def test_a_half_closed_stream_may_end_when_it_is_exhausted(engine: QueueEngine) -> None:
    await publish(engine, "t", "a", "b")
    member = await join(engine, permits=2)
    assert not member.exhausted
    deliveries = await receive(member, 2)
    assert not member.exhausted
    await ack(engine, *deliveries)
    async with asyncio.timeout(WAIT_S):
        await member.wait_exhausted()


async def test_a_reader_without_a_group_is_exhausted_once_it_has_all_it_asked_for(engine: QueueEngine) -> None:
    reader = await join(engine, group="", permits=1)
    ended = asyncio.create_task(reader.wait_exhausted())
    await publish(engine, "t", "a", "b")
    assert all_due(await receive(reader)) == ["a"]
    async with asyncio.timeout(WAIT_S):
        await ended


async def test_a_drained_member_gets_nothing_more_and_what_it_has_not_seen_goes_to_others(engine: QueueEngine) -> None:
    first = await join(engine)
    await publish(engine, "t", "a")
    (seen,) = await receive(first)
    await publish(engine, "t", "b")
    first.stop_delivering()
    second = await join(engine)
    (unseen,) = await receive(second)
    assert (due(unseen), unseen.attempt) == (["b"], 1)
    await publish(engine, "t", "c")
    assert all_due(await receive(second)) == ["c"]
    assert not first.exhausted
    assert await ack(engine, seen) == [AckStatus.OK]
    assert first.exhausted


async def test_waiting_for_events_may_be_given_up_and_taken_up_again(engine: QueueEngine) -> None:
    member = await join(engine)
    for number in range(20):
        await publish(engine, "t", str(number))
        waiting = asyncio.ensure_future(member.next_events())
        for _ in range(number % 4):
            await asyncio.sleep(0)
        if waiting.done():
            await ack(engine, *[one for one in waiting.result() if isinstance(one, Delivery)])
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    while (group := (await engine.stats()).groups[0]).lag_messages:
        assert group.redelivered == 0
        await ack(engine, *await receive(member))


async def test_group_settings_are_fixed_by_the_first_member(engine: QueueEngine) -> None:
    first = await join(engine, ack_wait_s=5.0, max_deliver=3, backoff_s=(1.0,), max_unacked=7, mode=Mode.ORDERED)
    joined = await join(engine)
    assert joined.started.settings == first.started.settings
    wishes: dict[str, dict[str, object]] = {
        "ack_wait": {"ack_wait_s": 6.0},
        "max_deliver": {"max_deliver": 4},
        "backoff": {"backoff_s": (2.0,)},
        "max_unacked": {"max_unacked": 8},
        "mode": {"mode": Mode.SHARED},
        "dead_letter_topic": {"dead_letter_topic": "other"},
    }
    for field, wish in wishes.items():
        with pytest.raises(PreconditionError) as caught:
            await join(engine, **wish)  # type: ignore[arg-type]
        assert caught.value.field == field
    with pytest.raises(PreconditionError) as caught:
        await join(engine, "other")
    assert caught.value.field == "topics"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (SubscribeOptions((), group="g"), "topics"),
        (SubscribeOptions(("t", "A B"), group="g"), "topics[1]"),
        (SubscribeOptions(("a.>.b",), group="g"), "topics[0]"),
        (SubscribeOptions(("t",), group="no spaces"), "group"),
        (SubscribeOptions(("t",), group="g", ack_wait_s=-1.0), "ack_wait"),
        (SubscribeOptions(("t",), group="g", max_deliver=1001), "max_deliver"),
        (SubscribeOptions(("t",), group="g", backoff_s=(1.0,) * 21), "backoff"),
        (SubscribeOptions(("t",), group="g", dead_letter_topic="t"), "dead_letter_topic"),
    ],
)
async def test_a_bad_subscription_is_refused_by_its_field(
    engine: QueueEngine, options: SubscribeOptions, field: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await engine.subscribe(options)
    assert caught.value.field == field
    assert await engine.list_groups() == []
    assert await engine.list_topics() == []


# Wildcards


async def test_wildcards_join_topics_that_appear_later(engine: QueueEngine) -> None:
    await publish(engine, "a.x", "1")
    star, rest = await join(engine, "a.*", group="star"), await join(engine, "a.>", group="rest")
    await publish(engine, "a.y", "2")
    await publish(engine, "a.y.z", "3")
    await publish(engine, "b.x", "4")
    assert all_due(await receive(star, 2)) == ["1", "2"]
    assert all_due(await receive(rest, 3)) == ["1", "2", "3"]
    await nothing_comes(star)
    await nothing_comes(rest)


async def test_a_wildcard_does_not_take_in_its_own_dead_letters(engine: QueueEngine) -> None:
    await publish(engine, "t", "a")
    member = await join(engine, ">")
    (delivery,) = await receive(member)
    await settle(engine, AckEntry(delivery.delivery_id, Outcome.TERMINATE))
    assert await browse(engine, "t.dead-letter") == ["a"]
    await nothing_comes(member)


# Dead letters


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


# ORDERED


async def test_an_ordered_group_gives_each_partition_one_owner(engine: QueueEngine) -> None:
    await engine.create_topic(TopicConfig("t", partitions=4))
    first = await join(engine, mode=Mode.ORDERED, member="first")
    (assigned,) = await events(first)
    assert assigned == Assigned(tuple(TopicPartition("t", number) for number in range(4)))
    second = await join(engine, member="second")
    (revoked,) = await events(first)
    (given,) = await events(second)
    assert isinstance(revoked, Revoked)
    assert isinstance(given, Assigned)
    assert revoked.partitions == given.partitions
    assert len(given.partitions) == 2
    second.close(drained=False)
    (back,) = await events(first)
    assert isinstance(back, Assigned)
    assert set(back.partitions) == set(given.partitions)


async def test_a_partition_that_is_revoked_takes_its_leases_along(engine: QueueEngine) -> None:
    await engine.create_topic(TopicConfig("t", partitions=2))
    first = await join(engine, mode=Mode.ORDERED, member="first")
    await publish(engine, "t", "zero", partition=0)
    await publish(engine, "t", "one", partition=1)
    before = {one.partition: one for one in await receive(first, 2)}
    second = await join(engine, member="second")
    (again,) = await receive(second)
    assert again.attempt == 1
    kept = 1 - again.partition
    assert await ack(engine, before[again.partition], before[kept], again) == [
        AckStatus.STALE,
        AckStatus.OK,
        AckStatus.OK,
    ]


async def test_ordered_delivers_nothing_after_a_message_that_awaits_redelivery(engine: QueueEngine) -> None:
    for data in ("a", "b", "c"):
        await publish(engine, "t", data)
    member = await join(engine, mode=Mode.ORDERED, permits=1)
    (first,) = await receive(member)
    await settle(engine, AckEntry(first.delivery_id, Outcome.NACK, delay_s=0.05))
    member.add_permits(10, 0)
    await nothing_comes(member)
    assert all_due(await receive(member, 3)) == ["a", "b", "c"]


async def test_ordered_goes_on_after_a_dead_letter(engine: QueueEngine) -> None:
    await publish(engine, "t", "a")
    await publish(engine, "t", "b")
    member = await join(engine, mode=Mode.ORDERED, permits=1)
    (first,) = await receive(member)
    await settle(engine, AckEntry(first.delivery_id, Outcome.TERMINATE))
    member.add_permits(1, 0)
    assert all_due(await receive(member)) == ["b"]


async def test_topics_that_appear_are_shared_out_too(engine: QueueEngine) -> None:
    member = await join(engine, "a.*", mode=Mode.ORDERED)
    await engine.create_topic(TopicConfig("a.x", partitions=2))
    (assigned,) = await events(member)
    assert assigned == Assigned((TopicPartition("a.x", 0), TopicPartition("a.x", 1)))


# Ephemeral


async def test_an_ephemeral_subscription_sees_what_comes_and_leases_nothing(engine: QueueEngine) -> None:
    await publish(engine, "t", "before")
    reader = await join(engine, group="")
    await publish(engine, "t", "after")
    (delivery,) = await receive(reader)
    assert (due(delivery), delivery.delivery_id, delivery.attempt) == (["after"], "", 0)
    assert await engine.list_groups() == []
    assert reader.started.group == ""


async def test_a_slow_ephemeral_reader_gets_a_gap(engine: QueueEngine) -> None:
    await engine.create_topic(TopicConfig("t", retention=Retention(bytes=25)))
    reader = await join(engine, group="", permits=0)
    for number in range(10):
        await publish(engine, "t", f"{number:06}")  # ten bytes each
    reader.add_permits(10, 0)
    gap, *rest = await events(reader)
    assert gap == Gap("t", 0, 8)
    assert all_due([one for one in rest if isinstance(one, Delivery)]) == ["000008", "000009"]


async def test_an_ephemeral_reader_begins_where_it_asks(engine: QueueEngine) -> None:
    await publish(engine, "t", "a")
    await publish(engine, "t", "b", "c")
    reader = await join(engine, group="", position=AtOffset(2))
    (delivery,) = await receive(reader)
    assert (due(delivery), delivery.base_offset, delivery.due) == (["c"], 1, ((1, 1),))


# Topics


async def test_topics_are_made_listed_changed_and_deleted(engine: QueueEngine) -> None:
    made = await engine.create_topic(TopicConfig("b", partitions=3))
    assert made.config.storage in (Storage.DISK, Storage.MEMORY)
    assert made.config.limits.batch_messages == 65_536
    await engine.create_topic(TopicConfig("a"))
    assert [topic.config.name for topic in await engine.list_topics()] == ["a", "b"]
    with pytest.raises(AlreadyExistsError):
        await engine.create_topic(TopicConfig("a"))
    changed = await engine.update_topic(TopicConfig("b", partitions=0, retention=Retention(age_s=60)))
    assert (changed.config.partitions, changed.config.retention.age_s) == (3, 60)
    with pytest.raises(PreconditionError):
        await engine.update_topic(TopicConfig("b", partitions=4))
    await engine.delete_topic("b")
    with pytest.raises(NotFoundError):
        await engine.get_topic("b")


async def test_a_topic_in_memory_works_on_every_engine(engine: QueueEngine) -> None:
    await engine.create_topic(TopicConfig("live", storage=Storage.MEMORY))
    member = await join(engine, "live")
    await publish(engine, "live", "a")
    (delivery,) = await receive(member)
    assert await ack(engine, delivery) == [AckStatus.OK]


async def test_a_deleted_topic_ends_its_subscriptions_and_begins_anew(engine: QueueEngine) -> None:
    await publish(engine, "t", "a")
    member = await join(engine)
    (delivery,) = await receive(member)
    await engine.delete_topic("t")
    assert await events(member) == ()
    assert "t" in member.closed_reason
    assert await ack(engine, delivery) == [AckStatus.STALE]
    assert await publish(engine, "t", "b") == Receipt(0, 0)
    assert all_due(await receive(await join(engine))) == ["b"]


async def test_purging_drops_messages_and_leases_and_never_uses_an_offset_again(engine: QueueEngine) -> None:
    await publish(engine, "t", "a", "b", "c")
    await publish(engine, "t", "d")
    member = await join(engine)
    first, second = await receive(member, 4)
    assert await engine.purge_topic("t", 0, 2) == 2
    assert await browse(engine, "t") == ["c", "d"]
    assert await settle(engine, AckEntry(first.delivery_id, Outcome.NACK)) is AckStatus.OK
    (again,) = await receive(member)
    assert (due(again), again.due) == (["c"], ((2, 1),))
    assert await engine.purge_topic("t", None, None) == 2
    assert await ack(engine, again, second) == [AckStatus.STALE, AckStatus.STALE]
    assert await publish(engine, "t", "e") == Receipt(0, 4)
    (position,) = (await engine.get_group("g")).positions
    assert (position.acked_through, position.end_offset) == (4, 5)


async def test_acked_messages_go_at_once_where_the_topic_says_so(engine: QueueEngine) -> None:
    await engine.create_topic(TopicConfig("t", retention=Retention(drop_acked=True)))
    await publish(engine, "t", "a")
    assert await browse(engine, "t") == ["a"]  # nobody has asked for it yet
    one, two = await join(engine, group="one"), await join(engine, group="two")
    await ack(engine, *await receive(one))
    assert await browse(engine, "t") == ["a"]
    await ack(engine, *await receive(two))
    assert await browse(engine, "t") == []


async def test_retention_by_size_spares_what_is_not_acked_unless_told_to(engine: QueueEngine) -> None:
    for name, drop in (("keep", False), ("drop", True)):
        await engine.create_topic(TopicConfig(name, retention=Retention(bytes=25, drop_unacked=drop)))
        await join(engine, name, group=name, permits=0)
        for number in range(5):
            await publish(engine, name, f"{number:06}")
    assert len(await browse(engine, "keep")) == 5
    assert await browse(engine, "drop") == ["000003", "000004"]
    (position,) = (await engine.get_group("drop")).positions
    assert position.acked_through == 3


async def test_browsing_needs_no_group_and_takes_nothing(engine: QueueEngine) -> None:
    await engine.create_topic(TopicConfig("t", partitions=2))
    await publish(engine, "t", "a", "b", partition=0)
    await publish(engine, "t", "c", partition=1)
    batches = [one async for one in engine.browse("t", None, AtOffset(1), 10)]
    assert [(one.partition, one.base_offset, one.count, decode(one.batch)) for one in batches] == [(0, 1, 1, ["b"])]
    assert await browse(engine, "t", 1) == ["c"]
    assert [one.count async for one in engine.browse("t", None, Place.EARLIEST, 1)] == [2]
    with pytest.raises(NotFoundError):
        await browse(engine, "t", 2)


# Groups


async def test_a_group_is_moved_and_its_members_must_leave_for_it(engine: QueueEngine) -> None:
    await publish(engine, "t", "a", "b", "c")
    member = await join(engine)
    await ack(engine, *await receive(member, 3))
    with pytest.raises(PreconditionError):
        await engine.seek_group("g", AtOffset(1))
    (planned,) = await engine.seek_group("g", AtOffset(1), dry_run=True)
    assert planned.acked_through == 1
    assert (await engine.get_group("g")).positions[0].acked_through == 3
    (moved,) = await engine.seek_group("g", AtOffset(1), force=True)
    assert (moved.acked_through, moved.end_offset) == (1, 3)
    assert await events(member) == ()
    assert "moved" in member.closed_reason
    again = await join(engine)
    assert all_due(await receive(again, 2)) == ["b", "c"]


async def test_a_seek_voids_what_was_delivered(engine: QueueEngine) -> None:
    await publish(engine, "t", "a", "b")
    member = await join(engine)
    (delivery,) = await receive(member, 2)
    await engine.seek_group("g", Place.LATEST, force=True)
    assert await ack(engine, delivery) == [AckStatus.STALE]
    (group,) = (await engine.stats()).groups
    assert (group.lag_messages, group.unacked, group.ready) == (0, 0, 0)


async def test_a_group_is_deleted_once_its_members_are_gone_or_by_force(engine: QueueEngine) -> None:
    member = await join(engine)
    with pytest.raises(PreconditionError):
        await engine.delete_group("g", force=False)
    await engine.delete_group("g", force=True)
    assert await events(member) == ()
    for call in (engine.get_group("g"), engine.delete_group("g", force=True), engine.seek_group("g", Place.EARLIEST)):
        with pytest.raises(NotFoundError):
            await call


async def test_a_topic_that_does_not_exist_is_not_found(engine: QueueEngine) -> None:
    calls: list[Awaitable[object]] = [
        engine.get_topic("no"),
        engine.delete_topic("no"),
        engine.purge_topic("no", None, None),
        engine.update_topic(TopicConfig("no")),
        engine.describe_producer("no", "p"),
        browse(engine, "no"),
    ]
    for call in calls:
        with pytest.raises(NotFoundError):
            await call


# Statistics and the end


async def test_statistics_count_what_there_is(engine: QueueEngine) -> None:
    await engine.create_topic(TopicConfig("t", partitions=2))
    await publish(engine, "t", "a", "b", partition=1)
    member = await join(engine, mode=Mode.ORDERED, member="m", permits=1, peer="ipv4:10.0.0.1:5")
    await receive(member)
    stats = await engine.stats()
    (topic,), (group,) = stats.topics, stats.groups
    assert (stats.engine, topic.messages, topic.published) == (engine.name, 2, 2)
    assert topic.publish_rate > 0
    assert [(one.start_offset, one.end_offset) for one in topic.partitions] == [(0, 0), (0, 2)]
    assert (group.mode, group.ready, group.unacked, group.lag_messages) == (Mode.ORDERED, 1, 1, 2)
    assert group.oldest_unacked_age_s is not None
    assert group.lag_age_s is not None
    (one,) = group.members
    assert (one.member, one.peer, one.permits_messages, one.permits_bytes, one.unacked) == (
        "m",
        "ipv4:10.0.0.1:5",
        0,
        None,
        1,
    )
    assert list(one.partitions) == [TopicPartition("t", 0), TopicPartition("t", 1)]


async def test_a_stopped_engine_ends_subscriptions_and_refuses(engine: QueueEngine) -> None:
    member = await join(engine)
    await engine.stop()
    assert await events(member) == ()
    assert member.closed_reason
    with pytest.raises(ClosedError):
        await publish(engine, "t", "a")
