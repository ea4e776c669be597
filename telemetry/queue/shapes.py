"""QueueAdminService's messages as the plain dictionaries that become JSON, for REST and the command line alike."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from telemetry.v1 import queue_admin_pb2, queue_pb2

Json = dict[str, Any]

_STORAGE: Final = {queue_admin_pb2.TOPIC_STORAGE_DISK: "disk", queue_admin_pb2.TOPIC_STORAGE_MEMORY: "memory"}
_MODES: Final = {queue_pb2.SUBSCRIPTION_MODE_SHARED: "shared", queue_pb2.SUBSCRIPTION_MODE_ORDERED: "ordered"}


def instant(message: Message, field: str) -> datetime | None:
    """A Timestamp field as UTC, or ``None`` when it is not set."""
    if not message.HasField(field):
        return None
    timestamp: Timestamp = getattr(message, field)
    return timestamp.ToDatetime(UTC)


def seconds(message: Message, field: str) -> float | None:
    """A Duration field in seconds, or ``None`` when it is not set."""
    return _seconds(getattr(message, field)) if message.HasField(field) else None


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def topic(message: queue_admin_pb2.Topic) -> Json:
    """One topic."""
    retention, limits = message.retention, message.limits
    return {
        "name": message.name,
        "partitions": message.partitions,
        "storage": _STORAGE.get(message.storage, ""),
        "create_time": instant(message, "create_time"),
        "retention": {
            "age_s": seconds(retention, "age"),
            "bytes": retention.bytes,
            "drop_unacked": retention.drop_unacked,
            "drop_acked": retention.drop_acked,
        },
        "limits": {
            "message_bytes": limits.message_bytes,
            "batch_bytes": limits.batch_bytes,
            "batch_messages": limits.batch_messages,
            "partition_bytes": limits.partition_bytes,
        },
    }


def group(message: queue_admin_pb2.Group) -> Json:
    """One subscription group."""
    return {
        "name": message.name,
        "topics": list(message.topics),
        "mode": _MODES.get(message.mode, ""),
        "ack_wait_s": seconds(message, "ack_wait"),
        "max_deliver": message.max_deliver,
        "backoff_s": [_seconds(delay) for delay in message.backoff],
        "dead_letter_topic": message.dead_letter_topic,
        "max_unacked": message.max_unacked,
        "positions": [group_position(each) for each in message.positions],
    }


def group_position(message: queue_admin_pb2.GroupPosition) -> Json:
    """Where a group stands in a partition."""
    return {
        "topic": message.topic,
        "partition": message.partition,
        "acked_through": message.acked_through,
        "end_offset": message.end_offset,
    }


def queue_stats(message: queue_admin_pb2.QueueStats) -> Json:
    """All that the queue counts; its own `/stats` has the same shape."""
    return {
        "version": message.version,
        "start_time": instant(message, "start_time"),
        "engine": message.engine,
        "connections": message.connections,
        "topics": [topic_stats(each) for each in message.topics],
        "groups": [group_stats(each) for each in message.groups],
        "log": _log_stats(message.log) if message.HasField("log") else None,
    }


def topic_stats(message: queue_admin_pb2.TopicStats) -> Json:
    """What is counted of a topic."""
    return {
        "topic": message.topic,
        "messages": message.messages,
        "bytes": message.bytes,
        "published": message.published,
        "duplicates": message.duplicates,
        "publish_rate": message.publish_rate,
        "partitions": [
            {
                "partition": each.partition,
                "start_offset": each.start_offset,
                "end_offset": each.end_offset,
                "bytes": each.bytes,
            }
            for each in message.partitions
        ],
    }


def group_stats(message: queue_admin_pb2.GroupStats) -> Json:
    """What is counted of a group."""
    return {
        "group": message.group,
        "mode": _MODES.get(message.mode, ""),
        "ready": message.ready,
        "unacked": message.unacked,
        "dead_lettered": message.dead_lettered,
        "oldest_unacked_age_s": seconds(message, "oldest_unacked_age"),
        "lag_messages": message.lag_messages,
        "lag_age_s": seconds(message, "lag_age"),
        "delivered": message.delivered,
        "acked": message.acked,
        "redelivered": message.redelivered,
        "deliver_rate": message.deliver_rate,
        "ack_rate": message.ack_rate,
        "blocked_on_max_unacked": message.blocked_on_max_unacked,
        "members": [_member_stats(each) for each in message.members],
    }


def _member_stats(message: queue_admin_pb2.MemberStats) -> Json:
    return {
        "member": message.member,
        "session_id": message.session_id,
        "peer": message.peer,
        "permits_messages": message.permits_messages,
        "permits_bytes": message.permits_bytes,
        "unacked": message.unacked,
        "partitions": [{"topic": each.topic, "partition": each.partition} for each in message.partitions],
        "join_time": instant(message, "join_time"),
    }


def _log_stats(message: queue_admin_pb2.LogStats) -> Json:
    return {
        "bytes": message.bytes,
        "segments": message.segments,
        "fsyncs": message.fsyncs,
        "fsync_p50_s": seconds(message, "fsync_p50"),
        "fsync_p99_s": seconds(message, "fsync_p99"),
        "quarantined_records": message.quarantined_records,
        "torn_bytes": message.torn_bytes,
    }
