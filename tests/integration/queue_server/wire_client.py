"""A client that speaks the public contract with the generated stubs, and nothing of ours."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, TypeVar, cast

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from telemetry.v1 import queue_pb2
from telemetry.v1.queue_admin_pb2_grpc import QueueAdminServiceStub
from telemetry.v1.queue_pb2_grpc import QueueServiceStub

Response = TypeVar("Response")
PublishCall = grpc.aio.StreamStreamCall[queue_pb2.PublishRequest, queue_pb2.PublishResponse]
SubscribeCall = grpc.aio.StreamStreamCall[queue_pb2.SubscribeRequest, queue_pb2.SubscribeResponse]
AckCall = grpc.aio.StreamStreamCall[queue_pb2.AckRequest, queue_pb2.AckResponse]


class Client:
    """What the tests say to a queue. Nothing here knows more than the public contract."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.queue = QueueServiceStub(channel)
        self.admin = QueueAdminServiceStub(channel)

    @staticmethod
    def request(topic: str, *data: bytes | queue_pb2.Message, **fields: Any) -> queue_pb2.PublishRequest:
        """A request to publish messages, or messages with this data."""
        messages = [each if isinstance(each, queue_pb2.Message) else queue_pb2.Message(data=each) for each in data]
        return queue_pb2.PublishRequest(topic=topic, batch=queue_pb2.MessageBatch(messages=messages), **fields)

    async def publish(self, topic: str, *data: bytes | queue_pb2.Message, **fields: Any) -> queue_pb2.PublishReceipt:
        """Store one batch and return its receipt."""
        call = self.queue.Publish()
        await call.write(self.request(topic, *data, **fields))
        await call.done_writing()
        response = await read(call)
        assert response.WhichOneof("result") == "receipt", response.error
        assert await call.code() is grpc.StatusCode.OK
        return response.receipt

    async def subscribe(self, *topics: str, messages: int = 1000, **start: Any) -> SubscribeCall:
        """Open a subscription and read its `started`."""
        call = self.queue.Subscribe()
        flow = queue_pb2.SubscribeFlow(messages=messages)
        begin = queue_pb2.SubscribeStart(topics=topics, flow=flow, **start)
        await call.write(queue_pb2.SubscribeRequest(start=begin))
        first = await read(call)
        assert first.HasField("started")
        return call

    async def settle(
        self, *delivery_ids: str, outcome: queue_pb2.AckOutcome.ValueType = queue_pb2.ACK_OUTCOME_ACK, **entry: Any
    ) -> list[queue_pb2.AckStatus.ValueType]:
        """Settle deliveries in one request and return the status of each."""
        call = self.queue.Ack()
        entries = [queue_pb2.AckEntry(delivery_id=each, outcome=outcome, **entry) for each in delivery_ids]
        await call.write(queue_pb2.AckRequest(entries=entries))
        await call.done_writing()
        response = await read(call)
        assert not response.HasField("error"), response.error
        assert [each.delivery_id for each in response.results] == list(delivery_ids)
        return [each.status for each in response.results]

    async def bury(self, topic: str, *data: bytes | queue_pb2.Message, group: str = "readers") -> None:
        """Publish messages and have a group give them up."""
        for each in data:
            await self.publish(topic, each)
        call = await self.subscribe(topic, group=group)
        for _ in data:
            delivery = await read_delivery(call)
            await self.settle(delivery.delivery_id, outcome=queue_pb2.ACK_OUTCOME_TERMINATE, reason="no good")
        call.cancel()

    async def health(self, service: str = "") -> int:
        """The health of a service."""
        stub: Any = health_pb2_grpc.HealthStub(self.channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        status: int = answer.status
        return status


async def read(call: grpc.aio.StreamStreamCall[Any, Response]) -> Response:
    """The next response of a stream, which must not be its end."""
    async with asyncio.timeout(20):
        response = await call.read()
    assert response is not grpc.aio.EOF, "the stream has ended"
    return cast("Response", response)


async def read_delivery(call: SubscribeCall) -> queue_pb2.Delivery:
    """The next response of a subscription, which must be a delivery."""
    response = await read(call)
    assert response.WhichOneof("response") == "delivery", response
    return response.delivery


async def ending(call: grpc.aio.Call) -> tuple[grpc.StatusCode, status_pb2.Status]:
    """How a call ends, and with what details; what it has not read before then is passed over."""
    async with asyncio.timeout(20):
        if isinstance(call, grpc.aio.StreamStreamCall | grpc.aio.UnaryStreamCall):
            with contextlib.suppress(grpc.aio.AioRpcError):
                while await call.read() is not grpc.aio.EOF:
                    pass
        code = await call.code()
        error = grpc.aio.AioRpcError(
            code, await call.initial_metadata(), await call.trailing_metadata(), await call.details()
        )
    return code, status_of(error)


def status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    """What an error carries."""
    status: status_pb2.Status | None = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has what is needed
    return status or status_pb2.Status(code=error.code().value[0], message=error.details() or "")


def fields_of(status: status_pb2.Status) -> list[str]:
    """The fields that a status names in its details."""
    named = []
    for detail in status.details:
        bad, failed = error_details_pb2.BadRequest(), error_details_pb2.PreconditionFailure()
        if detail.Unpack(bad):
            named += [violation.field for violation in bad.field_violations]
        elif detail.Unpack(failed):
            named += [violation.subject for violation in failed.violations]
    return named
