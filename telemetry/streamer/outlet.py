"""Publishes what one pass over a file yields: many requests in flight, bounded, each partition's in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import Final

from telemetry.codec import SOURCE
from telemetry.queue.client import OutgoingMessage, Publisher
from telemetry.runtime.trace import TRACEPARENT, span, trace_id
from telemetry.streamer.messages import (
    MESSAGE_BYTES_MAX,
    QUARANTINE_MESSAGES,
    Encoding,
    Sequences,
    Slice,
    quarantine_messages,
)
from telemetry.streamer.sources.lines import BadRow
from telemetry.streamer.stats import Counts
from telemetry.topics import QUARANTINE_TOPIC

log = logging.getLogger(__name__)

IN_FLIGHT_MAX: Final = 64
"""Requests that may be unconfirmed."""

Stored = Mapping[int, int]
"""The last sequence that the queue has, by partition."""


class Outlet:
    """Encodes, numbers and publishes. Use as ``async with``; leaving waits until everything is confirmed."""

    def __init__(
        self,
        publisher: Publisher,
        topic: str,
        encoding: Encoding,
        counts: Counts,
        pool: Executor,
        stored: tuple[Stored, Stored] | None = None,
    ) -> None:
        """Publish through ``publisher`` to ``topic`` and the quarantine.

        Args:
            publisher: an open publisher.
            topic: where records go.
            encoding: in what form.
            counts: what is confirmed is added here.
            pool: where records are encoded.
            stored: for a pass that is cut the same way each time, what the queue has of it, in ``topic`` and in the
                quarantine; only the rest is sent. ``None`` means that the messages are not numbered by us.
        """
        self._publisher = publisher
        self._topic = topic
        self._encoding = encoding
        self._counts = counts
        self._pool = pool
        self._numbered = stored is not None
        records, quarantine = stored or ({}, {})
        self._sequences = {topic: Sequences(records), QUARANTINE_TOPIC: Sequences(quarantine)}
        self._room = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Outlet:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._tasks.__aexit__(*error)  # type: ignore[arg-type]

    async def publish(self, slices: Sequence[Slice], source: str) -> None:
        """Encode slices side by side and publish them in order; returns when they are on their way."""
        loop = asyncio.get_running_loop()
        encoded = await asyncio.gather(
            *(loop.run_in_executor(self._pool, part.encode, self._encoding, source) for part in slices)
        )
        for part, messages in zip(slices, encoded, strict=True):
            requests = list(_requests(messages))
            for number, request in enumerate(requests):
                # The records of a slice are counted with its last request.
                await self._start(self._topic, request, part.partition, part if number == len(requests) - 1 else None)

    async def quarantine(self, rows: Sequence[BadRow], source: str, header: str) -> None:
        """Publish rows that cannot be read, with the line that names their columns."""
        self._counts.quarantined += len(rows)
        for start in range(0, len(rows), QUARANTINE_MESSAGES):
            messages = quarantine_messages(rows[start : start + QUARANTINE_MESSAGES], source, header)
            await self._start(QUARANTINE_TOPIC, messages, 0)

    async def _start(
        self, topic: str, messages: Sequence[OutgoingMessage], partition: int, part: Slice | None = None
    ) -> None:
        sequence = self._sequences[topic].take(partition, len(messages))
        if sequence is None:
            self._counts.skipped += len(messages)
            return
        await self._room.acquire()
        self._tasks.create_task(self._send(topic, messages, partition, sequence if self._numbered else None, part))

    async def _send(
        self,
        topic: str,
        messages: Sequence[OutgoingMessage],
        partition: int,
        sequence: int | None,
        part: Slice | None,
    ) -> None:
        source = messages[0].attributes.get(SOURCE, "")
        with span("publish", topic=topic, partition=partition, messages=len(messages), source=source) as context:
            traced = [message._replace(attributes={**message.attributes, TRACEPARENT: context}) for message in messages]
            try:
                await self._publisher.publish_batch(topic, traced, partition=partition, first_sequence=sequence)
            finally:
                self._room.release()
        log.debug("published", extra={"trace_id": trace_id(context), "source": source, "messages": len(messages)})
        self._counts.messages += len(messages)
        self._counts.bytes += sum(len(message.data) for message in messages)
        if part is not None:
            self._counts.records += part.records.height
            self._counts.samples += part.samples


def _requests(messages: Sequence[OutgoingMessage]) -> Iterator[list[OutgoingMessage]]:
    """Divide messages so that no request is too large."""
    request: list[OutgoingMessage] = []
    size = 0
    for message in messages:
        if request and size + message.size > MESSAGE_BYTES_MAX:
            yield request
            request, size = [], 0
        request.append(message)
        size += message.size
    if request:
        yield request
