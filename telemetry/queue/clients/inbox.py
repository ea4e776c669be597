"""Events that have arrived and wait to be handed out. Bounded by the permits given."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from telemetry.queue.clients.events import (
    Event,
    MissedMessages,
    PartitionsAssigned,
    PartitionsRevoked,
    ReceivedDelivery,
)
from telemetry.queue.core.types import TopicPartition


class Inbox:
    """A queue that knows which partitions its reader believes to hold, and what a reconnected reader has missed."""

    def __init__(self, *, ephemeral: bool) -> None:
        """Begin empty; an ``ephemeral`` reader is told what passed by between two sessions."""
        self._ephemeral = ephemeral
        self._events: deque[Event] = deque()
        self._held: set[TopicPartition] = set()
        self._next_offset: dict[TopicPartition, int] = {}
        self._unsure: set[TopicPartition] = set()

    def put(self, event: Event) -> None:
        """Append an event."""
        if self._unsure and isinstance(event, ReceivedDelivery | MissedMessages):
            place = TopicPartition(event.topic, event.partition)
            if place in self._unsure:
                if isinstance(event, MissedMessages):
                    return  # the first delivery will tell it together with what passed by before
                self._unsure.discard(place)
                missed = event.offsets[0] - self._next_offset[place]
                if missed > 0:
                    self._events.append(MissedMessages(event.topic, event.partition, missed))
        self._events.append(event)

    def take(self) -> Event | None:
        """Hand out the oldest event, if there is one."""
        if not self._events:
            return None
        event = self._events.popleft()
        if isinstance(event, PartitionsAssigned):
            self._held.update(event.partitions)
        elif isinstance(event, PartitionsRevoked):
            self._held.difference_update(event.partitions)
        elif isinstance(event, ReceivedDelivery) and self._ephemeral:
            self._next_offset[TopicPartition(event.topic, event.partition)] = event.offsets[-1] + 1
        return event

    def end_session(self) -> None:
        """The session is over: nothing of it is handed out any more, and its partitions are gone."""
        self._events.clear()
        self._unsure = set(self._next_offset)
        if self._held:
            self._events.append(PartitionsRevoked(_sorted(self._held)))


def _sorted(partitions: Collection[TopicPartition]) -> tuple[TopicPartition, ...]:
    return tuple(sorted(partitions, key=lambda one: (one.topic, one.partition)))
