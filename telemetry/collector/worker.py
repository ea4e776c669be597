"""One member of the collectors' group: receives, reads in a thread, and hands on to the writer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from telemetry.collector.intake import Intake, read, stored_through
from telemetry.collector.topics import Topics
from telemetry.collector.writer import Waiting, Writer
from telemetry.queue.client import (
    Credentials,
    MissedMessages,
    PartitionsAssigned,
    PartitionsRevoked,
    QueueClientError,
    ReceivedDelivery,
    Subscriber,
)
from telemetry.queue.client import TopicPartition as QueuePartition
from telemetry.queue.clients.backoff import Backoff
from telemetry.storage.store import Store, TopicPartition
from telemetry.topics import DATA_TOPIC, QUARANTINE_TOPIC

log = logging.getLogger(__name__)

MAX_DELIVER: Final = 1000
"""Attempts before a message becomes a dead letter. Collectors quarantine what they cannot read; only crashes count."""


class Worker:
    """Receives the partitions that the queue assigns to it.

    When :meth:`run` is cancelled, acks still go out; :meth:`close` leaves the group.
    """

    def __init__(
        self,
        address: str,
        member: str,
        group: str,
        *,
        topics: Topics,
        store: Store,
        writer: Writer,
        threads: ThreadPoolExecutor,
        permits_bytes: int,
        credentials: Credentials | None = None,
    ) -> None:
        """Describe the member; :meth:`run` receives."""
        self._address, self._member, self._group = address, member, group
        self._topics, self._store, self._writer, self._threads = topics, store, writer, threads
        self._permits_bytes = permits_bytes
        self._credentials = credentials
        self._subscriber: Subscriber | None = None
        self._created_us: dict[str, int] = {}
        self.trouble = ""
        """Why the queue does not let this worker receive; empty while it does."""

    async def run(self) -> None:
        """Receive until cancelled. A subscription that the queue refuses is tried again."""
        backoff = Backoff()
        while True:
            try:
                await self._topics.ensure()
                self._subscriber = Subscriber(
                    self._address,
                    topics=[DATA_TOPIC, QUARANTINE_TOPIC],
                    group=self._group,
                    member=self._member,
                    mode="ordered",
                    max_deliver=MAX_DELIVER,
                    permits_bytes=self._permits_bytes,
                    credentials=self._credentials,
                )
                await self._subscriber.start()
                await self._subscriber.wait_started()
                self.trouble = ""
                backoff.reset()
                async for event in self._subscriber:
                    await self._on_event(event)
            except QueueClientError as error:
                self.trouble = error.message
            await self.close()
            wait_s = backoff.next_s()
            log.warning("subscribing again", extra={"error": self.trouble, "retry_s": round(wait_s, 3)})
            await asyncio.sleep(wait_s)

    async def close(self) -> None:
        """Leave the group when the acks on their way are answered."""
        if self._subscriber is not None:
            await self._subscriber.aclose()

    async def _on_event(
        self, event: ReceivedDelivery | PartitionsAssigned | PartitionsRevoked | MissedMessages
    ) -> None:
        match event:
            case ReceivedDelivery():
                await self._take(event)
            case PartitionsAssigned(partitions):
                for topic in {partition.topic for partition in partitions}:
                    self._created_us[topic] = await self._topics.created_us(topic)
                log.info("partitions assigned", extra={"member": self._member, "partitions": _text(partitions)})
            case PartitionsRevoked(partitions):
                log.info("partitions revoked", extra={"member": self._member, "partitions": _text(partitions)})
            case MissedMessages():
                raise AssertionError("only an ephemeral subscription misses messages")

    async def _take(self, delivery: ReceivedDelivery) -> None:
        created_us = self._created_us[delivery.topic]
        partition = TopicPartition(delivery.topic, delivery.partition)
        done = stored_through(self._store.positions(), partition, created_us)
        contents = await asyncio.get_running_loop().run_in_executor(self._threads, read, delivery, done)
        await self._writer.submit(Waiting(Intake(delivery, created_us, contents), delivery))


def _text(partitions: Sequence[QueuePartition]) -> str:
    return " ".join(f"{each.topic}/{each.partition}" for each in partitions)
