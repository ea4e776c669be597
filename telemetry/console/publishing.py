"""Publishes what the command line, files or standard input hold, and says where each message is stored."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from telemetry.queue.client import OutgoingMessage, Publisher, QueueClientError, Receipt, RefusedError

BATCH_MESSAGES: Final = 500
"""The most messages in a request to a named partition, and accepted in one go."""
BATCH_BYTES: Final = 1 << 20
"""The most bytes in such a request, unless a single message is larger."""
REQUESTS_MAX: Final = 16
"""The most such requests under way."""

Outcome = Receipt | QueueClientError
Done = Callable[[Outcome], None]
OnOutcome = Callable[[int, Outcome], None]
"""Called once a message, in the order of the messages, with its number from 0 and what became of it."""


@dataclass(frozen=True, slots=True)
class Label:
    """What all messages of a command have in common."""

    ordering_key: str | None = None
    partition: int | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


class InOrder:
    """Passes on outcomes in the order in which their messages were begun."""

    def __init__(self, on_outcome: OnOutcome) -> None:
        self._on_outcome = on_outcome
        self._waiting: deque[list[Outcome]] = deque()
        self._passed = 0
        self.trouble: QueueClientError | None = None
        """Why going on makes no sense: an error that is not about a single message."""

    def begin(self) -> Done:
        """Begin the next message; call what is returned with its outcome."""
        place: list[Outcome] = []
        self._waiting.append(place)

        def done(outcome: Outcome) -> None:
            if isinstance(outcome, QueueClientError) and not isinstance(outcome, RefusedError):
                self.trouble = self.trouble or outcome
            place.append(outcome)
            while self._waiting and self._waiting[0]:
                self._on_outcome(self._passed, self._waiting.popleft()[0])
                self._passed += 1

        return done


async def publish_all(
    publisher: Publisher, topic: str, data: AsyncIterable[Sequence[bytes]], label: Label, on_outcome: OnOutcome
) -> None:
    """Publish all of ``data``. A message that the queue refuses stops nothing.

    Whatever was accepted has its outcome when this ends, also when it is cancelled.

    Raises:
        QueueClientError: if the queue is not there, so that going on makes no sense.
    """
    order = InOrder(on_outcome)
    requests: set[asyncio.Task[None]] = set()
    try:
        async for several in data:
            messages = [OutgoingMessage(one, label.attributes, label.ordering_key) for one in several]
            if label.partition is None:
                await _send(publisher, topic, messages, order)
            else:
                await _send_to_partition(publisher, topic, messages, label.partition, order, requests)
            if order.trouble:
                break
    finally:
        await publisher.flush()
        await asyncio.gather(*requests)
    if order.trouble:
        raise order.trouble


async def _send(publisher: Publisher, topic: str, messages: Sequence[OutgoingMessage], order: InOrder) -> None:
    for message in messages:
        if order.trouble:
            return
        done = order.begin()
        try:
            await publisher.send(topic, message.data, message.attributes, message.ordering_key, on_done=done)
        except QueueClientError as error:
            done(error)


async def _send_to_partition(
    publisher: Publisher,
    topic: str,
    messages: Sequence[OutgoingMessage],
    partition: int,
    order: InOrder,
    requests: set[asyncio.Task[None]],
) -> None:
    for batch in batches(messages):
        while len(requests) >= REQUESTS_MAX:
            await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
        done = [order.begin() for _ in batch]
        task = asyncio.create_task(_request(publisher, topic, batch, partition, done))
        requests.add(task)
        task.add_done_callback(requests.discard)


async def _request(
    publisher: Publisher, topic: str, batch: Sequence[OutgoingMessage], partition: int, done: Sequence[Done]
) -> None:
    try:
        receipt = await publisher.publish_batch(topic, batch, partition=partition)
    except QueueClientError as error:
        for one in done:
            one(error)
    else:
        for index, one in enumerate(done):
            offset = None if receipt.base_offset is None else receipt.base_offset + index
            one(Receipt(receipt.partition, offset, receipt.duplicate))


def batches(messages: Sequence[OutgoingMessage]) -> Iterator[Sequence[OutgoingMessage]]:
    """Cut messages into what fits into a request; a large message is alone."""
    first = size = 0
    for index, message in enumerate(messages):
        if index > first and (index - first >= BATCH_MESSAGES or size + message.size > BATCH_BYTES):
            yield messages[first:index]
            first, size = index, 0
        size += message.size
    if first < len(messages):
        yield messages[first:]
