"""The gRPC surface under fire: any bytes, any values, streams that end at any point. The server answers and goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from hypothesis import given
from hypothesis import strategies as st

from telemetry.v1 import queue_admin_pb2 as admin
from telemetry.v1 import queue_pb2
from tests.fuzz.examples import examples
from tests.fuzz.messages import damaged, messages
from tests.fuzz.target import METHODS, Target, request_class
from tests.integration.queue_server.wire_client import Client, fields_of, read, read_delivery


def encoded(method: MethodDescriptor) -> st.SearchStrategy[bytes]:
    """A request of the method, encoded."""
    return messages(method.input_type).map(lambda message: message.SerializeToString())


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
async def test_bytes_that_are_no_request_are_an_invalid_argument(target: Target, method: MethodDescriptor) -> None:
    for raw in (b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0b", b"\x80" * 11, b"\x0a\x05ab", b"\xff" * 100_000):
        assert await target.send(method, raw) is grpc.StatusCode.INVALID_ARGUMENT, raw[:20]


@examples(60)
@given(data=st.data())
async def test_any_bytes_are_answered_properly(target: Target, data: st.DataObject) -> None:
    method = data.draw(st.sampled_from(METHODS))
    requests = data.draw(st.lists(st.binary(max_size=200) | damaged(encoded(method)), min_size=1, max_size=3))
    await target.send(method, *(requests if method.client_streaming else requests[:1]))
    await target.check()


@examples(150)
@given(data=st.data())
async def test_any_values_in_the_fields_are_answered_properly(target: Target, data: st.DataObject) -> None:
    method = data.draw(st.sampled_from(METHODS))
    requests = data.draw(st.lists(encoded(method), min_size=1, max_size=3))
    await target.send(method, *(requests if method.client_streaming else requests[:1]))
    await target.check()


LONG_NAMES = ["\U0010ffff" * 250, "\0" * 5000, "x" * 1_000_000, "\n\r\t" * 100, "ü" * 100_000]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
async def test_a_name_however_long_and_strange_is_refused_by_name(target: Target, method: MethodDescriptor) -> None:
    for name in LONG_NAMES:
        for field in ("topic", "group", "page_token", "producer_id"):
            for request in with_text(method, field, name):
                assert await target.send(method, request) is grpc.StatusCode.INVALID_ARGUMENT, (name[:10], field)


def with_text(method: MethodDescriptor, field: str, name: str) -> Iterator[bytes]:
    """The method's request with this in its field, if it has one that refuses a call."""
    if method.name in ("Publish", "Ack"):
        return
    request = request_class(method)()
    if isinstance(request, queue_pb2.SubscribeRequest):
        request.start.topics.append("t")
        if field == "group":
            request.start.group = name
        elif field == "topic":
            request.start.topics.append(name)
        else:
            return
    elif isinstance(request, admin.CreateTopicRequest | admin.UpdateTopicRequest):
        request.topic.name = name
    elif field in method.input_type.fields_by_name:
        if isinstance(request, admin.DescribeProducerRequest) and field != "topic":
            request.topic = "t"
        setattr(request, field, name)
    else:
        return
    yield request.SerializeToString()


async def test_the_largest_numbers_of_a_producer_are_kept_and_larger_ones_refused(target: Target) -> None:
    most = (1 << 63) - 1
    await target.client.admin.CreateTopic(admin.CreateTopicRequest(topic=admin.Topic(name="t")))
    request = target.client.request("t", b"last", producer_id="p", partition=0)

    async def publish(client: Client, epoch: int, sequence: int) -> queue_pb2.PublishResponse:
        request.producer_epoch, request.first_sequence = epoch, sequence
        call = client.queue.Publish()
        await call.write(request)
        await call.done_writing()
        return await read(call)

    for number in (most + 1, (1 << 64) - 1):
        assert fields_of((await publish(target.client, number, 0)).error) == ["producer_epoch"]
        assert fields_of((await publish(target.client, 0, number)).error) == ["first_sequence"]
    assert (await publish(target.client, most, most)).receipt.base_offset == 0
    await target.client.admin.PurgeTopic(admin.PurgeTopicRequest(topic="t"))
    known = admin.DescribeProducerRequest(topic="t", producer_id="p")
    (position,) = (await target.client.admin.DescribeProducer(known)).positions
    assert (position.producer_epoch, position.last_sequence) == (most, most)
    async with target.restarted() as client:
        assert (await publish(client, most, most)).receipt.duplicate, "it is known after a restart too"


