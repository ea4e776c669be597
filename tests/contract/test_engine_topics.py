"""Topics, as every engine promises them: made, changed, emptied, kept, read without a group."""

from __future__ import annotations

import pytest

from telemetry.queue.core.errors import (
    AlreadyExistsError,
    NotFoundError,
    PreconditionError,
)
from telemetry.queue.core.types import (
    AckEntry,
    AckStatus,
    AtOffset,
    Outcome,
    Place,
    Receipt,
    Retention,
    Storage,
    TopicConfig,
)
from telemetry.queue.engines.engine import QueueEngine
from tests.contract.calls import (
    ack,
    all_due,
    browse,
    decode,
    due,
    events,
    join,
    publish,
    receive,
    settle,
)


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
