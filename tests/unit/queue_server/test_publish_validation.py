"""What is checked of the messages of a batch, whatever way is taken through them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.queue import wire_pb2
from telemetry.queue.core.errors import InvalidArgumentError
from telemetry.queue.core.limits import DEFAULT_LIMITS, Limits
from telemetry.queue.validation.publish import ATTRIBUTES_MAX, publish_batch
from telemetry.v1 import queue_pb2

SIZES = st.sampled_from(
    [0, 1, 2, 100, 123, 124, 125, 126, 127, 128, 300, 16_370, 16_379, 16_380, 16_381, 16_384, 70_000]
)


def request_of(messages: list[queue_pb2.Message]) -> wire_pb2.PublishRequest:
    return wire_pb2.PublishRequest(topic="t", batch=queue_pb2.MessageBatch(messages=messages).SerializeToString())


@given(st.lists(SIZES, min_size=1, max_size=5))
def test_a_batch_of_data_alone_is_taken_with_its_count_and_largest_message(sizes: list[int]) -> None:
    batch = publish_batch(request_of([queue_pb2.Message(data=bytes(size)) for size in sizes]), DEFAULT_LIMITS)
    assert (batch.count, batch.largest_message) == (len(sizes), max(sizes))


@given(
    st.lists(SIZES, min_size=0, max_size=4),
    st.integers(0, 4),
    st.sampled_from(
        [
            queue_pb2.Message(attributes={"": ""}),
            queue_pb2.Message(attributes={"n" * 257: ""}),
            queue_pb2.Message(attributes={"n": "v" * 4097}),
            queue_pb2.Message(attributes={str(number): "" for number in range(ATTRIBUTES_MAX + 1)}),
            queue_pb2.Message(ordering_key="k" * 1025),
        ]
    ),
    SIZES,
)
def test_a_bad_message_is_named_wherever_it_stands(
    sizes: list[int], at: int, bad: queue_pb2.Message, size: int
) -> None:
    messages = [queue_pb2.Message(data=bytes(one)) for one in sizes]
    at = min(at, len(messages))
    bad = queue_pb2.Message(data=bytes(size), attributes=bad.attributes, ordering_key=bad.ordering_key)
    messages.insert(at, bad)
    with pytest.raises(InvalidArgumentError) as caught:
        publish_batch(request_of(messages), DEFAULT_LIMITS)
    assert caught.value.field.startswith(f"batch.messages[{at}].")


@pytest.mark.parametrize(
    ("sizes", "limits", "field", "flag"),
    [
        ([1, 5, 2], Limits(max_message_bytes=4), "batch.messages[1].data", "--max-message-bytes"),
        ([1, 1, 1], Limits(max_batch_messages=2), "batch.messages", "--max-batch-messages"),
        ([100], Limits(max_batch_bytes=50), "batch", "--max-batch-bytes"),
    ],
)
def test_what_is_too_large_is_refused_with_the_flag_that_says_so(
    sizes: list[int], limits: Limits, field: str, flag: str
) -> None:
    request = request_of([queue_pb2.Message(data=bytes(size)) for size in sizes])
    with pytest.raises(InvalidArgumentError, match=flag) as caught:
        publish_batch(request, limits)
    assert caught.value.field == field
    assert publish_batch(request, DEFAULT_LIMITS).count == len(sizes)
