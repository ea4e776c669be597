"""QueueService: Publish and Ack as pipelines of requests, Subscribe as a session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import grpc

from telemetry.queue import wire_pb2
from telemetry.queue.core.errors import ClosedError, QueueError
from telemetry.queue.core.types import AckStatus
from telemetry.queue.engines.engine import QueueEngine
from telemetry.queue.services.open_streams import OpenStreams
from telemetry.queue.services.pipeline import Pipeline
from telemetry.queue.services.rights import require
from telemetry.queue.services.seal import Seal
from telemetry.queue.services.subscription_stream import serve_subscription
from telemetry.queue.validation.ack import ack_entries
from telemetry.queue.validation.publish import publish_batch
from telemetry.runtime.grpc_tokens import PermissionDeniedError
from telemetry.runtime.status import to_status
from telemetry.runtime.tokens import Right
from telemetry.v1 import queue_pb2

_ACK_ENTRY_BYTES = 256
"""About what an entry of an AckRequest occupies on top of its own bytes."""

_RESPONSE_BYTES = 512
"""About what a response occupies, and each of the results in it as much as an entry."""

_ACK_STATUS = {
    AckStatus.OK: queue_pb2.ACK_STATUS_OK,
    AckStatus.STALE: queue_pb2.ACK_STATUS_STALE,
    AckStatus.UNKNOWN: queue_pb2.ACK_STATUS_UNKNOWN,
}


class QueueService:
    """Serves `telemetry.v1.QueueService` from an engine. The methods are named as the RPCs."""

    def __init__(self, engine: QueueEngine, seal: Seal | None = None) -> None:
        self._engine = engine
        self._seal = seal
        self._limits = engine.limits
        self.publishes: Pipeline[wire_pb2.PublishRequest, queue_pb2.PublishResponse] = Pipeline(
            self._publish, lambda request: request.ByteSize(), lambda response: _RESPONSE_BYTES
        )
        self.acks: Pipeline[queue_pb2.AckRequest, queue_pb2.AckResponse] = Pipeline(
            self._ack,
            lambda request: request.ByteSize() + len(request.entries) * _ACK_ENTRY_BYTES,
            lambda response: _RESPONSE_BYTES + len(response.results) * _ACK_ENTRY_BYTES,
        )
        self.subscriptions = OpenStreams()

    @property
    def connections(self) -> int:
        """Open Publish, Subscribe and Ack streams."""
        return len(self.publishes.streams) + len(self.subscriptions) + len(self.acks.streams)

    async def wait_idle(self) -> None:
        """Wait until no request is in progress, also of streams that broke off."""
        await self.publishes.wait_idle()
        await self.acks.wait_idle()

    async def Publish(  # noqa: N802
        self,
        requests: AsyncIterator[wire_pb2.PublishRequest],
        context: grpc.aio.ServicerContext[wire_pb2.PublishRequest, queue_pb2.PublishResponse],
    ) -> None:
        """Store batches."""
        await self.publishes.serve(requests, context)

    async def Ack(  # noqa: N802
        self,
        requests: AsyncIterator[queue_pb2.AckRequest],
        context: grpc.aio.ServicerContext[queue_pb2.AckRequest, queue_pb2.AckResponse],
    ) -> None:
        """Settle deliveries."""
        await self.acks.serve(requests, context)

    async def Subscribe(  # noqa: N802
        self,
        requests: AsyncIterator[queue_pb2.SubscribeRequest],
        context: grpc.aio.ServicerContext[queue_pb2.SubscribeRequest, wire_pb2.SubscribeResponse],
    ) -> None:
        """Hand out messages."""
        await serve_subscription(self._engine, self.subscriptions, requests, context, self._seal)

    async def _publish(self, request: wire_pb2.PublishRequest) -> queue_pb2.PublishResponse:
        response = queue_pb2.PublishResponse(request_id=request.request_id)
        try:
            batch = publish_batch(request, self._limits)
            require(Right.PUBLISH, batch.topic)
            del request  # or its bytes would be held twice for as long as the disk takes
            receipt = await self._engine.publish(batch)
        except ClosedError:
            raise
        except (QueueError, PermissionDeniedError) as error:
            response.error.CopyFrom(to_status(error))
        else:
            response.receipt.partition = receipt.partition
            response.receipt.duplicate = receipt.duplicate
            if receipt.base_offset is not None:
                response.receipt.base_offset = receipt.base_offset
        return response

    async def _ack(self, request: queue_pb2.AckRequest) -> queue_pb2.AckResponse:
        response = queue_pb2.AckResponse(request_id=request.request_id)
        try:
            entries = ack_entries(request)
            if self._seal is not None:
                entries = [replace(entry, delivery_id=self._seal.opened(entry.delivery_id)) for entry in entries]
            statuses = await self._engine.ack(entries)
        except ClosedError:
            raise
        except QueueError as error:
            response.error.CopyFrom(to_status(error))
        else:
            for entry, status in zip(request.entries, statuses, strict=True):
                response.results.add(delivery_id=entry.delivery_id, status=_ACK_STATUS[status])
        return response
