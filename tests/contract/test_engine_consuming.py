"""What is handed to whom, as every engine promises it: positions, permits, members, wildcards."""

from __future__ import annotations

import asyncio

import pytest

from telemetry.queue.core.types import (
    AckEntry,
    AckStatus,
    AtOffset,
    AtTime,
    Delivery,
    Outcome,
    Place,
    TopicConfig,
)
from telemetry.queue.engines.engine import QueueEngine
from tests.contract.calls import (
    WAIT_S,
    ack,
    all_due,
    browse,
    due,
    events,
    join,
    nothing_comes,
    publish,
    receive,
    settle,
)


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


@pytest.mark.parametrize("group", ["g", ""])
async def test_a_subscriber_waits_for_a_topic_with_the_partitions_that_its_maker_gives_it(
    engine: QueueEngine, group: str
) -> None:
    member = await join(engine, "later", group=group, position=Place.LATEST)
    assert await engine.list_topics() == []
    await engine.create_topic(TopicConfig("later", partitions=3))
    for partition in range(3):
        await publish(engine, "later", f"in {partition}", partition=partition)
    assert sorted(all_due(await receive(member, 3))) == ["in 0", "in 1", "in 2"]


async def test_a_wildcard_does_not_take_in_its_own_dead_letters(engine: QueueEngine) -> None:
    await publish(engine, "t", "a")
    member = await join(engine, ">")
    (delivery,) = await receive(member)
    await settle(engine, AckEntry(delivery.delivery_id, Outcome.TERMINATE))
    assert await browse(engine, "t.dead-letter") == ["a"]
    await nothing_comes(member)
