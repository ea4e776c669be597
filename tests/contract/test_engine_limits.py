"""What is refused because it is too much, as every engine does it, and which flag the refusal names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from telemetry.queue.core.errors import FullError, InvalidArgumentError
from telemetry.queue.core.limits import Limits
from telemetry.queue.core.types import Place, Storage, SubscribeOptions, TopicConfig, TopicLimits
from telemetry.queue.engines.disk import DiskEngine
from telemetry.queue.engines.engine import QueueEngine
from telemetry.queue.engines.memory import MemoryEngine
from tests.contract.calls import ack, join, publish, receive

LIMITS = Limits(
    max_message_bytes=40,
    max_batch_bytes=50,
    max_batch_messages=2,
    max_topics=2,
    max_partitions=3,
    max_groups=2,
    max_members=2,
    max_subscriptions=4,
    partition_bytes=100,
    memory_partition_bytes=100,
)


@pytest.fixture(params=["memory", "disk"])
async def small(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[QueueEngine]:
    engine: QueueEngine = (
        MemoryEngine(limits=LIMITS) if request.param == "memory" else DiskEngine(tmp_path / "queue", limits=LIMITS)
    )
    await engine.start()
    yield engine
    await engine.stop()


async def test_there_are_no_more_topics_than_the_limit(small: QueueEngine) -> None:
    await small.create_topic(TopicConfig("a"))
    await publish(small, "b", "x")
    with pytest.raises(FullError, match="--max-topics"):
        await publish(small, "c", "x")
    with pytest.raises(FullError, match="--max-topics"):
        await small.create_topic(TopicConfig("c"))
    await small.delete_topic("a")
    await small.create_topic(TopicConfig("c"))
    assert [topic.config.name for topic in await small.list_topics()] == ["b", "c"]


async def test_a_topic_asks_for_no_more_than_the_queue_gives_and_gets_that_by_default(small: QueueEngine) -> None:
    for config, flag in (
        (TopicConfig("t", partitions=4), "--max-partitions"),
        (TopicConfig("t", limits=TopicLimits(41, 50, 2)), "--max-message-bytes"),
        (TopicConfig("t", limits=TopicLimits(40, 51, 2)), "--max-batch-bytes"),
        (TopicConfig("t", limits=TopicLimits(40, 50, 3)), "--max-batch-messages"),
    ):
        with pytest.raises(InvalidArgumentError, match=flag):
            await small.create_topic(config)
    topic = await small.create_topic(TopicConfig("t", limits=TopicLimits(0, 0, 0)))
    assert topic.config.limits == TopicLimits(40, 50, 2, 100)


async def test_a_topic_that_is_made_by_publishing_has_the_limits_of_the_queue(small: QueueEngine) -> None:
    await publish(small, "t", "x")
    assert (await small.get_topic("t")).config.limits == TopicLimits(40, 50, 2, 100)


async def test_a_partition_is_full_at_the_bytes_of_its_storage(small: QueueEngine) -> None:
    await small.create_topic(TopicConfig("t", storage=Storage.MEMORY))
    member = await join(small, "t")
    await publish(small, "t", "a" * 30)
    await publish(small, "t", "b" * 30)
    with pytest.raises(FullError, match="100 bytes"):
        await publish(small, "t", "c" * 40)
    await ack(small, *await receive(member, 2))
    await publish(small, "t", "c" * 40)


async def test_there_are_no_more_groups_than_the_limit(small: QueueEngine) -> None:
    await join(small, group="one")
    await join(small, group="two")
    with pytest.raises(FullError, match="--max-groups"):
        await join(small, group="three")
    await join(small, group="two")
    await small.delete_group("two", force=True)
    await join(small, group="three")


async def test_a_group_has_no_more_members_than_the_limit_and_one_of_the_same_name_takes_a_place(
    small: QueueEngine,
) -> None:
    first = await join(small, member="a")
    await join(small, member="b")
    with pytest.raises(FullError, match="--max-members") as caught:
        await join(small, member="c")
    assert caught.value.retry_after_s is not None
    await join(small, member="b")
    first.close(drained=True)
    await join(small, member="c")


async def test_there_are_no_more_subscriptions_than_the_limit_with_or_without_a_group(small: QueueEngine) -> None:
    readers = [await small.subscribe(SubscribeOptions(("t",), position=Place.LATEST)) for _ in range(3)]
    await join(small)
    with pytest.raises(FullError, match="--max-subscriptions"):
        await join(small)
    readers[0].close(drained=True)
    await join(small)
