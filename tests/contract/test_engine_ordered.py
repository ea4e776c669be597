"""ORDERED groups, and readers without a group, as every engine promises them."""

from __future__ import annotations

from telemetry.queue.core.types import (
    AckEntry,
    AckStatus,
    Assigned,
    AtOffset,
    Delivery,
    Gap,
    Mode,
    Outcome,
    Retention,
    Revoked,
    TopicConfig,
    TopicPartition,
)
from telemetry.queue.engines.engine import QueueEngine
from tests.contract.calls import (
    ack,
    all_due,
    due,
    events,
    join,
    nothing_comes,
    publish,
    receive,
    settle,
)


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


async def test_a_partition_changes_hands_when_what_was_delivered_of_it_is_settled(engine: QueueEngine) -> None:
    await engine.create_topic(TopicConfig("t", partitions=2))
    first = await join(engine, mode=Mode.ORDERED, member="first")
    for number in (0, 1):
        await publish(engine, "t", f"{number}a", partition=number)
    before = {one.partition: one for one in await receive(first, 2)}
    second = await join(engine, member="second")
    (revoked,) = await events(first)
    assert isinstance(revoked, Revoked)
    for number in (0, 1):
        await publish(engine, "t", f"{number}b", partition=number)
    moving = revoked.partitions[0].partition
    assert all_due(await receive(first)) == [f"{1 - moving}b"]
    await nothing_comes(second)
    assert await ack(engine, before[moving]) == [AckStatus.OK]
    assigned, delivery = await events(second)
    assert assigned == Assigned(revoked.partitions)
    assert isinstance(delivery, Delivery)
    assert (due(delivery), delivery.attempt) == ([f"{moving}b"], 1)


async def test_a_revoked_partition_waits_no_longer_than_an_ack_wait_whatever_is_extended(engine: QueueEngine) -> None:
    await engine.create_topic(TopicConfig("t", partitions=2))
    first = await join(engine, mode=Mode.ORDERED, member="first", ack_wait_s=0.2, max_deliver=1)
    for number in (0, 1):
        await publish(engine, "t", f"{number}", partition=number)
    before = {one.partition: one for one in await receive(first, 2)}
    for delivery in before.values():
        await settle(engine, AckEntry(delivery.delivery_id, Outcome.EXTEND, delay_s=3600))
    second = await join(engine, member="second")
    (again,) = await receive(second)
    # It did nothing wrong, so that this is no further attempt, of which there is only one.
    assert again.attempt == 1
    assert await ack(engine, before[again.partition], before[1 - again.partition], again) == [
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
