"""Publishing to the queue: the façade over accumulator, outbox and sender."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Final

from telemetry.queue.clients.accumulator import Accumulator
from telemetry.queue.clients.batches import NO_ATTRIBUTES, Batch, DoneCallback, OutgoingMessage, encode_messages
from telemetry.queue.clients.errors import (
    ClientClosedError,
    DeliveryTimeoutError,
    InvalidRequestError,
    QueueClientError,
)
from telemetry.queue.clients.outbox import Outbox
from telemetry.queue.clients.sender import Sender
from telemetry.queue.clients.topics import ProducerPosition, Storage, Topics, topic_of
from telemetry.queue.clients.window import ByteWindow
from telemetry.queue.core.types import BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, Receipt
from telemetry.runtime.channel import open_channel
from telemetry.runtime.credentials import Credentials
from telemetry.v1 import queue_admin_pb2

CLOSE_TIMEOUT_S: Final = 30.0
"""How long closing waits for confirmations."""


class Publisher:
    """Publishes messages so that each is stored once, in order within its partition, whatever happens in between.

    A confirmed message is as durable as its topic promises. While the queue is away or full, messages wait and are
    sent again with the same sequence numbers. A message that the queue refuses fails alone; those behind it go on in
    the next epoch. An instance belongs to the event loop in which it was opened.

    Use as ``async with Publisher(address) as publisher``; leaving flushes.
    """

    def __init__(
        self,
        address: str,
        producer_id: str = "",
        producer_epoch: int | None = None,
        linger_s: float = 0.005,
        batch_messages: int = 500,
        batch_bytes: int = 1 << 20,
        window_bytes: int = 16 << 20,
        delivery_timeout_s: float | None = 120.0,
        credentials: Credentials | None = None,
    ) -> None:
        """Describe the publisher; :meth:`start` opens it.

        Args:
            address: the queue, ``host:port``.
            producer_id: who publishes, for idempotence across restarts; empty means someone new each time.
            producer_epoch: which incarnation of ``producer_id`` this is. ``None`` means one newer than the newest that
                the queue knows, for each topic. With the queue's own epoch, sequences go on where it stopped. After
                a refusal a partition goes on in the next epoch, unless the caller counts sequences.
            linger_s: how long a message waits for company, in seconds, while earlier ones of its partition are not
                confirmed. When there are none, it goes at once.
            batch_messages: the most messages in one request, 1 to 65536.
            batch_bytes: the most bytes in one request; a larger message travels alone. At most 8 MiB.
            window_bytes: the most bytes accepted and not yet confirmed; more must wait.
            delivery_timeout_s: how long after the call a message may go unconfirmed before it fails; ``None`` means
                until the publisher is closed.
            credentials: for a queue with TLS or tokens.
        """
        if not 1 <= batch_messages <= BATCH_MESSAGES_MAX:
            raise ValueError(f"batch_messages is {batch_messages}; it must be 1 to {BATCH_MESSAGES_MAX}")
        if not 1 <= batch_bytes <= BATCH_BYTES_MAX:
            raise ValueError(f"batch_bytes is {batch_bytes}; it must be 1 to {BATCH_BYTES_MAX}")
        if producer_epoch is not None and not producer_id:
            raise ValueError("producer_epoch needs a producer_id")
        self.producer_id: Final = producer_id or uuid.uuid4().hex
        self._known_producer = bool(producer_id)
        self._epoch = producer_epoch
        self._address = address
        self._credentials = credentials
        self._timeout_s = delivery_timeout_s
        self._window = ByteWindow(window_bytes)
        self._accumulator = Accumulator(batch_messages, batch_bytes, linger_s)
        self._outbox = Outbox(delivery_timeout_s, on_settled=lambda batch: self._window.leave(batch.size))
        self._turn = asyncio.Lock()  # it is fair: the order of calls is the order in the partition
        self._open = False

    async def start(self) -> None:
        """Open the publisher. It connects when there is something to publish."""
        self._channel = open_channel(self._address, self._credentials)
        self._topics = Topics(self._channel, self._timeout_s)
        self._sender = Sender(self._channel, self.producer_id, self._accumulator, self._outbox, self._topics)
        self._sender.start()
        self._loop = asyncio.get_running_loop()
        self._open = True

    async def publish(
        self,
        topic: str,
        data: bytes,
        attributes: Mapping[str, str] | None = None,
        ordering_key: str | None = None,
    ) -> Receipt:
        """Publish one message and wait until it is confirmed; ``base_offset`` of the receipt is its offset.

        Waits for room in the window first. Messages of concurrent calls share requests.

        Raises:
            QueueClientError: if it is not known to be stored.
        """
        future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        await self.send(topic, data, attributes, ordering_key, on_done=_resolve(future))
        return await future

    async def send(
        self,
        topic: str,
        data: bytes,
        attributes: Mapping[str, str] | None = None,
        ordering_key: str | None = None,
        on_done: DoneCallback = lambda outcome: None,
    ) -> None:
        """Accept one message, waiting for room in the window, and return without waiting for its confirmation.

        ``on_done`` is called once with the receipt or the error, from the event loop; it must not block.

        Raises:
            QueueClientError: if it was not accepted; ``on_done`` is not called then.
        """
        message = OutgoingMessage(data, attributes or NO_ATTRIBUTES, ordering_key)
        size = message.size
        if size > BATCH_BYTES_MAX:
            raise InvalidRequestError(f"a message of {size} bytes is larger than {BATCH_BYTES_MAX}", field="data")
        async with self._admission():
            partitions = await self._topics.partitions(topic)
            await self._open_topic(topic)
            await self._enter_window(size)
            full = self._accumulator.add(topic, partitions, message, on_done, self._loop.time())
            for batch in full:
                self._outbox.add(batch)
            self._sender.wake()
        if full:
            # While the window has room nothing above waits, and what was accepted could not go out.
            await asyncio.sleep(0)

    async def publish_batch(
        self, topic: str, messages: Sequence[OutgoingMessage], *, partition: int, first_sequence: int | None = None
    ) -> Receipt:
        """Publish messages as exactly one request to one partition and wait until it is confirmed.

        Several may be under way: those of tasks started one after another are stored in that order.

        Args:
            topic: where to.
            messages: 1 to 65536, together at most 8 MiB encoded.
            partition: the partition, from 0.
            first_sequence: the first message's sequence, when the caller counts; the others follow densely. At or below
                what the queue has, nothing is stored and the receipt is a ``duplicate``. Do not mix counted and
                uncounted batches in one partition.

        Raises:
            SequenceGapError: if ``first_sequence`` does not follow what the queue has, or a counted batch before it
                failed; :meth:`positions` says where to go on.
            QueueClientError: if the batch is not known to be stored.
        """
        if not 1 <= len(messages) <= BATCH_MESSAGES_MAX:
            raise InvalidRequestError(f"a batch has 1 to {BATCH_MESSAGES_MAX} messages", field="messages")
        data = encode_messages(messages)
        if len(data) > BATCH_BYTES_MAX:
            raise InvalidRequestError(
                f"a batch of {len(data)} bytes is larger than {BATCH_BYTES_MAX}", field="messages"
            )
        future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()

        async with self._admission():
            await self._open_topic(topic)
            await self._enter_window(len(data))
            done = (_resolve(future),)
            batch = Batch(topic, partition, data, len(messages), len(data), self._loop.time(), done, first_sequence)
            for earlier in self._accumulator.close(topic, partition):
                self._outbox.add(earlier)
            self._outbox.add(batch)
            self._sender.wake()
        return await future

    async def positions(self, topic: str) -> dict[int, ProducerPosition]:
        """How far this producer has come, by partition: its newest epoch and last sequence, as the queue has it."""
        self._check_open()
        return await self._topics.positions(topic, self.producer_id)

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has. One that is not there is made with the server's defaults."""
        self._check_open()
        return await self._topics.partitions(topic)

    async def ensure_topic(self, topic: str, partitions: int = 1, storage: Storage | None = None) -> int:
        """Make a topic as :meth:`ensure` does, with the server's defaults for all that is not said.

        Args:
            topic: its name.
            partitions: 1 to 1024.
            storage: ``disk``, ``memory``, or ``None`` for the engine's default.
        """
        return await self.ensure(topic_of(topic, partitions, storage))

    async def ensure(self, topic: queue_admin_pb2.Topic) -> int:
        """Make a topic unless it is there, again should the queue forget it; returns the partitions that it has."""
        self._check_open()
        return await self._topics.ensure(topic)

    async def flush(self) -> None:
        """Send what lingers, and wait until everything accepted before is confirmed or has failed."""
        settled = asyncio.Event()
        async with self._turn:
            for batch in self._accumulator.close_all():
                self._outbox.add(batch)
            self._sender.wake()
            unsettled = set(self._outbox.unsettled())

        def on_settled(batch: Batch) -> None:
            unsettled.discard(batch)
            if not unsettled:
                settled.set()

        for batch in unsettled:
            batch.watch(on_settled)
        if unsettled:
            await settled.wait()

    async def aclose(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Flush for at most ``timeout_s``; what is not confirmed by then fails with ClientClosedError."""
        if not self._open:
            return
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self.flush()
        finally:
            self._open = False
            await self._sender.stop()
            for batch in self._accumulator.close_all():
                self._outbox.add(batch)
            self._outbox.fail_all(ClientClosedError("the publisher was closed before this was confirmed"))
            await self._channel.close()

    async def __aenter__(self) -> Publisher:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @asynccontextmanager
    async def _admission(self) -> AsyncIterator[None]:
        """One call after another, in the order in which they were made, and none for longer than the timeout."""
        try:
            async with asyncio.timeout(self._timeout_s), self._turn:
                self._check_open()
                yield
        except TimeoutError:
            why = self._outbox.trouble or f"{self._window.used} bytes are not confirmed yet"
            raise DeliveryTimeoutError(f"not accepted within {self._timeout_s:g} s: {why}") from None

    async def _enter_window(self, size: int) -> None:
        await self._window.enter(size)
        if not self._open:  # closed while this was waiting
            self._window.leave(size)
            self._check_open()

    async def _open_topic(self, topic: str) -> None:
        if self._outbox.knows(topic):
            return
        positions = await self._topics.positions(topic, self.producer_id) if self._known_producer else {}
        newest = max((position.epoch for position in positions.values()), default=-1)
        epoch = newest + 1 if self._epoch is None else self._epoch
        following = {
            partition: position.last_sequence + 1
            for partition, position in positions.items()
            if position.epoch == epoch
        }
        self._outbox.open_topic(topic, epoch, following)

    def _check_open(self) -> None:
        if not self._open:
            raise ClientClosedError("the publisher is closed")


def _resolve(future: asyncio.Future[Receipt]) -> DoneCallback:
    def done(outcome: Receipt | QueueClientError) -> None:
        if future.done():  # whoever waited was cancelled
            return
        if isinstance(outcome, Receipt):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)

    return done
