"""The seam between the wire and the rules: what the server asks of an engine, whatever keeps the messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from telemetry.queue.core.limits import Limits
from telemetry.queue.core.types import (
    AckEntry,
    AckStatus,
    Group,
    GroupPosition,
    Position,
    ProducerPosition,
    PublishBatch,
    QueueStats,
    Receipt,
    Started,
    StoredBatch,
    SubscribeOptions,
    SubscriptionEvent,
    Topic,
    TopicConfig,
)


class Subscription(Protocol):
    """One member's session. Used from the event loop only."""

    @property
    def started(self) -> Started:
        """The settings in force."""
        ...

    def add_permits(self, messages: int, size: int) -> None:
        """Allow this many more messages and bytes. Bytes are unlimited until the first call with ``size`` > 0."""
        ...

    def stop_delivering(self) -> None:
        """Take back all permits: nothing more is delivered, so :attr:`exhausted` comes to mean that all is settled.

        :meth:`next_events` returns what is under way and then an empty sequence.
        """
        ...

    async def next_events(self) -> Sequence[SubscriptionEvent]:
        """Wait until there is something to send and return it, oldest first; at most about 4 MiB at once.

        Returns an empty sequence when the subscription was closed: by :meth:`close`, by a member of the same name that
        took its place, by a forced seek or by the deletion of its group or topic. ``closed_reason`` then says why.
        """
        ...

    @property
    def closed_reason(self) -> str:
        """Why it was closed from the other side; empty while it is open and after :meth:`close`."""
        ...

    @property
    def exhausted(self) -> bool:
        """Whether no permits are left and everything delivered has been settled: a half-closed stream may end."""
        ...

    async def wait_exhausted(self) -> None:
        """Wait until :attr:`exhausted`."""
        ...

    def close(self, *, drained: bool) -> None:
        """Leave. What is unsettled returns to the group at once, as the same attempt if ``drained``, else the next."""
        ...


class QueueEngine(Protocol):
    """Keeps topics, messages and groups. All methods are called from one event loop and raise ``QueueError``.

    A :class:`~telemetry.queue.core.types.Receipt`, an ack's OK and an admin answer mean that what they say is as
    durable as the topic promises.
    """

    name: str
    """``disk``, ``memory`` or ``jetstream``."""

    @property
    def limits(self) -> Limits:
        """What it refuses because it is too much; the server refuses some of it before it gets here."""
        ...

    async def start(self) -> None:
        """Recover what was kept. Nothing else may be called before it returns."""
        ...

    async def stop(self) -> None:
        """Finish what is in flight and let go of the data directory."""
        ...

    async def publish(self, batch: PublishBatch) -> Receipt:
        """Store a batch and return when it is durable. Calls for a partition take effect in the order they are made."""
        ...

    async def subscribe(self, options: SubscribeOptions) -> Subscription:
        """Open a subscription; the group is made when it does not exist."""
        ...

    async def ack(self, entries: Sequence[AckEntry]) -> Sequence[AckStatus]:
        """Settle deliveries; returns one status an entry when all are durable."""
        ...

    async def create_topic(self, config: TopicConfig) -> Topic: ...
    async def get_topic(self, name: str) -> Topic: ...
    async def list_topics(self) -> Sequence[Topic]: ...
    async def update_topic(self, config: TopicConfig) -> Topic: ...
    async def delete_topic(self, name: str) -> None: ...
    async def purge_topic(self, name: str, partition: int | None, before_offset: int | None) -> int:
        """Drop messages; returns how many."""
        ...

    async def get_group(self, name: str) -> Group: ...
    async def list_groups(self) -> Sequence[Group]: ...
    async def delete_group(self, name: str, *, force: bool) -> None: ...
    async def seek_group(
        self,
        name: str,
        position: Position,
        *,
        topic: str | None = None,
        partition: int | None = None,
        force: bool = False,
        dry_run: bool = False,
    ) -> Sequence[GroupPosition]: ...

    def browse(
        self, topic: str, partition: int | None, position: Position, max_messages: int
    ) -> AsyncIterator[StoredBatch]:
        """Read without a group; the last batch is returned whole even when it goes past ``max_messages``."""
        ...

    async def describe_producer(self, topic: str, producer_id: str) -> Sequence[ProducerPosition]: ...
    async def stats(self) -> QueueStats: ...

    async def wait_failed(self) -> BaseException:
        """Wait until the engine can no longer keep its promises (an fsync failed); the process must then end loudly."""
        ...
