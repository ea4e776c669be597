"""One session of a subscriber: a Subscribe and an Ack stream that live and die together.

When either breaks, the queue returns the session's deliveries to the group, so every later outcome for them is STALE.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

import grpc

from telemetry.queue import wire_pb2
from telemetry.queue.clients.acks import ENTRIES_MAX, Acks
from telemetry.queue.clients.errors import QueueClientError, QueueUnavailableError
from telemetry.queue.clients.events import (
    Event,
    MissedMessages,
    PartitionsAssigned,
    PartitionsRevoked,
    ReceivedDelivery,
    Settlement,
)
from telemetry.queue.clients.inbox import Inbox
from telemetry.queue.clients.leases import Leases
from telemetry.queue.clients.permits import Permits
from telemetry.queue.clients.streams import run_streams, wait_until
from telemetry.queue.core.types import AckStatus, Outcome, TopicPartition
from telemetry.v1 import queue_pb2, queue_pb2_grpc

log = logging.getLogger(__name__)

ACK_LINGER_S: Final = 0.005
"""How long outcomes gather while a request is unanswered."""
PERMIT_LINGER_S: Final = 1.0
"""How long permits gather, unless so many come back that the queue should know at once."""
ANSWER_S_MAX: Final = 60.0
"""How long the queue may take to answer acks before the session is given up."""

_METHOD: Final = "/telemetry.v1.QueueService/Subscribe"


class Session:
    """Reads deliveries into an inbox, extends their leases, sends outcomes, and gives permits back."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        start: queue_pb2.SubscribeStart,
        inbox: Inbox,
        on_stale: Callable[[ReceivedDelivery], None],
    ) -> None:
        """Prepare a session; :meth:`run` opens it. ``on_stale`` is called for every outcome that came too late."""
        self._channel = channel
        self._start = start
        self._inbox = inbox
        self._on_stale = on_stale
        self._ephemeral = not start.group
        self._permits = Permits(start.flow.messages, start.flow.bytes)
        self._acks = Acks()
        self._leases = Leases(ack_wait_s=30.0)
        self._unsettled: dict[str, ReceivedDelivery] = {}
        self._leaving = self._drained = False
        self.started_at: float | None = None
        """When the queue took it up, on the loop's clock."""
        self.has_delivered = False
        """Whether any delivery has come."""
        self._ack_work, self._permit_work, self._lease_work, self._progress = (asyncio.Event() for _ in range(4))
        self._permits_urgent = asyncio.Event()
        self._now = asyncio.get_running_loop().time

    async def run(self, on_started: Callable[[queue_pb2.SubscribeStarted], None], on_event: Callable[[], None]) -> None:
        """Be a member until the session ends; returns when it was left or drained.

        Raises:
            QueueClientError: if it was ended otherwise.
        """
        subscribe: grpc.aio.StreamStreamMultiCallable[queue_pb2.SubscribeRequest, wire_pb2.SubscribeResponse] = (
            self._channel.stream_stream(
                _METHOD,
                request_serializer=queue_pb2.SubscribeRequest.SerializeToString,
                response_deserializer=wire_pb2.SubscribeResponse.FromString,
            )
        )
        call = subscribe()
        calls: list[grpc.aio.Call] = [call]
        parts: list[Coroutine[Any, Any, None]] = [
            self._read(call, on_started, on_event),
            self._give_permits(call),
            self._finish(),
        ]
        if not self._ephemeral:
            ack_call = queue_pb2_grpc.QueueServiceStub(self._channel).Ack()
            calls.append(ack_call)
            parts += [self._write_acks(ack_call), self._read_acks(ack_call), self._extend(), self._check_answers()]
        try:
            await run_streams(calls, *parts)
        finally:
            for delivery in self._unsettled.values():
                delivery.lost = True
            self._unsettled.clear()
            self._acks.abandon()

    def leave(self) -> None:
        """End the session when the outcomes on their way are answered."""
        self._leaving = True
        self._progress.set()

    def settle(self, delivery: ReceivedDelivery, settlement: Settlement) -> asyncio.Future[AckStatus]:
        """Put an outcome on its way."""
        future: asyncio.Future[AckStatus] = asyncio.get_running_loop().create_future()
        if self._ephemeral:
            future.set_result(AckStatus.UNKNOWN)
            return future
        if delivery.delivery_id not in self._unsettled:
            self._on_stale(delivery)
            future.set_result(AckStatus.STALE)
            return future

        def answered(outcome: AckStatus | QueueClientError) -> None:
            self._forget(delivery)
            self._progress.set()
            if outcome is AckStatus.STALE:
                self._on_stale(delivery)
            if future.done():
                return
            if isinstance(outcome, QueueClientError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        self._acks.add(delivery.delivery_id, settlement, answered)
        self._ack_work.set()
        return future

    def handed_out(self, event: Event) -> None:
        """An event has left the inbox; in an ephemeral session that is all that ever happens to it."""
        if self._ephemeral and isinstance(event, ReceivedDelivery):
            self._give_back(event)

    async def _read(
        self,
        call: grpc.aio.StreamStreamCall[queue_pb2.SubscribeRequest, wire_pb2.SubscribeResponse],
        on_started: Callable[[queue_pb2.SubscribeStarted], None],
        on_event: Callable[[], None],
    ) -> None:
        async for response in call:
            kind = response.WhichOneof("response")
            if kind == "delivery":
                self._deliver(response.delivery)
            elif kind == "started":
                self.started_at = self._now()
                self._leases = Leases(response.started.ack_wait.ToNanoseconds() / 1e9)
                on_started(response.started)
            elif kind == "assigned":
                self._inbox.put(PartitionsAssigned(_partitions(response.assigned.partitions)))
            elif kind == "revoked":
                # What has come of them is still this member's to settle, and is handed out before this.
                self._inbox.put(PartitionsRevoked(_partitions(response.revoked.partitions)))
            elif kind == "gap":
                self._inbox.put(MissedMessages(response.gap.topic, response.gap.partition, response.gap.missed))
            elif kind == "drain":
                log.info("the queue asks to go elsewhere")
                self._drained = True
                self._progress.set()
            on_event()
        raise QueueUnavailableError("the queue has ended the subscription")

    def _deliver(self, wire: wire_pb2.Delivery) -> None:
        delivery = ReceivedDelivery(wire, self.settle)
        self.has_delivered = True
        if not self._ephemeral:
            self._unsettled[delivery.delivery_id] = delivery
            self._leases.add(delivery.delivery_id, self._now())
            self._lease_work.set()
        self._inbox.put(delivery)

    def _forget(self, delivery: ReceivedDelivery) -> None:
        if self._unsettled.pop(delivery.delivery_id, None) is not None:
            self._leases.discard(delivery.delivery_id)
            self._give_back(delivery)

    def _give_back(self, delivery: ReceivedDelivery) -> None:
        self._permits.give_back(len(delivery.messages), delivery.batch_bytes)
        self._permit_work.set()
        if self._permits.urgent:
            self._permits_urgent.set()

    async def _give_permits(
        self, call: grpc.aio.StreamStreamCall[queue_pb2.SubscribeRequest, wire_pb2.SubscribeResponse]
    ) -> None:
        await call.write(queue_pb2.SubscribeRequest(start=self._start))
        while True:
            await self._permit_work.wait()
            self._permit_work.clear()
            self._permits_urgent.clear()
            if not self._permits.urgent:
                await wait_until(self._permits_urgent, self._now() + PERMIT_LINGER_S)
            while self._permits.waiting:
                await call.write(queue_pb2.SubscribeRequest(flow=self._permits.take()))

    async def _write_acks(self, call: grpc.aio.StreamStreamCall[queue_pb2.AckRequest, queue_pb2.AckResponse]) -> None:
        while True:
            await self._ack_work.wait()
            self._ack_work.clear()
            if self._acks.in_flight and self._acks.waiting < ENTRIES_MAX:
                await asyncio.sleep(ACK_LINGER_S)
            while (request := self._acks.take(self._now())) is not None:
                await call.write(request)

    async def _read_acks(self, call: grpc.aio.StreamStreamCall[queue_pb2.AckRequest, queue_pb2.AckResponse]) -> None:
        async for response in call:
            self._acks.answer(response)
            if self._acks.waiting:
                self._ack_work.set()
        raise QueueUnavailableError("the queue has ended the ack stream")

    async def _extend(self) -> None:
        while True:
            self._lease_work.clear()
            for delivery_id in self._leases.take_due(self._now()):
                self._acks.add(delivery_id, Settlement(Outcome.EXTEND), self._extended(delivery_id))
                self._ack_work.set()
            await wait_until(self._lease_work, self._leases.next_due_at())

    def _extended(self, delivery_id: str) -> Callable[[AckStatus | QueueClientError], None]:
        def answered(outcome: AckStatus | QueueClientError) -> None:
            self._progress.set()
            if outcome is not AckStatus.OK:
                self._leases.discard(delivery_id)

        return answered

    async def _check_answers(self) -> None:
        while True:
            await asyncio.sleep(ANSWER_S_MAX / 4)
            oldest_at = self._acks.oldest_at()
            if oldest_at is not None and self._now() - oldest_at > ANSWER_S_MAX:
                raise QueueUnavailableError(f"the queue has not answered acks for {ANSWER_S_MAX:g} s")

    async def _finish(self) -> None:
        while not self._may_end():
            self._progress.clear()
            await self._progress.wait()

    def _may_end(self) -> bool:
        if self._acks.waiting or self._acks.in_flight:
            return False
        return self._leaving or (self._drained and not self._unsettled)


def _partitions(partitions: Iterable[queue_pb2.TopicPartition]) -> tuple[TopicPartition, ...]:
    return tuple(TopicPartition(one.topic, one.partition) for one in partitions)
