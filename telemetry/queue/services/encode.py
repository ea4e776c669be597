"""From the queue's own types to messages on the wire."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from telemetry.queue import wire_pb2
from telemetry.queue.core.types import (
    Assigned,
    Delivery,
    Gap,
    Group,
    GroupPosition,
    Mode,
    Revoked,
    Started,
    Storage,
    SubscriptionEvent,
    Topic,
    TopicPartition,
)
from telemetry.v1 import queue_admin_pb2, queue_pb2

MODES: Final = {
    Mode.SHARED: queue_pb2.SUBSCRIPTION_MODE_SHARED,
    Mode.ORDERED: queue_pb2.SUBSCRIPTION_MODE_ORDERED,
}
_STORAGES: Final = {
    None: queue_admin_pb2.TOPIC_STORAGE_UNSPECIFIED,
    Storage.DISK: queue_admin_pb2.TOPIC_STORAGE_DISK,
    Storage.MEMORY: queue_admin_pb2.TOPIC_STORAGE_MEMORY,
}


def timestamp(us: int) -> Timestamp:
    """An instant given in microseconds since 1970."""
    seconds, rest = divmod(us, 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1000)


def duration(seconds: float) -> Duration:
    """A length of time given in seconds, to the microsecond."""
    whole, rest = divmod(round(seconds * 1e6), 1_000_000)
    return Duration(seconds=whole, nanos=rest * 1000)


def topic_partitions(partitions: Iterable[TopicPartition]) -> list[queue_pb2.TopicPartition]:
    """Partitions by topic and number."""
    return [queue_pb2.TopicPartition(topic=each.topic, partition=each.partition) for each in partitions]


def started_response(started: Started) -> wire_pb2.SubscribeResponse:
    """The first response of a subscription."""
    settings = started.settings
    return wire_pb2.SubscribeResponse(
        started=queue_pb2.SubscribeStarted(
            session_id=started.session_id,
            group=started.group,
            member=started.member,
            mode=MODES[settings.mode],
            ack_wait=duration(settings.ack_wait_s),
            max_deliver=settings.max_deliver,
            backoff=[duration(delay) for delay in settings.backoff_s],
            dead_letter_topic=settings.dead_letter_topic,
            max_unacked=settings.max_unacked,
        )
    )


def drain_response(deadline_s: float) -> wire_pb2.SubscribeResponse:
    """Asks the member to go before ``deadline_s`` (seconds since 1970)."""
    return wire_pb2.SubscribeResponse(drain=queue_pb2.SubscribeDrain(deadline=timestamp(round(deadline_s * 1e6))))


def event_response(event: SubscriptionEvent) -> wire_pb2.SubscribeResponse:
    """One event of a subscription."""
    response = wire_pb2.SubscribeResponse()
    match event:
        case Delivery():
            delivery = response.delivery
            delivery.delivery_id = event.delivery_id
            delivery.topic = event.topic
            delivery.partition = event.partition
            delivery.base_offset = event.base_offset
            delivery.attempt = event.attempt
            delivery.publish_time.CopyFrom(timestamp(event.publish_time_us))
            delivery.batch = event.batch
            for first, count in event.due:
                delivery.due.add(first=first, count=count)
        case Assigned():
            response.assigned.partitions.extend(topic_partitions(event.partitions))
        case Revoked():
            response.revoked.partitions.extend(topic_partitions(event.partitions))
        case Gap():
            response.gap.topic = event.topic
            response.gap.partition = event.partition
            response.gap.missed = event.missed
    return response


def topic_message(topic: Topic) -> queue_admin_pb2.Topic:
    """A topic with its defaults filled in."""
    config = topic.config
    retention = queue_admin_pb2.Retention(
        bytes=config.retention.bytes,
        drop_unacked=config.retention.drop_unacked,
        drop_acked=config.retention.drop_acked,
    )
    if config.retention.age_s is not None:
        retention.age.CopyFrom(duration(config.retention.age_s))
    return queue_admin_pb2.Topic(
        name=config.name,
        partitions=config.partitions,
        storage=_STORAGES[config.storage],
        retention=retention,
        limits=queue_admin_pb2.TopicLimits(
            message_bytes=config.limits.message_bytes,
            batch_bytes=config.limits.batch_bytes,
            batch_messages=config.limits.batch_messages,
            partition_bytes=config.limits.partition_bytes,
        ),
        create_time=timestamp(topic.created_us),
    )


def group_positions(positions: Iterable[GroupPosition]) -> list[queue_admin_pb2.GroupPosition]:
    """Where a group stands in each partition."""
    return [
        queue_admin_pb2.GroupPosition(
            topic=each.topic,
            partition=each.partition,
            acked_through=each.acked_through,
            end_offset=each.end_offset,
        )
        for each in positions
    ]


def group_message(group: Group) -> queue_admin_pb2.Group:
    """A group, its settings and where it stands."""
    settings = group.settings
    return queue_admin_pb2.Group(
        name=group.name,
        topics=settings.topics,
        mode=MODES[settings.mode],
        ack_wait=duration(settings.ack_wait_s),
        max_deliver=settings.max_deliver,
        backoff=[duration(delay) for delay in settings.backoff_s],
        dead_letter_topic=settings.dead_letter_topic,
        max_unacked=settings.max_unacked,
        positions=group_positions(group.positions),
    )
