"""Where the live view comes from: one ephemeral subscription to the topic `live`, for as long as the gateway runs."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from gateway.counters import LIVE_UPDATES_UNREADABLE
from gateway.live import LiveHub
from gateway.upstreams import QueueClient
from telemetry.live import decode_live_update
from telemetry.queue.client import Credentials, Event, MissedMessages, QueueClientError, ReceivedDelivery, Subscriber
from telemetry.runtime.calls import UpstreamError
from telemetry.topics import LIVE, LIVE_TOPIC

log = logging.getLogger(__name__)

RETRY_S: Final = 1.0
"""How long to wait before trying again while the queue is away or refuses."""


class LiveFeed:
    """Carries live updates from the queue to the hub. The subscription comes back by itself when the queue does."""

    def __init__(self, queue: QueueClient, hub: LiveHub, credentials: Credentials | None = None) -> None:
        self._queue = queue
        self._hub = hub
        self._credentials = credentials

    async def run(self) -> None:
        """Feed the hub until cancelled."""
        while True:
            try:
                # In case no collector has made it yet: made by subscribing, it would be on disk.
                await self._queue.ensure_topic(LIVE)
                async with Subscriber(
                    self._queue.address, topics=[LIVE_TOPIC], credentials=self._credentials
                ) as subscriber:
                    async for event in subscriber:
                        self._take(event)
            except (UpstreamError, QueueClientError) as error:
                log.info("waiting for the queue's live topic", extra={"error": str(error)})
            await asyncio.sleep(RETRY_S)

    def _take(self, event: Event) -> None:
        if isinstance(event, MissedMessages):
            self._hub.publish_gap(event.missed)
        elif isinstance(event, ReceivedDelivery):
            for message in event.messages:
                self._publish(message.data)

    def _publish(self, data: bytes) -> None:
        try:
            update = decode_live_update(data)
        except ValueError as error:
            LIVE_UPDATES_UNREADABLE.inc()
            log.warning("a live update cannot be read", extra={"error": str(error)})
            return
        self._hub.publish(update)
