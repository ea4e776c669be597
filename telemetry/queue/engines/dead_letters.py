"""What becomes of messages that a group gives up: copies that say where they come from and why."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from telemetry.queue.core.delivery import Piece
from telemetry.queue.core.types import PublishBatch
from telemetry.v1 import queue_pb2

ORIGIN_TOPIC: Final = "dead-letter-topic-origin"
ORIGIN_PARTITION: Final = "dead-letter-partition"
ORIGIN_OFFSET: Final = "dead-letter-offset"
GROUP: Final = "dead-letter-group"
ATTEMPTS: Final = "dead-letter-attempts"
REASON: Final = "dead-letter-reason"
FIRST_TIME: Final = "dead-letter-first-time"
LAST_TIME: Final = "dead-letter-last-time"

COPY_BYTES: Final = 1 << 20
"""A batch of dead letters is closed once it holds this much, so that attributes cannot push it over any limit."""


def dead_letters_of(piece: Piece, batch: bytes) -> Iterator[PublishBatch]:
    """The messages of a piece as they go to the dead-letter topic, in batches: as they were, plus attributes.

    Args:
        batch: the encoded batch that holds the piece's messages.
    """
    cursor, base = piece.cursor, piece.entry.base_offset
    origin = cursor.partition.topic.name
    topic = cursor.group.dead_letter_topic(origin)
    common = {
        ORIGIN_TOPIC: origin,
        ORIGIN_PARTITION: str(cursor.partition.number),
        GROUP: cursor.group.name,
        ATTEMPTS: str(piece.attempts),
        REASON: piece.reason,
        FIRST_TIME: _rfc3339(piece.first_time_us),
        LAST_TIME: _rfc3339(piece.last_time_us),
    }
    messages = queue_pb2.MessageBatch.FromString(batch).messages
    copies = queue_pb2.MessageBatch()
    size = largest = 0
    for first, end in piece.runs:
        for offset in range(first, end):
            copy = copies.messages.add()
            copy.CopyFrom(messages[offset - base])
            for name, value in common.items():
                copy.attributes[name] = value
            copy.attributes[ORIGIN_OFFSET] = str(offset)
            size += copy.ByteSize()
            largest = max(largest, len(copy.data))
            if size >= COPY_BYTES:
                yield _publish(topic, copies, largest)
                copies = queue_pb2.MessageBatch()
                size = largest = 0
    if copies.messages:
        yield _publish(topic, copies, largest)


def _publish(topic: str, copies: queue_pb2.MessageBatch, largest: int) -> PublishBatch:
    return PublishBatch(topic, copies.SerializeToString(), len(copies.messages), largest_message=largest)


def _rfc3339(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
