"""Topics as tables and as JSON, and changes to their settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Final

from telemetry.console.tables import instant, number, properties, rate, seconds, section, size, table
from telemetry.queue import shapes
from telemetry.queue.clients.positions import duration_of
from telemetry.queue.shapes import Json
from telemetry.v1 import queue_admin_pb2

_SETTINGS: Final = {
    "retention_bytes": ("retention", "bytes"),
    "drop_acked": ("retention", "drop_acked"),
    "drop_unacked": ("retention", "drop_unacked"),
    "max_message_bytes": ("limits", "message_bytes"),
    "max_batch_bytes": ("limits", "batch_bytes"),
    "max_batch_messages": ("limits", "batch_messages"),
    "max_partition_bytes": ("limits", "partition_bytes"),
}
"""Where a setting's value lies in a topic, by the option's name."""


def change(topic: queue_admin_pb2.Topic, *, retention_age: object = None, **settings: object) -> None:
    """Write settings into a topic; those that are ``None`` stay as they are, an infinite age is no limit."""
    if isinstance(retention_age, float):
        topic.retention.ClearField("age")
        if isfinite(retention_age):
            topic.retention.age.CopyFrom(duration_of(retention_age))
    for name, value in settings.items():
        if value is not None:
            part, field = _SETTINGS[name]
            setattr(getattr(topic, part), field, value)


def messages_of(
    name: str, stats: queue_admin_pb2.QueueStats, partition: int | None = None, before_offset: int | None = None
) -> int:
    """How many messages a topic holds, or one of its partitions, or those below an offset."""
    return sum(
        max(0, min(each.end_offset, each.end_offset if before_offset is None else before_offset) - each.start_offset)
        for topic in stats.topics
        if topic.topic == name
        for each in topic.partitions
        if partition in (None, each.partition)
    )


def topics_json(topics: Sequence[queue_admin_pb2.Topic], stats: queue_admin_pb2.QueueStats) -> Json:
    """All topics, each as :func:`topic_json`."""
    counted = {each.topic: each for each in stats.topics}
    return {"topics": [_with_stats(topic, counted.get(topic.name)) for topic in topics]}


def topic_json(topic: queue_admin_pb2.Topic, stats: queue_admin_pb2.QueueStats) -> Json:
    """One topic as the REST API has it, with its ``stats``."""
    return _with_stats(topic, next((each for each in stats.topics if each.topic == topic.name), None))


def _with_stats(topic: queue_admin_pb2.Topic, stats: queue_admin_pb2.TopicStats | None) -> Json:
    return shapes.topic(topic) | {"stats": None if stats is None else shapes.topic_stats(stats)}


def topics_table(topics: Sequence[queue_admin_pb2.Topic], stats: queue_admin_pb2.QueueStats) -> Iterator[str]:
    """A line a topic."""
    if not topics:
        yield "there are no topics"
        return
    counted = {each.topic: each for each in stats.topics}
    none = queue_admin_pb2.TopicStats()
    yield from table(
        ("TOPIC", ">PARTITIONS", "STORAGE", ">MESSAGES", ">SIZE", ">IN/S", "KEEPS"),
        [
            (
                topic.name,
                number(topic.partitions),
                shapes.topic(topic)["storage"],
                number(counted.get(topic.name, none).messages),
                size(counted.get(topic.name, none).bytes),
                rate(counted.get(topic.name, none).publish_rate),
                keeps(topic.retention),
            )
            for topic in topics
        ],
    )


def topic_lines(
    topic: queue_admin_pb2.Topic,
    stats: queue_admin_pb2.QueueStats,
    groups: Sequence[queue_admin_pb2.Group],
) -> Iterator[str]:
    """A topic's settings, its partitions, and where its groups stand."""
    counted = next((each for each in stats.topics if each.topic == topic.name), queue_admin_pb2.TopicStats())
    yield from properties(
        (
            *_settings(topic),
            ("messages", number(counted.messages)),
            ("size", size(counted.bytes)),
            ("published", f"{number(counted.published)} since the queue began, {rate(counted.publish_rate)} a second"),
            ("duplicates", f"{number(counted.duplicates)} batches"),
        )
    )
    yield from section(
        "Partitions",
        table(
            (">PARTITION", ">FIRST OFFSET", ">NEXT OFFSET", ">MESSAGES", ">SIZE"),
            [
                (
                    number(each.partition),
                    str(each.start_offset),
                    str(each.end_offset),
                    number(each.end_offset - each.start_offset),
                    size(each.bytes),
                )
                for each in counted.partitions
            ],
        ),
    )
    if groups:
        positions = ((group, [at for at in group.positions if at.topic == topic.name]) for group in groups)
        rows = [(group.name, number(sum(at.end_offset - at.acked_through for at in of))) for group, of in positions]
        yield from section("Groups", table(("GROUP", ">LAG"), rows))


def settings_lines(topic: queue_admin_pb2.Topic) -> Iterator[str]:
    """A topic's settings."""
    yield from properties(_settings(topic))


def _settings(topic: queue_admin_pb2.Topic) -> list[tuple[str, str]]:
    limits = topic.limits
    return [
        ("topic", topic.name),
        ("partitions", number(topic.partitions)),
        ("storage", shapes.topic(topic)["storage"]),
        ("made", instant(shapes.instant(topic, "create_time"))),
        ("keeps", keeps(topic.retention)),
        ("largest message", size(limits.message_bytes)),
        ("largest batch", f"{size(limits.batch_bytes)}, {number(limits.batch_messages)} messages"),
        ("full at", f"{size(limits.partition_bytes)} a partition" if limits.partition_bytes else "-"),
    ]


def keeps(retention: queue_admin_pb2.Retention) -> str:
    """What a topic keeps, in words."""
    limits = []
    if retention.HasField("age"):
        limits.append(seconds(shapes.seconds(retention, "age")))
    if retention.bytes:
        limits.append(f"{size(retention.bytes)} a partition")
    if retention.drop_acked:
        limits.append("until acked")
    if not limits:
        return "everything"
    return ", ".join(limits) + (", unacked go too" if retention.drop_unacked else "")
