"""Groups, as every engine promises them: their settings, moves and ends, and what is counted."""

from __future__ import annotations

from collections.abc import Awaitable

import pytest

from telemetry.queue.core.errors import (
    ClosedError,
    InvalidArgumentError,
    NotFoundError,
    PreconditionError,
)
from telemetry.queue.core.types import (
    AckStatus,
    AtOffset,
    Mode,
    Place,
    SubscribeOptions,
    TopicConfig,
    TopicPartition,
)
from telemetry.queue.engines.engine import QueueEngine
from tests.contract.calls import (
    ack,
    all_due,
    browse,
    events,
    join,
    publish,
    receive,
)


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
