"""Publish over a real port: receipts, errors that leave the stream open, order, idempotence, limits."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from telemetry.queue.server import QueueServer
from telemetry.v1 import queue_admin_pb2, queue_pb2
from telemetry.v1.queue_pb2 import Message
from telemetry.v1.queue_pb2 import MessageBatch as Batch
from telemetry.v1.queue_pb2 import PublishRequest as Request
from tests.integration.queue_server.wire_client import Client, ending, fields_of, read


def with_messages(*messages: Message, **fields: Any) -> Request:
    return Request(topic="t", batch=Batch(messages=messages), **fields)


async def test_a_receipt_says_where_the_batch_lies(client: Client) -> None:
    first = await client.publish("t", b"one", b"two", partition=0)
    second = await client.publish("t", b"three")
    assert (first.partition, first.base_offset, first.duplicate) == (0, 0, False)
    assert (second.partition, second.base_offset) == (0, 2)


async def test_many_requests_in_flight_are_each_answered_once_and_in_order(client: Client) -> None:
    call = client.queue.Publish()
    for number in range(300):
        await call.write(client.request("t", b"x", request_id=str(number), partition=0))
    await call.done_writing()
    responses = [response async for response in call]
    assert [response.request_id for response in responses] == [str(number) for number in range(300)]
    assert [response.receipt.base_offset for response in responses] == list(range(300))


async def test_a_batch_is_passed_on_byte_for_byte(client: Client) -> None:
    # Fields in an order, and one of a number, that no encoder of ours would write.
    message = b"\x1a\x01k\x0a\x04data\xa2\x06\x03new"
    batch = b"\x0a" + bytes([len(message)]) + message
    raw = Request(topic="t").SerializeToString() + b"\x2a" + bytes([len(batch)]) + batch
    publish = client.channel.stream_stream(
        "/telemetry.v1.QueueService/Publish", lambda raw: raw, queue_pb2.PublishResponse.FromString
    )()
    await publish.write(raw)
    assert (await read(publish)).HasField("receipt")
    subscribe = client.channel.stream_stream(
        "/telemetry.v1.QueueService/Subscribe", queue_pb2.SubscribeRequest.SerializeToString, lambda raw: raw
    )()
    flow = queue_pb2.SubscribeFlow(messages=10)
    start = queue_pb2.SubscribeStart(topics=["t"], group="g", flow=flow)
    await subscribe.write(queue_pb2.SubscribeRequest(start=start))
    await read(subscribe)
    assert batch in await read(subscribe)
    subscribe.cancel()


WRONG: list[tuple[str, Request]] = [
    ("request_id", Request(request_id="x" * 129, topic="t", batch=Batch(messages=[Message()]))),
    ("topic", Request(batch=Batch(messages=[Message()]))),
    ("topic", Request(topic="Not a topic", batch=Batch(messages=[Message()]))),
    ("topic", Request(topic="t." * 120, batch=Batch(messages=[Message()]))),
    ("partition", with_messages(Message(), partition=7)),
    ("ordering_key", with_messages(Message(), ordering_key="ü" * 513)),
    ("partition", with_messages(Message(), producer_id="p")),
    ("producer_id", with_messages(Message(), producer_id="p" * 129, partition=0)),
    ("first_sequence", with_messages(Message(), Message(), producer_id="p", partition=0, first_sequence=2**63 - 1)),
    ("producer_epoch", with_messages(Message(), producer_id="p", partition=0, producer_epoch=2**63)),
    ("batch.messages", Request(topic="t")),
    ("batch.messages", Request(topic="t", batch=Batch(messages=[Message()] * 65_537))),
    ("batch", with_messages(Message(data=bytes(5 << 20)), Message(data=bytes(5 << 20)))),
    ("batch.messages[1].ordering_key", with_messages(Message(), Message(ordering_key="k" * 1025))),
    (
        "batch.messages[0].attributes",
        with_messages(Message(attributes={str(number): "" for number in range(101)})),
    ),
    ("batch.messages[0].attributes", with_messages(Message(attributes={"": "nameless"}))),
    ("batch.messages[0].attributes", with_messages(Message(attributes={"n" * 257: ""}))),
    ("batch.messages[0].attributes[name]", with_messages(Message(attributes={"name": "ü" * 2049}))),
]


async def test_every_wrong_field_is_named_and_the_stream_stays_open(client: Client) -> None:
    call = client.queue.Publish()
    for offset, (field, request) in enumerate(WRONG):
        await call.write(request)
        refused = await read(call)
        assert refused.request_id == request.request_id
        assert (refused.error.code, fields_of(refused.error)) == (
            grpc.StatusCode.INVALID_ARGUMENT.value[0],
            [field],
        )
        await call.write(client.request("t", b"still here"))
        assert (await read(call)).receipt.base_offset == offset
    call.cancel()


async def test_what_is_just_within_the_limits_is_stored(client: Client) -> None:
    message = Message(
        data=b"x",
        attributes={"n" * 256: "v" * 4096} | {str(number): "" for number in range(99)},
        ordering_key="ü" * 512,
    )
    call = client.queue.Publish()
    request = with_messages(message, request_id="r" * 128, producer_id="p" * 128, ordering_key="k" * 1024)
    await call.write(request)
    assert (await read(call)).HasField("receipt")
    await call.write(with_messages(*[Message()] * 65_536))
    assert (await read(call)).HasField("receipt")
    call.cancel()


async def test_bytes_that_are_no_batch_are_refused(client: Client) -> None:
    raw = Request(topic="t").SerializeToString() + b"\x2a\x03\xff\xff\xff"
    call = client.channel.stream_stream(
        "/telemetry.v1.QueueService/Publish", lambda raw: raw, queue_pb2.PublishResponse.FromString
    )()
    await call.write(raw)
    assert fields_of((await read(call)).error) == ["batch"]
    call.cancel()


async def test_a_batch_sent_again_is_a_duplicate_with_the_offset_it_got(client: Client) -> None:
    who: dict[str, Any] = {"producer_id": "p", "producer_epoch": 1, "partition": 0}
    first = await client.publish("t", b"one", b"two", first_sequence=5, **who)
    again = await client.publish("t", b"one", b"two", first_sequence=5, **who)
    assert not first.duplicate
    assert again.duplicate
    assert again.base_offset == first.base_offset == 0


@pytest.mark.parametrize(
    ("field", "epoch", "sequence"), [("first_sequence", 3, 9), ("producer_epoch", 2, 2)], ids=["gap", "fenced"]
)
async def test_a_gap_and_an_older_epoch_are_failed_preconditions(
    client: Client, field: str, epoch: int, sequence: int
) -> None:
    await client.publish("t", b"one", producer_id="p", producer_epoch=3, first_sequence=1, partition=0)
    call = client.queue.Publish()
    await call.write(
        client.request("t", b"x", producer_id="p", producer_epoch=epoch, first_sequence=sequence, partition=0)
    )
    error = (await read(call)).error
    assert error.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert fields_of(error) == [field]
    call.cancel()


async def test_a_full_topic_refuses_and_says_when_to_try_again(client: Client) -> None:
    topic = queue_admin_pb2.Topic(name="small", limits=queue_admin_pb2.TopicLimits(partition_bytes=1000))
    await client.admin.CreateTopic(queue_admin_pb2.CreateTopicRequest(topic=topic))
    reader = await client.subscribe("small", group="slow", messages=0)
    call = client.queue.Publish()
    for _ in range(2):
        await call.write(client.request("small", bytes(600)))
    assert (await read(call)).HasField("receipt")
    error = (await read(call)).error
    assert error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    retry = error_details_pb2.RetryInfo()
    assert error.details[0].Unpack(retry)
    assert retry.retry_delay.ToTimedelta().total_seconds() > 0
    call.cancel()
    reader.cancel()


async def test_a_topics_own_limit_is_named(client: Client) -> None:
    topic = queue_admin_pb2.Topic(name="short", limits=queue_admin_pb2.TopicLimits(message_bytes=10))
    await client.admin.CreateTopic(queue_admin_pb2.CreateTopicRequest(topic=topic))
    call = client.queue.Publish()
    await call.write(client.request("short", bytes(11)))
    error = (await read(call)).error
    assert error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert fields_of(error)[0].startswith("batch.messages")
    call.cancel()


async def test_an_ordering_key_goes_to_the_partition_that_crc32_says(client: Client) -> None:
    topic = queue_admin_pb2.Topic(name="wide", partitions=8)
    await client.admin.CreateTopic(queue_admin_pb2.CreateTopicRequest(topic=topic))
    receipt = await client.publish("wide", b"x", ordering_key="123456789")
    assert receipt.partition == 0xCBF43926 % 8, "the check value of CRC-32/ISO-HDLC"


async def test_a_request_larger_than_grpc_takes_ends_only_its_stream(server: QueueServer, client: Client) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc_port}") as unlimited:
        call = Client(unlimited).queue.Publish()
        await call.write(client.request("t", bytes(17 << 20)))
        code, _ = await ending(call)
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await client.publish("t", b"fine")).base_offset == 0
