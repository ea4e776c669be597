"""What a queue counts, as the types that `/stats`, `/metrics` and the admin calls share."""

from __future__ import annotations

from telemetry.queue.core.clock import Instant
from telemetry.queue.core.cursor import Cursor
from telemetry.queue.core.groups import GroupState
from telemetry.queue.core.queue import QueueCore
from telemetry.queue.core.sessions import Session
from telemetry.queue.core.topics import TopicState
from telemetry.queue.core.types import GroupStats, MemberStats, PartitionStats, TopicPartition, TopicStats


def topic_stats(core: QueueCore, now: Instant) -> list[TopicStats]:
    """The counts of every topic, by name."""
    return [_topic(topic, now) for _, topic in sorted(core.topics.items())]


def group_stats(core: QueueCore, now: Instant) -> list[GroupStats]:
    """The counts of every group, by name."""
    return [_group(group, now) for _, group in sorted(core.groups.items())]


def _topic(topic: TopicState, now: Instant) -> TopicStats:
    return TopicStats(
        topic=topic.name,
        messages=sum(partition.message_count() for partition in topic.partitions),
        bytes=sum(partition.size_bytes for partition in topic.partitions),
        published=topic.published.total,
        duplicates=topic.duplicates,
        publish_rate=topic.published.rate(now.monotonic_s),
        partitions=[
            PartitionStats(partition.number, partition.start_offset, partition.visible_end, partition.size_bytes)
            for partition in topic.partitions
        ],
    )


def _group(group: GroupState, now: Instant) -> GroupStats:
    cursors = group.cursors.values()
    behind = [time_us for cursor in cursors if (time_us := _oldest_unacked_us(cursor)) is not None]
    leased = [piece.last_time_us for session in group.sessions.values() for piece in session.pieces]
    return GroupStats(
        group=group.name,
        mode=group.settings.mode,
        ready=sum(cursor.ready_count() for cursor in cursors),
        unacked=sum(session.unacked for session in group.sessions.values()),
        dead_lettered=group.dead_lettered,
        oldest_unacked_age_s=_age_s(min(leased), now) if leased else None,
        lag_messages=sum(cursor.lag() for cursor in cursors),
        lag_age_s=_age_s(min(behind), now) if behind else None,
        delivered=group.delivered.total,
        acked=group.acked.total,
        redelivered=group.redelivered,
        deliver_rate=group.delivered.rate(now.monotonic_s),
        ack_rate=group.acked.rate(now.monotonic_s),
        blocked_on_max_unacked=group.unsettled >= group.settings.max_unacked,
        members=[_member(session) for _, session in sorted(group.sessions.items())],
    )


def _member(session: Session) -> MemberStats:
    owned = sorted((partition.topic.name, partition.number) for partition in session.partitions)
    return MemberStats(
        member=session.member,
        session_id=session.session_id,
        peer=session.peer,
        permits_messages=max(0, session.permits_messages),
        permits_bytes=None if session.permits_bytes is None else max(0, session.permits_bytes),
        unacked=session.unacked,
        partitions=[TopicPartition(topic, number) for topic, number in owned],
        joined_us=session.joined_us,
    )


def _oldest_unacked_us(cursor: Cursor) -> int | None:
    entry = cursor.partition.index.find(cursor.acked_through)
    if entry is None or entry.base_offset >= cursor.partition.visible_end:
        return None
    return entry.time_us


def _age_s(time_us: int, now: Instant) -> float:
    return max(0.0, (now.wall_us - time_us) / 1e6)
