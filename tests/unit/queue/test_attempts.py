"""How often a message was handed out is known after a restart, so that one which ends queues is given up too."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from telemetry.queue.core.attempts import Tried, TriedBefore
from telemetry.queue.core.types import (
    AckEntry,
    AckStatus,
    Delivery,
    Outcome,
    Place,
    PublishBatch,
    Receipt,
    SubscribeOptions,
)
from telemetry.queue.engines.disk import DiskEngine
from telemetry.queue.engines.driver import KEEP_ATTEMPTS_S
from telemetry.queue.engines.engine import Subscription
from telemetry.v1 import queue_pb2

Open = Callable[..., Awaitable[DiskEngine]]
OPTIONS = SubscribeOptions(("t",), group="g", max_deliver=3)


async def publish(engine: DiskEngine, *data: str) -> Receipt:
    batch = queue_pb2.MessageBatch(messages=[queue_pb2.Message(data=one.encode()) for one in data])
    return await engine.publish(PublishBatch("t", batch.SerializeToString(), len(data), partition=0))


async def join(engine: DiskEngine) -> Subscription:
    subscription = await engine.subscribe(OPTIONS)
    subscription.add_permits(100, 0)
    return subscription


async def receive(member: Subscription, count: int = 1) -> list[Delivery]:
    """The next deliveries."""
    received: list[Delivery] = []
    async with asyncio.timeout(10):
        while len(received) < count:
            received += [event for event in await member.next_events() if isinstance(event, Delivery)]
    return received


async def nack(engine: DiskEngine, delivery: Delivery, run: tuple[int, int] | None = None) -> None:
    assert await engine.ack([AckEntry(delivery.delivery_id, Outcome.NACK, run)]) == [AckStatus.OK]


async def kept() -> None:
    """What was handed out is kept by now."""
    await asyncio.sleep(2 * KEEP_ATTEMPTS_S)


async def dead_letters(engine: DiskEngine) -> list[queue_pb2.Message]:
    async def there() -> list[queue_pb2.Message]:
        batches = [one.batch async for one in engine.browse("t.dead-letter", None, Place.EARLIEST, 100)]
        return [message for batch in batches for message in queue_pb2.MessageBatch.FromString(batch).messages]

    async with asyncio.timeout(10):
        while "t.dead-letter" not in [topic.config.name for topic in await engine.list_topics()] or not await there():
            await asyncio.sleep(0.01)
    return await there()


async def test_attempts_go_on_where_they_were_after_a_crash(open_engine: Open, tmp_path: Path) -> None:
    engine = await open_engine(tmp_path / "1")
    await publish(engine, "a", "b", "c")
    member = await join(engine)
    (delivery,) = await receive(member)
    await nack(engine, delivery, (1, 1))
    (second,) = await receive(member)
    assert (second.due, second.attempt) == (((1, 1),), 2)
    await kept()
    again = await open_engine(crashed(tmp_path / "1", tmp_path / "2"))
    seen = {one.due: one.attempt for one in await receive(await join(again), 3)}
    assert seen == {((0, 1),): 2, ((1, 1),): 3, ((2, 1),): 2}


async def test_a_message_that_ends_the_queue_each_time_it_is_handed_out_is_given_up(
    open_engine: Open, tmp_path: Path
) -> None:
    engine = await open_engine(tmp_path / "1")
    await publish(engine, "poison")
    for life in (1, 2, 3):
        (delivery,) = await receive(await join(engine))
        assert delivery.attempt == life
        await kept()
        engine = await open_engine(crashed(tmp_path / f"{life}", tmp_path / f"{life + 1}"))
    await publish(engine, "good")
    (delivery,) = await receive(await join(engine))
    assert (delivery.base_offset, delivery.attempt) == (1, 1)
    (letter,) = await dead_letters(engine)
    assert letter.data == b"poison"
    assert letter.attributes["dead-letter-attempts"] == "3"
    assert "the queue stopped" in letter.attributes["dead-letter-reason"]
    assert "2000" < letter.attributes["dead-letter-first-time"] <= letter.attributes["dead-letter-last-time"]


async def test_a_queue_that_is_stopped_in_order_takes_no_attempt_from_what_was_under_way(open_engine: Open) -> None:
    engine = await open_engine()
    await publish(engine, "a")
    await publish(engine, "b")
    first, _ = await receive(await join(engine), 2)
    await nack(engine, first)
    await kept()
    await engine.stop()
    engine = await open_engine()
    received = await receive(await join(engine), 2)
    assert [(one.base_offset, one.attempt) for one in received] == [(0, 2), (1, 1)]


async def test_a_seek_makes_attempts_begin_at_one_also_after_a_restart(open_engine: Open, tmp_path: Path) -> None:
    engine = await open_engine(tmp_path / "1")
    await publish(engine, "a")
    member = await join(engine)
    (delivery,) = await receive(member)
    await nack(engine, delivery)
    await receive(member)
    await kept()
    await engine.seek_group("g", Place.EARLIEST, force=True)
    await kept()
    again = await open_engine(crashed(tmp_path / "1", tmp_path / "2"))
    (delivery,) = await receive(await join(again))
    assert delivery.attempt == 1


async def test_what_is_settled_leaves_no_attempts_behind(open_engine: Open, tmp_path: Path) -> None:
    engine = await open_engine()
    await publish(engine, "a", "b")
    member = await join(engine)
    (first,) = await receive(member)
    await nack(engine, first)
    (second,) = await receive(member)
    await kept()
    assert rows(tmp_path / "queue") == [(0, 2, 2)]
    await engine.ack([AckEntry(second.delivery_id, Outcome.ACK)])
    assert rows(tmp_path / "queue") == []


async def test_a_catalogue_of_the_version_before_is_taken_over(open_engine: Open, tmp_path: Path) -> None:
    engine = await open_engine()
    await publish(engine, "a", "b")
    (delivery,) = await receive(await join(engine))
    await engine.ack([AckEntry(delivery.delivery_id, Outcome.ACK, (0, 1))])
    await engine.stop()
    with sqlite3.connect(tmp_path / "queue" / "catalogue.sqlite") as connection:
        connection.executescript(
            "DROP TABLE attempts; ALTER TABLE cursors DROP COLUMN handed_through; PRAGMA user_version = 1"
        )
    connection.close()
    engine = await open_engine()
    (delivery,) = await receive(await join(engine))
    assert (delivery.due, delivery.attempt) == (((1, 1),), 1)


RUNS = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 6), st.integers(1, 5)), max_size=8)


@given(st.integers(0, 20), RUNS)
def test_of_overlapping_attempts_the_most_count_at_every_offset(through: int, runs: list[tuple[int, int, int]]) -> None:
    tried = [Tried(first, first + size, attempts, 0, 0) for first, size, attempts in runs]
    before, offset, found = TriedBefore(through, tried), 0, []
    while offset < 30:
        known, end = before.at(offset, 30)
        assert end > offset
        found += [known.attempts if known is not None else 0] * (end - offset)
        if before.is_over(offset):
            assert set(found[offset:]) <= {0}
        offset = end
    assert found == [
        max([one.attempts for one in tried if one.first <= at < one.end] + [1 if at < through else 0])
        for at in range(30)
    ]


def crashed(directory: Path, to: Path) -> Path:
    """A copy of a directory as a crash at this moment would leave it."""
    return shutil.copytree(directory, to)


def rows(directory: Path) -> list[tuple[int, int, int]]:
    with sqlite3.connect(directory / "catalogue.sqlite") as connection:
        found = connection.execute("SELECT first_offset, end_offset, attempts FROM attempts").fetchall()
    connection.close()
    return found
