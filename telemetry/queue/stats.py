"""The one statistics type of the server, and its message; the message's JSON is in `shapes`, for all who show it."""

from __future__ import annotations

from dataclasses import dataclass

from telemetry.queue.core.types import GroupStats, LogStats, MemberStats, QueueStats, TopicStats
from telemetry.queue.services.encode import MODES, duration, timestamp, topic_partitions
from telemetry.v1 import queue_admin_pb2


@dataclass(frozen=True, slots=True)
class ServerStats:
    """What the engine counts, and what only the server knows. ``started_us`` is microseconds since 1970."""

    version: str
    started_us: int
    connections: int
    queue: QueueStats


def stats_message(stats: ServerStats) -> queue_admin_pb2.QueueStats:
    """The statistics as QueueAdminService returns them."""
    return queue_admin_pb2.QueueStats(
        version=stats.version,
        start_time=timestamp(stats.started_us),
        engine=stats.queue.engine,
        topics=[_topic_message(topic) for topic in stats.queue.topics],
        groups=[_group_message(group) for group in stats.queue.groups],
        log=None if stats.queue.log is None else _log_message(stats.queue.log),
        connections=stats.connections,
    )


def _topic_message(topic: TopicStats) -> queue_admin_pb2.TopicStats:
    return queue_admin_pb2.TopicStats(
        topic=topic.topic,
        messages=topic.messages,
        bytes=topic.bytes,
        published=topic.published,
        duplicates=topic.duplicates,
        publish_rate=topic.publish_rate,
        partitions=[
            queue_admin_pb2.PartitionStats(
                partition=each.partition,
                start_offset=each.start_offset,
                end_offset=each.end_offset,
                bytes=each.bytes,
            )
            for each in topic.partitions
        ],
    )


def _group_message(group: GroupStats) -> queue_admin_pb2.GroupStats:
    return queue_admin_pb2.GroupStats(
        group=group.group,
        mode=MODES[group.mode],
        ready=group.ready,
        unacked=group.unacked,
        dead_lettered=group.dead_lettered,
        oldest_unacked_age=None if group.oldest_unacked_age_s is None else duration(group.oldest_unacked_age_s),
        lag_messages=group.lag_messages,
        lag_age=None if group.lag_age_s is None else duration(group.lag_age_s),
        delivered=group.delivered,
        acked=group.acked,
        redelivered=group.redelivered,
        deliver_rate=group.deliver_rate,
        ack_rate=group.ack_rate,
        blocked_on_max_unacked=group.blocked_on_max_unacked,
        members=[_member_message(member) for member in group.members],
    )


def _member_message(member: MemberStats) -> queue_admin_pb2.MemberStats:
    return queue_admin_pb2.MemberStats(
        member=member.member,
        session_id=member.session_id,
        peer=member.peer,
        permits_messages=member.permits_messages,
        permits_bytes=member.permits_bytes or 0,
        unacked=member.unacked,
        partitions=topic_partitions(member.partitions),
        join_time=timestamp(member.joined_us),
    )


def _log_message(log: LogStats) -> queue_admin_pb2.LogStats:
    return queue_admin_pb2.LogStats(
        bytes=log.bytes,
        segments=log.segments,
        fsyncs=log.fsyncs,
        fsync_p50=duration(log.fsync_p50_s),
        fsync_p99=duration(log.fsync_p99_s),
        quarantined_records=log.quarantined_records,
        torn_bytes=log.torn_bytes,
    )
