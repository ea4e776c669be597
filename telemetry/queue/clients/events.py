"""What a subscriber hands out: deliveries, and what it must know about partitions and missed messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from telemetry.queue import wire_pb2
from telemetry.queue.core.types import DURATION_S_MAX, AckStatus, Outcome, TopicPartition
from telemetry.v1 import queue_pb2

REASON_BYTES_MAX: Final = 1024
"""Longest reason of a NACK or TERMINATE, in bytes."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What is to become of a delivery."""

    outcome: Outcome
    delay_s: float | None = None
    reason: str = ""


Settle = Callable[["ReceivedDelivery", Settlement], "asyncio.Future[AckStatus]"]
"""How a delivery reaches the session that it came with."""


class ReceivedDelivery:
    """Messages of one batch that are due, to be settled together.

    Settling returns what became of it: ``OK`` when the outcome is durable; ``STALE`` when the lease had been lost (too
    late, the connection broken in between), so that the messages come again, here or elsewhere;
    ``UNKNOWN`` in an ephemeral subscription, which settles nothing. Only the first call counts; later ones return its
    result.
    """

    def __init__(self, delivery: wire_pb2.Delivery, settle: Settle) -> None:
        self._delivery = delivery
        self._settle = settle
        self._settled: asyncio.Future[AckStatus] | None = None
        self.lost = False
        """Whether the connection that brought it is gone: its messages come again, here or elsewhere."""
        self.delivery_id: Final = delivery.delivery_id
        self.topic: Final = delivery.topic
        self.partition: Final = delivery.partition
        self.base_offset: Final = delivery.base_offset
        """The offset of the batch's first message, which need not be due."""
        self.attempt: Final = delivery.attempt
        """1 for the first delivery of these messages; 0 in an ephemeral subscription."""
        self.publish_time_us: Final = delivery.publish_time.ToMicroseconds()
        """When the batch was stored, in microseconds since 1970."""
        self.batch_bytes: Final = len(delivery.batch)
        """The size of the encoded batch, due or not."""

    @cached_property
    def messages(self) -> tuple[queue_pb2.Message, ...]:
        """The messages that are due, in order."""
        messages = queue_pb2.MessageBatch.FromString(self._delivery.batch).messages
        if not self._delivery.due:
            return tuple(messages)
        return tuple(messages[index] for run in self._delivery.due for index in range(run.first, run.first + run.count))

    @cached_property
    def offsets(self) -> Sequence[int]:
        """The offsets of :attr:`messages`."""
        if not self._delivery.due:
            return range(self.base_offset, self.base_offset + len(self.messages))
        return tuple(
            self.base_offset + index for run in self._delivery.due for index in range(run.first, run.first + run.count)
        )

    async def ack(self) -> AckStatus:
        """Done: never again delivered to this group. Durable when this returns OK."""
        return await asyncio.shield(self.settle(Settlement(Outcome.ACK)))

    async def nack(self, delay_s: float | None = None, reason: str = "") -> AckStatus:
        """Not done: deliver again.

        Args:
            delay_s: after how many seconds, 0 to 43,200; ``None`` means the group's backoff.
            reason: why, at most 1024 bytes; kept if the messages become dead letters.
        """
        return await asyncio.shield(self.settle(_checked(Settlement(Outcome.NACK, delay_s, reason))))

    async def terminate(self, reason: str = "") -> AckStatus:
        """Cannot ever be done: to the dead-letter topic with ``reason``, at most 1024 bytes."""
        return await asyncio.shield(self.settle(_checked(Settlement(Outcome.TERMINATE, None, reason))))

    def settle(self, settlement: Settlement) -> asyncio.Future[AckStatus]:
        """Put an outcome on its way without waiting for it."""
        if self._settled is None:
            self._settled = self._settle(self, settlement)
        return self._settled

    def __repr__(self) -> str:
        return f"<ReceivedDelivery {self.topic}/{self.partition}@{self.base_offset} attempt {self.attempt}>"


@dataclass(frozen=True, slots=True)
class PartitionsAssigned:
    """ORDERED: these partitions are this member's from now on."""

    partitions: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True)
class PartitionsRevoked:
    """ORDERED: these partitions are given up, and go to another once what was delivered of them is settled.

    That may still be settled, for as long as the group's ack wait, unless it is :attr:`~ReceivedDelivery.lost`.
    """

    partitions: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True)
class MissedMessages:
    """Ephemeral: ``missed`` messages of a partition passed by while this reader was slow or not connected."""

    topic: str
    partition: int
    missed: int


Event = ReceivedDelivery | PartitionsAssigned | PartitionsRevoked | MissedMessages
"""What a subscriber hands out."""


def _checked(settlement: Settlement) -> Settlement:
    """A bad entry would spoil the request that it shares with others."""
    if settlement.delay_s is not None and not 0 <= settlement.delay_s <= DURATION_S_MAX:
        raise ValueError(f"delay_s is {settlement.delay_s:g}; it must be 0 to {DURATION_S_MAX:g}")
    if len(settlement.reason.encode()) > REASON_BYTES_MAX:
        raise ValueError(f"reason has {len(settlement.reason.encode())} bytes; it may have {REASON_BYTES_MAX}")
    return settlement
