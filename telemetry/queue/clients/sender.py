"""The background task of a publisher: keeps a Publish stream open while there is something to send."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import grpc
from prometheus_client import Counter

from telemetry.queue import wire_pb2
from telemetry.queue.clients.accumulator import Accumulator
from telemetry.queue.clients.backoff import Backoff
from telemetry.queue.clients.errors import QueueClientError, QueueUnavailableError, error_from_status
from telemetry.queue.clients.outbox import Outbox, Send
from telemetry.queue.clients.streams import run_streams, wait_until
from telemetry.queue.clients.topics import Topics
from telemetry.queue.core.types import Receipt
from telemetry.v1 import queue_pb2

log = logging.getLogger(__name__)

RECONNECTS = Counter("telemetry_queue_publisher_reconnects_total", "Attempts to open a Publish stream again.")

_METHOD: Final = "/telemetry.v1.QueueService/Publish"

_HOPELESS: Final = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"})
"""Ends of a stream after which what waits is failed instead of sent again. Later messages are tried anew."""


class Sender:
    """Moves batches from the accumulator through the outbox to the queue, and answers back into the outbox."""

    def __init__(
        self, channel: grpc.aio.Channel, producer_id: str, accumulator: Accumulator, outbox: Outbox, topics: Topics
    ) -> None:
        """Prepare to send; nothing is opened before there is something to send."""
        self._publish: grpc.aio.StreamStreamMultiCallable[wire_pb2.PublishRequest, queue_pb2.PublishResponse] = (
            channel.stream_stream(
                _METHOD,
                request_serializer=wire_pb2.PublishRequest.SerializeToString,
                response_deserializer=queue_pb2.PublishResponse.FromString,
            )
        )
        self._producer_id = producer_id
        self._accumulator = accumulator
        self._outbox = outbox
        self._topics = topics
        self._work = asyncio.Event()
        self._stuck = asyncio.Event()
        self._now = asyncio.get_running_loop().time
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        self._tasks = [asyncio.create_task(self._run(), name="publish"), asyncio.create_task(self._expire())]

    def wake(self) -> None:
        """Say that there is something new to send, or to send later."""
        self._work.set()

    async def stop(self) -> None:
        """Drop the stream; what is in flight stays in the outbox."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self) -> None:
        backoff = Backoff()
        await self._work.wait()
        await self._stream_once(backoff)
        while True:
            wait_s = backoff.next_s()
            log.warning("no stream to the queue", extra={"error": self._outbox.trouble, "retry_s": round(wait_s, 3)})
            await asyncio.sleep(wait_s)
            RECONNECTS.inc()
            await self._stream_once(backoff, restore=True)

    async def _stream_once(self, backoff: Backoff, *, restore: bool = False) -> None:
        problem: QueueClientError = QueueUnavailableError("the queue does not answer")
        try:
            if restore:
                await self._topics.restore()
            call = self._publish()
            await run_streams([call], self._write(call), self._read(call, backoff), self._stuck_stream())
        except QueueClientError as error:
            problem = error
        except Exception:
            log.exception("publishing failed unexpectedly")
            problem = QueueUnavailableError("an unexpected error; the log says more")
        self._outbox.take_back_all()
        self._outbox.trouble = problem.message
        if problem.code in _HOPELESS:
            self._outbox.fail_all(problem)

    async def _write(self, call: grpc.aio.StreamStreamCall[wire_pb2.PublishRequest, queue_pb2.PublishResponse]) -> None:
        while True:
            self._work.clear()
            now = self._now()
            for batch in self._accumulator.close_due(now, self._outbox.is_idle):
                self._outbox.add(batch)
            while (send := self._outbox.next_send(now)) is not None:
                await call.write(self._encode(send))
            times = (self._accumulator.next_due_at(), self._outbox.next_retry_at())
            await wait_until(self._work, min((at for at in times if at is not None), default=None))

    async def _read(
        self,
        call: grpc.aio.StreamStreamCall[wire_pb2.PublishRequest, queue_pb2.PublishResponse],
        backoff: Backoff,
    ) -> None:
        async for response in call:
            backoff.reset()
            self._outbox.trouble = ""
            self._outbox.answer(response.request_id, _outcome(response), self._now())
            self._work.set()
        raise QueueUnavailableError("the queue has ended the stream")

    async def _stuck_stream(self) -> None:
        self._stuck.clear()
        await self._stuck.wait()

    async def _expire(self) -> None:
        # A batch expires a fixed time after it was accepted: nothing accepted during a sleep is due before its end.
        while (timeout_s := self._outbox.delivery_timeout_s) is not None:
            due_at = self._outbox.next_expiry_at()
            await asyncio.sleep(timeout_s if due_at is None else due_at - self._now())
            for batch in self._accumulator.close_due(self._now(), self._outbox.is_idle):
                self._outbox.add(batch)
            if self._outbox.expire(self._now()):
                self._stuck.set()

    def _encode(self, send: Send) -> wire_pb2.PublishRequest:
        return wire_pb2.PublishRequest(
            request_id=send.request_id,
            topic=send.batch.topic,
            partition=send.batch.partition,
            batch=send.batch.encoded,
            producer_id=self._producer_id,
            producer_epoch=send.epoch,
            first_sequence=send.first_sequence,
        )


def _outcome(response: queue_pb2.PublishResponse) -> Receipt | QueueClientError:
    if response.HasField("error"):
        return error_from_status(response.error)
    receipt = response.receipt
    offset = receipt.base_offset if receipt.HasField("base_offset") else None
    return Receipt(receipt.partition, offset, receipt.duplicate)
