"""Publishing, as every engine promises it."""

from __future__ import annotations

import asyncio

import pytest

from telemetry.queue.core.errors import (
    FullError,
    InvalidArgumentError,
    PreconditionError,
)
from telemetry.queue.core.types import (
    PublishBatch,
    Receipt,
    TopicConfig,
    TopicLimits,
)
from telemetry.queue.engines.engine import QueueEngine
from tests.contract.calls import (
    ack,
    all_due,
    browse,
    encode,
    join,
    produce,
    publish,
    receive,
)


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
