"""From a PublishRequest to a batch that an engine can store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NoReturn

from google.protobuf.message import DecodeError

from telemetry.queue.core.limits import Limits, flag_of
from telemetry.queue.core.types import PublishBatch
from telemetry.queue.validation.fields import NAME_BYTES_MAX, ORDERING_KEY_BYTES_MAX, invalid, text, topic_name
from telemetry.queue.wire_pb2 import PublishRequest
from telemetry.v1 import queue_pb2

SEQUENCE_MAX: Final = (1 << 63) - 1
"""Largest epoch and sequence number of a producer: what SQLite and other languages' signed integers hold."""
ATTRIBUTES_MAX: Final = 100
"""Most attributes of a message."""
ATTRIBUTE_NAME_BYTES_MAX: Final = 256
"""Longest name of an attribute."""
ATTRIBUTE_VALUE_BYTES_MAX: Final = 4096
"""Longest value of an attribute."""


def publish_batch(request: PublishRequest, limits: Limits) -> PublishBatch:
    """Check every field of the request.

    Raises:
        InvalidArgumentError: if a field is wrong.
    """
    text(request.request_id, "request_id", NAME_BYTES_MAX)
    topic_name(request.topic, "topic")
    placement = request.WhichOneof("placement")
    if placement == "ordering_key":
        text(request.ordering_key, "ordering_key", ORDERING_KEY_BYTES_MAX)
    if text(request.producer_id, "producer_id", NAME_BYTES_MAX) and placement is None:
        invalid("partition", "or ordering_key is required with producer_id")
    batch = request.batch
    count, largest_message = _check_messages(batch, limits)
    if request.producer_epoch > SEQUENCE_MAX:
        invalid("producer_epoch", f"is {request.producer_epoch}; at most {SEQUENCE_MAX} is allowed")
    if request.first_sequence + count - 1 > SEQUENCE_MAX:
        invalid("first_sequence", f"leaves the batch no room below {SEQUENCE_MAX}, the last sequence number there is")
    return PublishBatch(
        topic=request.topic,
        batch=batch,
        count=count,
        largest_message=largest_message,
        partition=request.partition if placement == "partition" else None,
        ordering_key=request.ordering_key if placement == "ordering_key" else None,
        producer_id=request.producer_id,
        producer_epoch=request.producer_epoch,
        first_sequence=request.first_sequence,
    )


def _check_messages(encoded: bytes, limits: Limits) -> tuple[int, int]:
    """The number of messages in an encoded MessageBatch, and the bytes of data of the largest."""
    if len(encoded) > limits.max_batch_bytes:
        _too_much("batch", f"has {len(encoded)} bytes", "max_batch_bytes", limits.max_batch_bytes)
    try:
        messages = queue_pb2.MessageBatch.FromString(encoded).messages
    except DecodeError:
        invalid("batch", "is not an encoded MessageBatch")
    count = len(messages)
    if count == 0:
        invalid("batch.messages", "is empty; at least one message is required")
    if count > limits.max_batch_messages:
        _too_much("batch.messages", f"has {count} entries", "max_batch_messages", limits.max_batch_messages)
    sizes = [len(message.data) for message in messages]
    largest = max(sizes)
    if largest > limits.max_message_bytes:
        field = f"batch.messages[{sizes.index(largest)}].data"
        _too_much(field, f"has {largest} bytes", "max_message_bytes", limits.max_message_bytes)
    if not _is_data_alone(encoded, sizes):
        _check_keys_and_attributes(messages)
    return count, largest


def _too_much(field: str, problem: str, limit: str, most: int) -> NoReturn:
    invalid(field, f"{problem}; at most {most} are allowed ({flag_of(limit)})")


def _is_data_alone(encoded: bytes, sizes: Sequence[int]) -> bool:
    """Whether data of these sizes accounts for every byte, so that no message can have a key or attributes.

    Looking at the fields of every message takes longer than all else that is done with most batches. Sizes so far apart
    that their lengths take different numbers of bytes are not looked into: the answer is no.
    """
    overhead = _overhead(max(sizes))
    return overhead == _overhead(min(sizes)) and len(encoded) == sum(sizes) + overhead * len(sizes)


def _overhead(size: int) -> int:
    """The bytes that a message of nothing but ``size`` bytes of data has beyond them, in a batch."""
    message = size and 1 + _varint_bytes(size) + size
    return 1 + _varint_bytes(message) + message - size


def _varint_bytes(number: int) -> int:
    return max(1, -(-number.bit_length() // 7))


def _check_keys_and_attributes(messages: Sequence[queue_pb2.Message]) -> None:
    # This runs once a message, so it only asks what might be wrong; the exact check is left to those few.
    for index, message in enumerate(messages):
        attributes = message.attributes
        suspicious = len(attributes) > ATTRIBUTES_MAX or len(message.ordering_key) > ORDERING_KEY_BYTES_MAX // 4
        for name in attributes:
            value = attributes[name]
            if not name or len(name) > ATTRIBUTE_NAME_BYTES_MAX // 4 or len(value) > ATTRIBUTE_VALUE_BYTES_MAX // 4:
                suspicious = True
        if suspicious:
            _check_message(message, f"batch.messages[{index}]")


def _check_message(message: queue_pb2.Message, field: str) -> None:
    text(message.ordering_key, f"{field}.ordering_key", ORDERING_KEY_BYTES_MAX)
    if len(message.attributes) > ATTRIBUTES_MAX:
        invalid(f"{field}.attributes", f"has {len(message.attributes)} entries; at most {ATTRIBUTES_MAX} are allowed")
    for name, value in message.attributes.items():
        if not name:
            invalid(f"{field}.attributes", "has an entry without a name")
        if len(name.encode()) > ATTRIBUTE_NAME_BYTES_MAX:
            invalid(f"{field}.attributes", f"has a name longer than {ATTRIBUTE_NAME_BYTES_MAX} bytes: {name[:40]!r}…")
        text(value, f"{field}.attributes[{name}]", ATTRIBUTE_VALUE_BYTES_MAX)
