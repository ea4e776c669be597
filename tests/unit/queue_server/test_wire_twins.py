"""The private twins of messages with batches have the wire format of the public ones."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from telemetry.queue import wire_pb2
from telemetry.v1 import queue_admin_pb2, queue_pb2

PAIRS: list[tuple[type[Message], type[Message]]] = [
    (queue_pb2.PublishRequest, wire_pb2.PublishRequest),
    (queue_pb2.SubscribeResponse, wire_pb2.SubscribeResponse),
    (queue_pb2.Delivery, wire_pb2.Delivery),
    (queue_admin_pb2.BrowseResponse, wire_pb2.BrowseResponse),
]


def layout(message_type: type[Message], *, batch_as_bytes: bool) -> dict[str, tuple[object, ...]]:
    """Of each field: number, kind, whether it repeats, its oneof, and the type of a message (twins count as equal)."""
    fields: dict[str, tuple[object, ...]] = {}
    for field in message_type.DESCRIPTOR.fields:
        kind, message = field.type, field.message_type.full_name if field.message_type else ""
        if batch_as_bytes and field.name == "batch":
            kind, message = FieldDescriptor.TYPE_BYTES, ""
        group = field.containing_oneof.name if field.containing_oneof else ""
        fields[field.name] = (
            field.number,
            kind,
            field.is_repeated,
            group,
            message.replace("telemetry.queue.wire.", "telemetry.v1."),
        )
    return fields


@pytest.mark.parametrize(("public", "twin"), PAIRS)
def test_a_twin_has_the_fields_of_the_public_message(public: type[Message], twin: type[Message]) -> None:
    assert layout(twin, batch_as_bytes=False) == layout(public, batch_as_bytes=True)


def test_every_message_of_the_private_file_is_compared_here() -> None:
    assert set(wire_pb2.DESCRIPTOR.message_types_by_name) == {twin.DESCRIPTOR.name for _, twin in PAIRS}


def test_a_batch_goes_through_a_twin_byte_for_byte() -> None:
    batch = queue_pb2.MessageBatch(messages=[queue_pb2.Message(data=b"one", attributes={"a": "b"})])
    request = queue_pb2.PublishRequest(topic="t", partition=3, batch=batch, producer_id="p", first_sequence=7)
    twin = wire_pb2.PublishRequest.FromString(request.SerializeToString())
    assert twin.batch == batch.SerializeToString()
    assert queue_pb2.PublishRequest.FromString(twin.SerializeToString()) == request
