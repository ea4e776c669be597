"""An engine in this process: the core, driven by an event loop, on logs and a catalogue."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from telemetry.queue.core.batches import Entry
from telemetry.queue.core.delivery import Piece, State
from telemetry.queue.core.errors import ClosedError, FullError, NotFoundError, QueueError
from telemetry.queue.core.limits import Limits
from telemetry.queue.core.names import check_topic_name
from telemetry.queue.core.partition import Partition
from telemetry.queue.core.queue import QueueCore, describe_group
from telemetry.queue.core.sessions import Handout, Outgoing, Session
from telemetry.queue.core.stats import group_stats, topic_stats
from telemetry.queue.core.topics import TopicDefaults, TopicState
from telemetry.queue.core.types import (
    AckEntry,
    AckStatus,
    Delivery,
    Group,
    GroupPosition,
    GroupSettings,
    LogStats,
    Position,
    ProducerPosition,
    PublishBatch,
    QueueStats,
    Receipt,
    Storage,
    StoredBatch,
    SubscribeOptions,
    SubscriptionEvent,
    Topic,
    TopicConfig,
)
from telemetry.queue.engines.burials import Burials
from telemetry.queue.engines.catalogue import Catalogue
from telemetry.queue.engines.driver import Clock, Driver
from telemetry.queue.engines.log import Append, Log
from telemetry.queue.engines.slices import without_head
from telemetry.queue.engines.subscription import LocalSubscription

RETAIN_EVERY_S: Final = 1.0
"""How often retention by age is applied."""
RETRY_AFTER_S: Final = 0.2
"""What publishers are told to wait while the disk is behind."""


class LocalEngine:
    """What the memory and the disk engine have in common. They set the logs and the catalogue before `start`."""

    name = ""
    _logs: Mapping[Storage, Log]
    _catalogue: Catalogue
    _driver: Driver

    def __init__(
        self, defaults: TopicDefaults, *, create_missing_topics: bool, clock: Clock, nonce: str | None = None
    ) -> None:
        self._core = QueueCore(nonce or secrets.token_hex(6), defaults)
        self._create_missing_topics = create_missing_topics
        self._clock = clock
        self._open = False
        self._failure: asyncio.Future[BaseException] | None = None
        self._newest: dict[Log, Append] = {}
        self._uncommitted: set[TopicState] = set()
        self._burials = Burials(self)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def limits(self) -> Limits:
        """What it refuses because it is too much."""
        return self._core.limits

    # Life

    async def start(self) -> None:
        """Begin. Nothing else may be called before it returns."""
        self._failure = asyncio.get_running_loop().create_future()
        self._driver = Driver(self._core, self._clock, self._logs, self._catalogue, self._burials)
        self._open = True
        self._tasks = [
            asyncio.create_task(self._burials.run(), name="dead letters"),
            asyncio.create_task(self._retain(), name="retention"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._check_task)
        self._driver.settle()

    async def stop(self) -> None:
        """Close all subscriptions and finish what is in flight."""
        if not self._open:
            return
        for session in list(self._core.sessions.values()):
            self._core.close(session, self._clock(), drained=True, reason="the queue is shutting down")
        self._driver.settle()
        self._open = False
        self._driver.close()
        for group in self._core.groups.values():
            for cursor in group.cursors.values():
                # Nobody has anything now: how often each message was tried is known of each.
                cursor.next_offset = cursor.acked_through
                self._catalogue.put_cursor(cursor)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._burials.stop()

    async def wait_failed(self) -> BaseException:
        """Wait until no promise can be kept any more; returns why."""
        assert self._failure is not None
        return await asyncio.shield(self._failure)

    # Publishing

    async def publish(self, batch: PublishBatch) -> Receipt:
        """Store a batch and return when it is durable."""
        self._check_open()
        topic = self._topic(batch.topic)
        target = self._core.target(batch)
        if target.duplicate is None:
            append = self._append(target.partition, batch)
            await self._stored(append, topic)
            return Receipt(target.partition.number, append.placed.entry.base_offset)
        # The original may still be on its way; it is not newer than the newest that is.
        await self._stored(self._newest.get(self._log(topic)), topic)
        return Receipt(target.partition.number, target.duplicate.base_offset, duplicate=True)

    def store(self, batch: PublishBatch, storage: Storage | None) -> tuple[Append, TopicState]:
        """Begin to store a batch of the queue's own, whatever its topic's limits; a missing topic is made."""
        self._check_open()
        topic = self._core.topics.get(batch.topic) or self._create(TopicConfig(batch.topic, storage=storage))
        return self._append(topic.choose(batch), batch), topic

    async def _stored(self, append: Append | None, topic: TopicState) -> None:
        if append is not None:
            await append.wait()
        if topic in self._uncommitted:
            await self._catalogue.commit()
            self._uncommitted.discard(topic)

    def _append(self, partition: Partition, batch: PublishBatch) -> Append:
        now = self._clock()
        log = self._log(partition.topic)
        if log.overloaded:
            raise FullError("too much waits for the disk already", retry_after_s=RETRY_AFTER_S)
        self._core.make_room(partition, len(batch.batch), now)
        placed = self._core.place(partition, batch, log.next_position(len(batch.batch), batch.producer_id), now)
        append = Append(placed)
        self._newest[log] = append
        log.append(append)
        return append

    def stored(self, appends: Sequence[Append]) -> None:
        """The log has these: show them to subscribers and answer their publishers."""
        for append in appends:
            if self._newest.get(log := self._log(append.placed.partition.topic)) is append:
                del self._newest[log]
        self._core.confirm([append.placed for append in appends], self._clock())
        for append in appends:
            append.resolve()
        self._driver.settle()

    def refused(self, appends: Sequence[Append], error: QueueError) -> None:
        """The log could not take these: it is as if they had never been sent."""
        for append in reversed(appends):
            self._newest.pop(self._log(append.placed.partition.topic), None)
            self._core.withdraw(append.placed)
        for append in appends:
            append.resolve(type(error)(error.message, field=error.field, retry_after_s=error.retry_after_s))

    def failed(self, error: BaseException) -> None:
        """No promise can be kept any more."""
        if self._failure is not None and not self._failure.done():
            self._failure.set_result(error)

    # Subscribing

    async def subscribe(self, options: SubscribeOptions) -> LocalSubscription:
        """Open a subscription; the group is made when it does not exist."""
        self._check_open()
        missing = self._core.check_subscription(options)
        if missing and not self._create_missing_topics:
            raise NotFoundError(f"there is no topic {missing[0]}", field="topics")
        known = options.group in self._core.groups
        session = self._core.subscribe(options, self._clock())
        settings = GroupSettings(options.topics) if session.group is None else session.group.settings
        subscription = LocalSubscription(self, session, settings)
        self._driver.wake(session, subscription)
        if session.group is not None and not known:
            self._catalogue.put_group(session.group)
        self._driver.settle()
        if session.group is not None:
            try:
                await self._catalogue.commit()
            except BaseException:
                # The disk is full, or the subscriber has gone meanwhile: nobody will close what nobody gets.
                self.close_session(session, drained=True)
                raise
        return subscription

    def add_permits(self, session: Session, messages: int, size: int) -> None:
        """Allow a session more."""
        if not session.closed:
            self._core.add_permits(session, messages, size, self._clock())
            self._driver.settle()

    def stop_delivering(self, session: Session) -> None:
        """Take back a session's permits, and what was not sent to it yet."""
        self._core.stop_delivering(session, self._clock())
        self._driver.settle()

    def take(self, session: Session) -> list[Outgoing]:
        """Take what is to be sent to a session."""
        outgoing = self._core.take(session, self._clock())
        self._driver.settle()
        return outgoing

    def put_back(self, session: Session, outgoing: Sequence[Outgoing]) -> None:
        """What was taken was not sent."""
        self._core.put_back(session, outgoing, self._clock())
        self._driver.settle()

    async def load(self, session: Session, outgoing: Sequence[Outgoing]) -> list[SubscriptionEvent]:
        """Fetch the bytes of handouts. One whose batch is gone is left out, and its permits return."""
        handouts = [one for one in outgoing if isinstance(one, Handout)]
        batches = iter(await self._read([(one.partition, one.entry) for one in handouts]))
        events: list[SubscriptionEvent] = []
        for one in outgoing:
            if not isinstance(one, Handout):
                events.append(one)
            elif (batch := next(batches)) is not None:
                events.append(_delivery(one, batch))
            else:
                self._core.refund(session, one, self._clock())
        self._driver.settle()
        return events

    def close_session(self, session: Session, *, drained: bool) -> None:
        """End a session."""
        self._core.close(session, self._clock(), drained=drained)
        self._driver.settle()

    async def ack(self, entries: Sequence[AckEntry]) -> Sequence[AckStatus]:
        """Settle deliveries; returns when all are durable."""
        self._check_open()
        statuses, burying = self._core.ack(entries, self._clock())
        self._driver.settle()
        if burying:
            await asyncio.gather(*(self._burials.wait(piece) for piece in burying))
        await self._catalogue.commit()
        return statuses

    # Topics

    async def create_topic(self, config: TopicConfig) -> Topic:
        """Make a topic."""
        self._check_open()
        topic = self._create(config)
        await self._catalogue.commit()
        return topic.describe()

    async def get_topic(self, name: str) -> Topic:
        """The topic of that name."""
        return self._core.topic(name).describe()

    async def list_topics(self) -> Sequence[Topic]:
        """All topics, by name."""
        return [topic.describe() for _, topic in sorted(self._core.topics.items())]

    async def update_topic(self, config: TopicConfig) -> Topic:
        """Replace a topic's retention and limits."""
        self._check_open()
        topic = self._core.topic(config.name)
        topic.update(config, self._core.defaults)
        self._catalogue.put_topic(topic)
        self._core.retain(self._clock())
        self._driver.settle()
        await self._catalogue.commit()
        return topic.describe()

    async def delete_topic(self, name: str) -> None:
        """Remove a topic, its messages and its groups' positions."""
        self._check_open()
        topic = self._core.delete_topic(name, self._clock())
        self._catalogue.delete_topic(topic)
        self._driver.settle()
        await self._catalogue.commit()

    async def purge_topic(self, name: str, partition: int | None, before_offset: int | None) -> int:
        """Drop messages; returns how many."""
        self._check_open()
        topic = self._core.topic(name)
        partitions = topic.partitions if partition is None else (topic.partition(partition),)
        dropped = 0
        for one in partitions:
            dropped += self._core.purge(one, before_offset, self._clock())
            self._catalogue.put_start(one)
        self._driver.settle()
        await self._catalogue.commit()
        return dropped

    # Groups

    async def get_group(self, name: str) -> Group:
        """The group of that name."""
        return describe_group(self._core.group(name))

    async def list_groups(self) -> Sequence[Group]:
        """All groups, by name."""
        return [describe_group(group) for _, group in sorted(self._core.groups.items())]

    async def delete_group(self, name: str, *, force: bool) -> None:
        """Remove a group."""
        self._check_open()
        self._catalogue.delete_group(self._core.delete_group(name, self._clock(), force=force))
        self._driver.settle()
        await self._catalogue.commit()

    async def seek_group(
        self,
        name: str,
        position: Position,
        *,
        topic: str | None = None,
        partition: int | None = None,
        force: bool = False,
        dry_run: bool = False,
    ) -> Sequence[GroupPosition]:
        """Move a group."""
        self._check_open()
        moved = self._core.seek_group(name, position, topic, partition, self._clock(), force=force, dry_run=dry_run)
        self._driver.settle()
        await self._catalogue.commit()
        return moved

    # Looking

    async def browse(
        self, topic: str, partition: int | None, position: Position, max_messages: int
    ) -> AsyncIterator[StoredBatch]:
        """Read without a group, a partition after the other."""
        state = self._core.topic(topic)
        for one in state.partitions if partition is None else (state.partition(partition),):
            offset = one.resolve(position)
            while max_messages > 0:
                entry = one.index.find(max(offset, one.start_offset))
                if entry is None or entry.base_offset >= one.visible_end:
                    break
                (batch,) = await self._read([(one, entry)])
                first, offset = max(entry.base_offset, offset, one.start_offset), entry.end_offset
                if batch is None or first >= offset:
                    continue
                messages = offset - first
                max_messages -= messages
                batch = without_head(batch, first - entry.base_offset)
                yield StoredBatch(one.number, first, messages, entry.time_us, batch)

    async def describe_producer(self, topic: str, producer_id: str) -> Sequence[ProducerPosition]:
        """How far a producer has come in each partition that it has published to."""
        known = ((one.number, one.producers.get(producer_id)) for one in self._core.topic(topic).partitions)
        return [
            ProducerPosition(number, state.epoch, state.last_sequence) for number, state in known if state is not None
        ]

    async def stats(self) -> QueueStats:
        """All that is counted."""
        now = self._clock()
        return QueueStats(self.name, topic_stats(self._core, now), group_stats(self._core, now), self._log_stats())

    # Within

    def _log_stats(self) -> LogStats | None:
        return None

    def _check_open(self) -> None:
        if not self._open:
            raise ClosedError("the queue is shutting down")
        if self._failure is not None and self._failure.done():
            raise ClosedError(f"the queue has failed: {self._failure.result()}")

    def _log(self, topic: TopicState) -> Log:
        assert topic.config.storage is not None
        return self._logs[topic.config.storage]

    def _topic(self, name: str) -> TopicState:
        topic = self._core.topics.get(name)
        if topic is not None:
            return topic
        check_topic_name(name, "topic")
        if not self._create_missing_topics:
            raise NotFoundError(f"there is no topic {name}", field="topic")
        return self._create(TopicConfig(name))

    def _create(self, config: TopicConfig) -> TopicState:
        topic = self._core.create_topic(config, self._clock())
        self._catalogue.put_topic(topic)
        self._uncommitted.add(topic)
        self._driver.settle()
        return topic

    async def _read(self, wanted: Sequence[tuple[Partition, Entry]]) -> list[bytes | None]:
        """Fetch batches. One that turns out to be damaged is taken out of its partition."""
        batches: list[bytes | None] = [None] * len(wanted)
        for log in {id(log): log for log in self._logs.values()}.values():
            mine = [at for at, (partition, _) in enumerate(wanted) if self._log(partition.topic) is log]
            if not mine:
                continue
            for at, batch in zip(mine, await log.read([wanted[at][1] for at in mine]), strict=True):
                batches[at] = batch
                if batch is None:
                    self._core.lose(*wanted[at], self._clock())
        self._driver.settle()
        return batches

    async def _retain(self) -> None:
        while True:
            await asyncio.sleep(RETAIN_EVERY_S)
            self._core.retain(self._clock())
            self._driver.settle()
            await self._tidy()

    async def _tidy(self) -> None:
        """What an engine has to do now and then."""

    def _check_task(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed(error)

    def run_due(self) -> None:
        """Do what the clock says is due; for whoever moves an injected clock."""
        self._driver.run_due()

    # What the burials need

    async def bury_bytes(self, piece: Piece) -> bytes | None:
        """The bytes of the batch that a piece is part of; ``None`` when they are gone."""
        if piece.state is not State.BURYING:
            return None
        (batch,) = await self._read([(piece.cursor.partition, piece.entry)])
        return batch

    async def finish_store(self, append: Append, topic: TopicState) -> None:
        """Wait until a batch begun by :meth:`store` is durable."""
        await self._stored(append, topic)

    async def buried(self, piece: Piece) -> None:
        """A piece's copies are durable."""
        self._core.buried(piece, self._clock())
        self._driver.settle()
        await self._catalogue.commit()


def _delivery(handout: Handout, batch: bytes) -> Delivery:
    return Delivery(
        delivery_id=handout.delivery_id,
        topic=handout.partition.topic.name,
        partition=handout.partition.number,
        base_offset=handout.entry.base_offset,
        attempt=handout.attempt,
        publish_time_us=handout.entry.time_us,
        batch=batch,
        count=handout.entry.messages,
        due=handout.due,
    )