# A conversation that ends at any point

ACK, NACK = queue_pb2.ACK_OUTCOME_ACK, queue_pb2.ACK_OUTCOME_NACK
EXTEND, TERMINATE = queue_pb2.ACK_OUTCOME_EXTEND, queue_pb2.ACK_OUTCOME_TERMINATE
Step = Callable[[], Awaitable[object]]


class Conversation:
    """What publisher and subscriber say to a queue, step by step."""

    def __init__(self, client: Client) -> None:
        queue, self._request = client.queue, client.request
        self.publish, self.subscribe, self.ack = queue.Publish(), queue.Subscribe(), queue.Ack()
        self._delivery = queue_pb2.Delivery()
        self.steps: list[Step] = [
            lambda: self._send_batch(b"one", b"two", b"three"),
            lambda: read(self.publish),
            self._begin,
            lambda: read(self.subscribe),
            self._take,
            lambda: self._settle(EXTEND),
            lambda: read(self.ack),
            lambda: self._send_batch(*[b"x" * 1000] * 1000),
            lambda: self._settle(NACK),
            lambda: read(self.ack),
            lambda: self._flow(messages=500),
            self._take,
            lambda: self._settle(TERMINATE),
            lambda: self._flow(messages=500, bytes=1),
            self._take,
            lambda: self._settle(ACK),
            lambda: read(self.ack),
            lambda: read(self.ack),
            lambda: read(self.publish),
        ]

    @property
    def calls(self) -> list[grpc.aio.StreamStreamCall[Any, Any]]:
        return [self.publish, self.subscribe, self.ack]

    async def _send_batch(self, *data: bytes) -> None:
        await self.publish.write(self._request("t", *data))

    async def _begin(self) -> None:
        flow = queue_pb2.SubscribeFlow(messages=2)
        start = queue_pb2.SubscribeStart(topics=["t"], group="g", flow=flow)
        await self.subscribe.write(queue_pb2.SubscribeRequest(start=start))

    async def _flow(self, **permits: int) -> None:
        await self.subscribe.write(queue_pb2.SubscribeRequest(flow=queue_pb2.SubscribeFlow(**permits)))

    async def _take(self) -> None:
        self._delivery = await read_delivery(self.subscribe)

    async def _settle(self, outcome: queue_pb2.AckOutcome.ValueType) -> None:
        entry = queue_pb2.AckEntry(delivery_id=self._delivery.delivery_id, outcome=outcome)
        await self.ack.write(queue_pb2.AckRequest(entries=[entry]))


async def converse(target: Target, point: int, ending: str) -> bool:
    """Have the conversation up to a point and end it there. Returns whether there was more to say."""
    async with target.stranger() as client:
        talk = Conversation(client)
        for step in talk.steps[:point]:
            await step()
        if "closed" in ending:
            for call in talk.calls:
                await call.done_writing()
        if ending == "half-closed":
            # Publish and Ack end when all is answered; a subscription may still wait for its deliveries' outcomes.
            for call in (talk.publish, talk.ack):
                assert await target.drained(call) is grpc.StatusCode.OK
        if ending != "disconnected":
            for call in talk.calls:
                call.cancel()
    return point < len(talk.steps)


@pytest.mark.parametrize("ending", ["cancelled", "half-closed", "closed and cancelled", "disconnected"])
async def test_streams_may_end_at_any_point_of_a_conversation(target: Target, ending: str) -> None:
    point = 0
    while await converse(target, point, ending):
        await target.check()
        await target.check_nothing_is_open()
        point += 1
    assert point == 19
