"""What GPUs say: one ephemeral subscription to the topic `live`, for as long as the process runs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import grpc
from prometheus_client import Counter

from telemetry.live import LiveUpdate, decode_live_update
from telemetry.queue.client import (
    Credentials,
    Event,
    MissedMessages,
    Place,
    QueueAdmin,
    QueueClientError,
    ReceivedDelivery,
    RefusedError,
    Subscriber,
)
from telemetry.runtime.channel import open_channel
from telemetry.topics import LIVE, LIVE_TOPIC

log = logging.getLogger(__name__)

UPDATES: Final = Counter("telemetry_alerts_updates_total", "Live updates received.")
UNREADABLE: Final = Counter("telemetry_alerts_updates_unreadable_total", "Live updates that could not be read.")
MISSED: Final = Counter("telemetry_alerts_updates_missed_total", "Live updates that passed by or waited too long.")

RETRY_S: Final = 1.0
"""How long to wait before trying again while the queue is away or refuses."""

WAITING_BYTES_MAX: Final = 64 << 20
"""Most bytes of updates that wait for an evaluation; beyond that the oldest go, since newer ones say the same."""

_OVERHEAD_BYTES: Final = 200
"""What an update takes beside its content, about."""


class Feed:
    """Receives live updates and keeps them until somebody takes them. It comes back by itself when the queue does."""

    def __init__(
        self,
        queue: str,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
        credentials: Credentials | None = None,
    ) -> None:
        """Describe it.

        Args:
            queue: ``host:port`` of the queue's gRPC.
            clock: microseconds since 1970.
            credentials: for a queue with TLS or tokens.
        """
        self._queue = queue
        self._credentials = credentials
        self._clock = clock
        self._position = Place.EARLIEST
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._waiting_bytes = 0
        self._refusal = ""
        # The subscriber comes back by itself and says nothing of it; this is there to see whether the queue is.
        self._probe: grpc.aio.Channel | None = None

    @property
    def trouble(self) -> str:
        """Why nothing can be received; empty while it can."""
        if self._probe is None or self._probe.get_state(try_to_connect=True) is not grpc.ChannelConnectivity.READY:
            return self._refusal or f"{self._queue} is not connected"
        return self._refusal

    async def run(self) -> None:
        """Receive until cancelled."""
        self._probe = open_channel(self._queue, self._credentials)
        try:
            await self._receive_all()
        finally:
            await self._probe.close()

    async def _receive_all(self) -> None:
        while True:
            try:
                await self._make_topic()
                # What is still there says who the GPUs are, and a little of their past.
                async with Subscriber(
                    self._queue, topics=[LIVE_TOPIC], position=self._position, credentials=self._credentials
                ) as subscriber:
                    await subscriber.wait_started()
                    self._refusal, self._position = "", Place.LATEST
                    async for event in subscriber:
                        self._receive(event)
            except QueueClientError as error:
                self._refusal = error.message
                log.info("waiting for the queue's live topic", extra={"error": error.message})
            await asyncio.sleep(RETRY_S)

    def take(self) -> list[tuple[int, bytes]]:
        """What came since the last call, each with the time at which it came, in microseconds since 1970."""
        taken = list(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        return taken

    async def _make_topic(self) -> None:
        # In case no collector has made it yet: made by subscribing, it would be on disk.
        async with QueueAdmin(self._queue, credentials=self._credentials) as admin:
            try:
                await admin.create_topic(LIVE)
            except RefusedError as error:
                if error.code != "ALREADY_EXISTS":
                    raise

    def _receive(self, event: Event) -> None:
        if isinstance(event, MissedMessages):
            MISSED.inc(event.missed)
        elif isinstance(event, ReceivedDelivery):
            now_us = self._clock()
            UPDATES.inc(len(event.messages))
            self._waiting.extend((now_us, message.data) for message in event.messages)
            self._waiting_bytes += sum(len(message.data) + _OVERHEAD_BYTES for message in event.messages)
            while self._waiting_bytes > WAITING_BYTES_MAX:
                self._waiting_bytes -= len(self._waiting.popleft()[1]) + _OVERHEAD_BYTES
                MISSED.inc()


def read_updates(messages: list[tuple[int, bytes]]) -> list[tuple[int, LiveUpdate]]:
    """Decode messages; those that cannot be read are counted and left out."""
    updates = []
    for received_us, data in messages:
        try:
            update = decode_live_update(data)
        except ValueError as error:
            UNREADABLE.inc()
            log.warning("a live update cannot be read", extra={"error": str(error)})
        else:
            updates.append((received_us, update))
    return updates
