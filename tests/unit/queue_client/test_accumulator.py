"""How single messages become batches."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.queue.clients.accumulator import Accumulator
from telemetry.queue.clients.batches import MESSAGE_OVERHEAD_BYTES, Batch, OutgoingMessage, encode_messages
from telemetry.queue.clients.placement import partition_of_key
from telemetry.queue.core.types import Receipt
from telemetry.v1 import queue_pb2


def data_of(batch: Batch) -> list[bytes]:
    return [message.data for message in queue_pb2.MessageBatch.FromString(batch.encoded).messages]


def never_idle(topic: str, partition: int) -> bool:
    return False


def add(
    accumulator: Accumulator, data: bytes, key: str | None = None, *, partitions: int = 1, now: float = 0.0
) -> Sequence[Batch]:
    return accumulator.add("t", partitions, OutgoingMessage(data, {}, key), lambda outcome: None, now)


def test_a_batch_closes_when_it_has_all_its_messages() -> None:
    accumulator = Accumulator(batch_messages=2, batch_bytes=1000, linger_s=1.0)
    assert add(accumulator, b"a") == []
    (batch,) = add(accumulator, b"b")
    assert data_of(batch) == [b"a", b"b"]
    assert accumulator.next_due_at() is None


def test_a_batch_closes_before_it_grows_too_large() -> None:
    accumulator = Accumulator(batch_messages=100, batch_bytes=2 * (10 + MESSAGE_OVERHEAD_BYTES) + 1, linger_s=1.0)
    assert [data_of(batch) for size in range(5) for batch in add(accumulator, b"%d" % size * 10)] == [
        [b"0" * 10, b"1" * 10],
        [b"2" * 10, b"3" * 10],
    ]


def test_a_message_larger_than_a_batch_travels_alone() -> None:
    accumulator = Accumulator(batch_messages=100, batch_bytes=100, linger_s=1.0)
    add(accumulator, b"small")
    closed = add(accumulator, b"x" * 1000)
    assert [data_of(batch) for batch in closed] == [[b"small"], [b"x" * 1000]]


def test_a_batch_closes_when_it_has_lingered() -> None:
    accumulator = Accumulator(batch_messages=100, batch_bytes=1000, linger_s=0.5)
    add(accumulator, b"a", now=10.0)
    add(accumulator, b"b", now=10.4)
    assert accumulator.next_due_at() == 10.5
    assert accumulator.close_due(10.4, never_idle) == []
    (batch,) = accumulator.close_due(10.5, never_idle)
    assert data_of(batch) == [b"a", b"b"]
    assert batch.accepted_at == 10.0


def test_a_batch_closes_at_once_when_nothing_of_its_partition_is_on_its_way() -> None:
    accumulator = Accumulator(batch_messages=100, batch_bytes=1000, linger_s=0.5)
    add(accumulator, b"a", "gpu-0", partitions=8)
    add(accumulator, b"b", "gpu-1", partitions=8)
    idle = partition_of_key("gpu-1", 8)
    (batch,) = accumulator.close_due(0.0, lambda topic, partition: (topic, partition) == ("t", idle))
    assert data_of(batch) == [b"b"]


def test_messages_with_a_key_go_where_the_key_says() -> None:
    accumulator = Accumulator(batch_messages=1, batch_bytes=1000, linger_s=1.0)
    for key in ("gpu-0", "gpu-1", "Größe"):
        (batch,) = add(accumulator, b"a", key, partitions=8)
        assert batch.partition == partition_of_key(key, 8)


def test_the_hash_of_keys_is_the_one_written_down() -> None:
    # The check value of CRC-32/ISO-HDLC.
    assert partition_of_key("123456789", 1 << 32) == 0xCBF43926


def test_batches_without_keys_take_turns_over_the_partitions() -> None:
    accumulator = Accumulator(batch_messages=2, batch_bytes=1000, linger_s=1.0)
    closed = [batch for number in range(14) for batch in add(accumulator, b"%d" % number, partitions=3)]
    assert [batch.partition for batch in closed] == [0, 1, 2, 0, 1, 2, 0]


def test_closing_one_partition_leaves_the_others_open() -> None:
    accumulator = Accumulator(batch_messages=100, batch_bytes=1000, linger_s=1.0)
    for key in ("gpu-0", "gpu-1"):
        add(accumulator, key.encode(), key, partitions=8)
    (batch,) = accumulator.close("t", partition_of_key("gpu-1", 8))
    assert data_of(batch) == [b"gpu-1"]
    assert accumulator.close("t", partition_of_key("gpu-1", 8)) == []
    assert [data_of(batch) for batch in accumulator.close_all()] == [[b"gpu-0"]]


def test_every_message_of_a_batch_learns_its_own_offset_and_a_bad_callback_disturbs_no_other() -> None:
    outcomes: list[object] = []

    def bad(outcome: object) -> None:
        raise RuntimeError("a mistake of the caller")

    batch = Batch("t", 3, b"", 3, 0, 0.0, (outcomes.append, bad, outcomes.append))
    batch.succeed(Receipt(3, 100))
    assert outcomes == [Receipt(3, 100), Receipt(3, 102)]


def test_a_duplicate_from_long_ago_has_no_offset() -> None:
    outcomes: list[object] = []
    Batch("t", 3, b"", 1, 0, 0.0, (outcomes.append,)).succeed(Receipt(3, None, duplicate=True))
    assert outcomes == [Receipt(3, None, duplicate=True)]


def test_what_is_no_message_is_refused_to_its_sender_and_leaves_no_trace() -> None:
    accumulator = Accumulator(batch_messages=2, batch_bytes=1000, linger_s=1.0)
    with pytest.raises(TypeError):
        accumulator.add("t", 1, OutgoingMessage("text"), lambda outcome: None, 0.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        accumulator.add("t", 1, OutgoingMessage(b"a", {"n": 1}), lambda outcome: None, 0.0)  # type: ignore[dict-item]
    assert accumulator.close_all() == []
    add(accumulator, b"a")
    (batch,) = add(accumulator, b"b")
    assert data_of(batch) == [b"a", b"b"]


@given(
    st.lists(
        st.builds(
            OutgoingMessage,
            st.integers(0, 20_000).map(lambda size: b"x" * size),
            st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
            st.none() | st.text(max_size=3),
        ),
        max_size=6,
    )
)
def test_messages_are_encoded_as_protobuf_would(messages: list[OutgoingMessage]) -> None:
    batch = queue_pb2.MessageBatch()
    for message in messages:
        batch.messages.add(data=message.data, attributes=message.attributes, ordering_key=message.ordering_key or "")
    encoded = encode_messages(messages)
    assert queue_pb2.MessageBatch.FromString(encoded) == batch
    assert len(encoded) == batch.ByteSize()
