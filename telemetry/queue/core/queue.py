"""The queue's rules in one piece: topics, groups and sessions, driven by calls that carry the time with them.

Theory of operation. Whoever drives it calls a method, then does what :class:`Effects` has gathered, and calls
:meth:`tick` when :meth:`next_tick_s` says so. Everything takes effect within the call. What must be durable first takes
two calls: :meth:`place` and :meth:`confirm` for a batch, ``effects.burials`` and :meth:`buried` for a dead letter. The
batches' bytes are never seen here, only where the log keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from telemetry.queue.core.attempts import TriedBefore
from telemetry.queue.core.batches import Block, Entry
from telemetry.queue.core.clock import Instant
from telemetry.queue.core.cursor import Cursor
from telemetry.queue.core.delivery import Piece, State
from telemetry.queue.core.effects import Effects, Trim
from telemetry.queue.core.errors import AlreadyExistsError, FullError, NotFoundError, PreconditionError
from telemetry.queue.core.groups import GroupState
from telemetry.queue.core.leases import Leases
from telemetry.queue.core.limits import flag_of
from telemetry.queue.core.names import check_group_name, check_patterns, check_topic_name, is_pattern
from telemetry.queue.core.partition import Partition, Placed
from telemetry.queue.core.producers import Duplicate
from telemetry.queue.core.readers import Reader
from telemetry.queue.core.runs import Run
from telemetry.queue.core.sessions import OUTBOX_BYTES_MAX, Handout, Outgoing, Session
from telemetry.queue.core.settings import check_wishes, settings_of
from telemetry.queue.core.timers import Timers
from telemetry.queue.core.topics import TopicDefaults, TopicState, new_topic
from telemetry.queue.core.types import (
    AckEntry,
    AckStatus,
    Group,
    GroupPosition,
    GroupSettings,
    Outcome,
    Place,
    Position,
    PublishBatch,
    SubscribeOptions,
    TopicConfig,
)


class Acked(NamedTuple):
    """What became of acks, and which pieces must be in the dead-letter topic before that may be said."""

    statuses: list[AckStatus]
    burying: list[Piece]


class Stand(NamedTuple):
    """Where a group stands in a partition: what is settled, below an offset and in runs above; what was tried."""

    acked_through: int
    settled: Iterable[Run] = ()
    tried: TriedBefore | None = None


class Target(NamedTuple):
    """Where a batch is to go, or where it is already."""

    partition: Partition
    duplicate: Duplicate | None


class QueueCore:
    """All of a queue but its bytes."""

    def __init__(self, nonce: str, defaults: TopicDefaults) -> None:
        """Begin with nothing. ``nonce`` tells this start of the queue from all others."""
        self.topics: dict[str, TopicState] = {}
        self.groups: dict[str, GroupState] = {}
        self.sessions: dict[str, Session] = {}
        self.effects = Effects()
        self.defaults = defaults
        self.limits = defaults.limits
        self._nonce = nonce
        self._leases = Leases(nonce)
        self._timers = Timers()
        self._readers: dict[Session, Reader] = {}
        self._sessions_opened = 0
        self._last_topic_id = 0

    # Topics

    def topic(self, name: str) -> TopicState:
        """The topic of that name, or `NotFoundError`."""
        topic = self.topics.get(name)
        if topic is None:
            raise NotFoundError(f"there is no topic {name}", field="topic")
        return topic

    def create_topic(self, config: TopicConfig, now: Instant) -> TopicState:
        """Make a topic; groups and readers whose wildcards match it join it."""
        if config.name in self.topics:
            raise AlreadyExistsError(f"topic {config.name} exists", field="topic.name")
        if len(self.topics) >= self.limits.max_topics:
            raise _too_many("topics", "max_topics", self.limits.max_topics)
        topic = new_topic(self._last_topic_id + 1, config, self.defaults, now.wall_us)
        self.adopt_topic(topic)
        for group in self.groups.values():
            if group.subscribes_to(topic.name):
                for partition in topic.partitions:
                    group.add_cursor(Cursor(group, partition, 0))
                group.rebalance(now)
        for reader in self._readers.values():
            if reader.session.wants(topic.name):
                reader.offsets.update(dict.fromkeys(topic.partitions, 0))
        return topic

    def adopt_topic(self, topic: TopicState) -> None:
        """Take in a topic that was kept."""
        self._last_topic_id = max(self._last_topic_id, topic.topic_id)
        self.topics[topic.name] = topic

    def skip_topic_ids(self, topic_id: int) -> None:
        """Give no topic an id up to this one: messages of a topic that had it may still be in the log."""
        self._last_topic_id = max(self._last_topic_id, topic_id)

    def delete_topic(self, name: str, now: Instant) -> TopicState:
        """Remove a topic. Sessions that subscribe to it by name are closed."""
        topic = self.topic(name)
        for session in list(self.sessions.values()):
            if name in session.patterns:
                self.close(session, now, drained=False, reason=f"topic {name} was deleted")
        del self.topics[name]
        for reader in self._readers.values():
            for partition in topic.partitions:
                reader.offsets.pop(partition, None)
        for partition in topic.partitions:
            for cursor in list(partition.cursors):
                cursor.group.remove_cursor(cursor)
            self._trim(partition, partition.drop_through(partition.end_offset))
        for group in self.groups.values():
            group.rebalance(now)
            group.dispatch(now)
        return topic

    def purge(self, partition: Partition, before_offset: int | None, now: Instant) -> int:
        """Drop visible messages, or those of them below an offset. Returns how many there were."""
        offset = partition.visible_end if before_offset is None else min(before_offset, partition.visible_end)
        before = partition.message_count()
        self._drop_through(partition, offset, now)
        return before - partition.message_count()

    def retain(self, now: Instant) -> None:
        """Apply every topic's retention, and forget silent producers."""
        for topic in self.topics.values():
            for partition in topic.partitions:
                self._drop_through(partition, topic.offset_to_keep(partition, now.wall_us), now)
                partition.producers.forget_silent(now.wall_us)

    # Publishing

    def target(self, batch: PublishBatch) -> Target:
        """Check a batch and say where it goes. Its topic must exist.

        Raises:
            InvalidArgumentError: for a field that is wrong.
            PreconditionError: for an epoch that is fenced or a sequence that leaves a gap.
        """
        topic = self.topic(batch.topic)
        topic.check_limits(batch)
        partition = topic.choose(batch)
        duplicate = None
        if batch.producer_id:
            duplicate = partition.producers.check(
                batch.producer_id, batch.producer_epoch, batch.first_sequence, batch.count
            )
            topic.duplicates += duplicate is not None
        return Target(partition, duplicate)

    def make_room(self, partition: Partition, size: int, now: Instant) -> None:
        """Drop what may be dropped for ``size`` more bytes, or raise `FullError`."""
        self._drop_through(partition, partition.topic.offset_to_fit(partition, size), now)

    def place(self, partition: Partition, batch: PublishBatch, position: int, now: Instant) -> Placed:
        """Give a batch its offsets, once :meth:`target` and :meth:`make_room` have let it through."""
        return partition.place(batch, now.wall_us, position)

    def confirm(self, placed: Sequence[Placed], now: Instant) -> None:
        """Batches are as durable as promised: show them to groups and readers."""
        touched: dict[Partition, None] = {}
        for one in placed:
            one.partition.confirm(one.entry)
            one.partition.topic.published.add(one.entry.messages, now.monotonic_s)
            touched[one.partition] = None
        for partition in touched:
            for cursor in partition.cursors:
                cursor.group.activate(cursor)
                cursor.group.dispatch(now, (cursor,))
            self._drop_through(partition, partition.topic.offset_to_keep(partition, now.wall_us), now)
        for reader in self._readers.values():
            reader.feed([partition for partition in touched if partition in reader.offsets])

    def withdraw(self, placed: Placed) -> None:
        """A batch could not be stored. The newest must be withdrawn first."""
        placed.partition.withdraw(placed)

    # Subscribing

    def check_subscription(self, options: SubscribeOptions) -> list[str]:
        """Check a subscription, and return the topics that it names and that do not exist.

        Raises:
            InvalidArgumentError: for a field that is wrong.
            PreconditionError: if the group exists and its settings are others.
            FullError: if there are too many groups, members or subscriptions.
        """
        check_patterns(options.topics)
        for pattern in options.topics:
            if not is_pattern(pattern):
                check_topic_name(pattern, "topics")
        if len(self.sessions) >= self.limits.max_subscriptions:
            raise _too_many("subscriptions", "max_subscriptions", self.limits.max_subscriptions, retry_after_s=1.0)
        if options.group:
            check_group_name(options.group)
            group = self.groups.get(options.group)
            if group is not None:
                check_wishes(group.name, group.settings, options)
                # Whoever comes under the name of a member takes its place and adds none.
                if len(group.sessions) >= self.limits.max_members and options.member not in group.sessions:
                    raise _too_many(
                        f"members of group {group.name}", "max_members", self.limits.max_members, retry_after_s=1.0
                    )
            else:
                settings_of(options)
                if len(self.groups) >= self.limits.max_groups:
                    raise _too_many("groups", "max_groups", self.limits.max_groups)
        return [name for name in options.topics if not is_pattern(name) and name not in self.topics]

    def subscribe(self, options: SubscribeOptions, now: Instant) -> Session:
        """Open a session, once :meth:`check_subscription` has let it through. A group that is new is made."""
        self._sessions_opened += 1
        session_id = f"{self._nonce}-s{self._sessions_opened:x}"
        member = options.member or session_id
        if not options.group:
            session = Session(session_id, member, options.peer, options.topics, now.wall_us, self.effects)
            reader = self._readers[session] = Reader(session)
            for topic in self.topics.values():
                if session.wants(topic.name):
                    for partition in topic.partitions:
                        reader.offsets[partition] = partition.resolve(options.position or Place.LATEST)
        else:
            group = self.groups.get(options.group)
            if group is None:
                position = options.position or Place.EARLIEST
                group = self.adopt_group(options.group, settings_of(options), lambda one: Stand(one.resolve(position)))
                self.effects.moved.update(dict.fromkeys(group.cursors.values()))
            session = Session(session_id, member, options.peer, options.topics, now.wall_us, self.effects, group)
            if (before := group.sessions.get(member)) is not None:
                self.close(before, now, drained=False, reason=f"another session took the name {member}")
        self.sessions[session_id] = session
        if session.group is not None:
            session.group.join(session, now)
        return session

    def adopt_group(self, name: str, settings: GroupSettings, stand: Callable[[Partition], Stand]) -> GroupState:
        """Make a group. ``stand`` says where it stands in a partition."""
        group = self.groups[name] = GroupState(name, settings, self._leases, self._timers, self.effects)
        for topic in self.topics.values():
            if group.subscribes_to(topic.name):
                for partition in topic.partitions:
                    group.add_cursor(Cursor(group, partition, *stand(partition)))
        return group

    def add_permits(self, session: Session, messages: int, size: int, now: Instant) -> None:
        """Allow a session more."""
        session.add_permits(messages, size)
        self._refill(session, now)

    def stop_delivering(self, session: Session, now: Instant) -> None:
        """Take back a session's permits, and what was not sent to it yet."""
        if session.group is not None and not session.closed:
            session.group.stop_delivering(session, now)
        else:
            session.stop()

    def take(self, session: Session, now: Instant) -> list[Outgoing]:
        """Take what is to be sent to a session."""
        outgoing = session.take(OUTBOX_BYTES_MAX)
        self._refill(session, now)
        # Leases that ran out in the outbox leave nothing to send, but give back the room for more.
        return outgoing or session.take(OUTBOX_BYTES_MAX)

    def put_back(self, session: Session, outgoing: Sequence[Outgoing], now: Instant) -> None:
        """What was taken was not sent after all: it is to be sent next, or goes elsewhere if the session stopped."""
        session.put_back(outgoing)
        if session.stopped:
            self.stop_delivering(session, now)

    def refund(self, session: Session, handout: Handout, now: Instant) -> None:
        """Messages that were taken cannot be sent: give their permits back."""
        session.refund(handout)
        self._refill(session, now)

    def close(self, session: Session, now: Instant, *, drained: bool, reason: str = "") -> None:
        """End a session; what it has not settled returns to its group."""
        if self.sessions.pop(session.session_id, None) is None:
            return
        if session.group is not None:
            session.group.leave(session, now, drained=drained, reason=reason)
        else:
            del self._readers[session]
            session.close(reason)

    def _refill(self, session: Session, now: Instant) -> None:
        if session.closed:
            return
        if session.group is not None:
            session.group.dispatch(now)
        else:
            self._readers[session].feed()

    # Settling

    def ack(self, entries: Sequence[AckEntry], now: Instant) -> Acked:
        """Settle deliveries, in the order of the entries."""
        result = Acked([], [])
        groups: dict[GroupState, None] = {}
        moved: dict[Partition, None] = {}
        for entry in entries:
            piece = self._leases.live(entry.delivery_id)
            if piece is None:
                result.statuses.append(self._answer_again(entry, result))
                continue
            status, burying = piece.cursor.group.settle(piece, entry, now)
            result.statuses.append(status)
            if burying is not None and entry.outcome is Outcome.TERMINATE:
                result.burying.append(burying)
            groups[piece.cursor.group] = None
            moved[piece.cursor.partition] = None
        for partition in moved:
            if partition.topic.config.retention.drop_acked:
                self._drop_through(partition, partition.topic.offset_to_keep(partition, now.wall_us), now)
        for group in groups:
            group.dispatch(now)
        return result

    def buried(self, piece: Piece, now: Instant) -> None:
        """A piece's copy in the dead-letter topic is durable."""
        piece.cursor.group.buried(piece, now)

    def tick(self, now: Instant) -> None:
        """Do what is due: leases that ran out, delays that ended."""
        groups: dict[GroupState, None] = {}
        while (piece := self._timers.pop_due(now.monotonic_s)) is not None:
            piece.cursor.group.time_up(piece, now)
            groups[piece.cursor.group] = None
        for group in groups:
            group.dispatch(now)

    def next_tick_s(self) -> float | None:
        """When :meth:`tick` is due next."""
        return self._timers.next_s()

    def _answer_again(self, entry: AckEntry, result: Acked) -> AckStatus:
        """The status of an ack whose lease has ended: as before, when this very outcome ended it."""
        piece = self._leases.ended(entry.delivery_id)
        if piece is not None and entry.outcome is Outcome.ACK and piece.state is State.ACKED:
            return AckStatus.OK
        if piece is not None and entry.outcome is Outcome.TERMINATE and piece.state in (State.BURYING, State.BURIED):
            if piece.state is State.BURYING:
                result.burying.append(piece)
            return AckStatus.OK
        return AckStatus.STALE if self._leases.was_issued(entry.delivery_id) else AckStatus.UNKNOWN

    # Groups

    def group(self, name: str) -> GroupState:
        """The group of that name, or `NotFoundError`."""
        group = self.groups.get(name)
        if group is None:
            raise NotFoundError(f"there is no group {name}", field="group")
        return group

    def delete_group(self, name: str, now: Instant, *, force: bool) -> GroupState:
        """Remove a group."""
        group = self.group(name)
        self._disconnect(group, now, force=force, reason=f"group {name} was deleted")
        for cursor in list(group.cursors.values()):
            group.remove_cursor(cursor)
        del self.groups[name]
        return group

    def seek_group(
        self,
        name: str,
        position: Position,
        topic: str | None,
        partition: int | None,
        now: Instant,
        *,
        force: bool,
        dry_run: bool,
    ) -> list[GroupPosition]:
        """Move a group, or say where it would stand. Its members must have left, unless forced to."""
        group = self.group(name)
        cursors = list(group.cursors.values())
        if topic is not None:
            wanted = set(self.topic(topic).partitions)
            if partition is not None:
                wanted = {self.topic(topic).partition(partition)}
            cursors = [cursor for cursor in cursors if cursor.partition in wanted]
            if not cursors:
                raise NotFoundError(f"group {name} does not subscribe to topic {topic}", field="topic")
        if dry_run:
            return [position_of(cursor, cursor.partition.resolve(position)) for cursor in cursors]
        self._disconnect(group, now, force=force, reason=f"group {name} was moved")
        for cursor in cursors:
            group.drop(cursor)
            cursor.move(cursor.partition.resolve(position))
            self.effects.forgotten[cursor] = None
            group.activate(cursor)
        self.effects.moved.update(dict.fromkeys(cursors))
        return [position_of(cursor) for cursor in cursors]

    def _disconnect(self, group: GroupState, now: Instant, *, force: bool, reason: str) -> None:
        if group.sessions and not force:
            raise PreconditionError(f"group {group.name} has {len(group.sessions)} members connected", field="group")
        for session in list(group.sessions.values()):
            self.close(session, now, drained=True, reason=reason)

    # What is dropped

    def lose(self, partition: Partition, entry: Entry, now: Instant) -> None:
        """A batch's bytes are damaged: it is not there any more, for anybody."""
        if partition.index.find(entry.base_offset) != entry:
            return
        partition.lose(entry)
        for cursor in partition.cursors:
            cursor.group.drop_range(cursor, entry.base_offset, entry.end_offset)
            cursor.settle(((entry.base_offset, entry.end_offset),))
            self.effects.moved[cursor] = None
            cursor.group.dispatch(now)
        self._trim(partition, [Block.of([entry])])

    def _drop_through(self, partition: Partition, offset: int, now: Instant) -> None:
        if offset <= partition.start_offset:
            return
        dropped = partition.drop_through(offset)
        for cursor in partition.cursors:
            if cursor.acked_through < offset:
                cursor.group.drop_range(cursor, 0, offset)
                cursor.pass_to(offset)
                self.effects.moved[cursor] = None
                cursor.group.dispatch(now)
        self._trim(partition, dropped)

    def _trim(self, partition: Partition, blocks: list[Block]) -> None:
        self.effects.trims.append(Trim(partition, blocks))


def _too_many(what: str, limit: str, most: int, retry_after_s: float | None = None) -> FullError:
    return FullError(
        f"there are {most} {what} already, the most allowed ({flag_of(limit)})", retry_after_s=retry_after_s
    )


def position_of(cursor: Cursor, acked_through: int | None = None) -> GroupPosition:
    """Where a cursor stands, or would stand."""
    partition = cursor.partition
    return GroupPosition(
        partition.topic.name,
        partition.number,
        cursor.acked_through if acked_through is None else acked_through,
        partition.visible_end,
    )


def describe_group(group: GroupState) -> Group:
    """A group as it stands."""
    cursors = sorted(group.cursors.values(), key=lambda cursor: (cursor.partition.topic.name, cursor.partition.number))
    return Group(group.name, group.settings, tuple(position_of(cursor) for cursor in cursors))
