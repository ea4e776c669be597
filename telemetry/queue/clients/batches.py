"""What a publisher has accepted: outgoing messages, and the batches that they travel in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple

from telemetry.queue.clients.errors import QueueClientError
from telemetry.queue.core.types import Receipt
from telemetry.v1 import queue_pb2

log = logging.getLogger(__name__)

DoneCallback = Callable[[Receipt | QueueClientError], None]
"""Called once, with where the message is stored (``base_offset`` is its own) or why it is not."""

MESSAGE_OVERHEAD_BYTES: Final = 24
"""What a message is counted with beyond its data, key and attributes."""


NO_ATTRIBUTES: Final[Mapping[str, str]] = MappingProxyType({})


class OutgoingMessage(NamedTuple):
    """One message to publish."""

    data: bytes
    attributes: Mapping[str, str] = NO_ATTRIBUTES
    ordering_key: str | None = None

    @property
    def size(self) -> int:
        """What it counts against windows and batches, in bytes."""
        size = len(self.data) + len(self.ordering_key or "") + MESSAGE_OVERHEAD_BYTES
        if self.attributes:
            size += sum(len(name) + len(value) for name, value in self.attributes.items())
        return size


def encode_messages(messages: Iterable[OutgoingMessage]) -> bytes:
    """An encoded ``MessageBatch``.

    A message with nothing but data is what comes before the data, which depends on its size alone, and the data: that
    takes a third of the time that an object of protobuf takes. Batches behind one another are one batch.
    """
    parts: list[bytes] = []
    for data, attributes, ordering_key in messages:
        if attributes or ordering_key:
            message = queue_pb2.Message(data=data, attributes=attributes, ordering_key=ordering_key or "")
            parts.append(queue_pb2.MessageBatch(messages=(message,)).SerializeToString())
        else:
            parts += (_head(len(data)), data)
    return b"".join(parts)


@lru_cache(maxsize=4096)
def _head(size: int) -> bytes:
    """What comes before ``size`` bytes of data in a batch: field and length of the message, field and length of data.

    Taken from protobuf itself, so that it is written down nowhere else how a message is encoded.
    """
    encoded = queue_pb2.MessageBatch(messages=(queue_pb2.Message(data=bytes(size)),)).SerializeToString()
    return encoded[: len(encoded) - size]


@dataclass(slots=True, eq=False)
class Batch:
    """Messages that are stored together or not at all, encoded once.

    Attributes:
        topic: where it goes.
        partition: where in the topic.
        encoded: an encoded ``MessageBatch``.
        count: how many messages it holds.
        size: what it counts against the window, in bytes.
        accepted_at: when its first message was accepted, on the monotonic clock.
        done: whom to tell: one callback a message, or a single one for the whole.
        explicit_sequence: the first message's sequence when the caller chose it.
    """

    topic: str
    partition: int
    encoded: bytes
    count: int
    size: int
    accepted_at: float
    done: Sequence[DoneCallback]
    explicit_sequence: int | None = None
    _watchers: list[Callable[[Batch], None]] = field(default_factory=list)

    def watch(self, callback: Callable[[Batch], None]) -> None:
        """Have ``callback`` called after the batch is settled."""
        self._watchers.append(callback)

    def succeed(self, receipt: Receipt) -> None:
        """Tell each message where it is stored."""
        for index, done in enumerate(self.done):
            offset = None if receipt.base_offset is None else receipt.base_offset + index
            _tell(done, Receipt(receipt.partition, offset, receipt.duplicate))
        self._tell_watchers()

    def fail(self, error: QueueClientError) -> None:
        """Tell each message why it is not known to be stored."""
        for done in self.done:
            _tell(done, error)
        self._tell_watchers()

    def _tell_watchers(self) -> None:
        for watcher in self._watchers:
            watcher(self)


def _tell(done: DoneCallback, outcome: Receipt | QueueClientError) -> None:
    try:
        done(outcome)
    except Exception:  # a caller's callback must not stop the others
        log.exception("a callback of a published message failed")
