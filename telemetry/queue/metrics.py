"""The server's statistics as Prometheus metrics, made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from telemetry.queue.core.types import GroupStats, LogStats, MemberStats, PartitionStats, TopicStats
from telemetry.queue.stats import ServerStats

Counted = TypeVar("Counted")
Measure = tuple[type[CounterMetricFamily] | type[GaugeMetricFamily], str, str, Callable[[Counted], float | None]]
"""Kind, name without `telemetry_queue_`, help, and where the value is found; ``None`` leaves the sample out."""

C, G = CounterMetricFamily, GaugeMetricFamily

SERVER: Final[Sequence[Measure[ServerStats]]] = (
    (
        G,
        "start_time_seconds",
        "When the server started, as a Unix time.",
        lambda stats: stats.started_us / 1e6,
    ),
    (G, "connections", "Open Publish, Subscribe and Ack streams.", lambda stats: stats.connections),
)
TOPIC: Final[Sequence[Measure[TopicStats]]] = (
    (G, "topic_messages", "Messages stored now.", lambda topic: topic.messages),
    (G, "topic_bytes", "Bytes stored now.", lambda topic: topic.bytes),
    (C, "topic_published_messages", "Messages published.", lambda topic: topic.published),
    (C, "topic_duplicate_batches", "Batches refused as duplicates.", lambda topic: topic.duplicates),
)
PARTITION: Final[Sequence[Measure[PartitionStats]]] = (
    (G, "partition_start_offset", "The first offset still stored.", lambda partition: partition.start_offset),
    (G, "partition_end_offset", "The offset that the next message will get.", lambda partition: partition.end_offset),
    (G, "partition_bytes", "Bytes stored now.", lambda partition: partition.bytes),
)
GROUP: Final[Sequence[Measure[GroupStats]]] = (
    (G, "group_ready_messages", "Messages that could be delivered now.", lambda group: group.ready),
    (G, "group_unacked_messages", "Messages delivered and not settled.", lambda group: group.unacked),
    (G, "group_lag_messages", "Messages between the group's position and the end.", lambda group: group.lag_messages),
    (G, "group_lag_seconds", "Age of the oldest message not yet acked.", lambda group: group.lag_age_s),
    (
        G,
        "group_oldest_unacked_seconds",
        "Age of the oldest unsettled delivery.",
        lambda group: group.oldest_unacked_age_s,
    ),
    (
        G,
        "group_blocked_on_max_unacked",
        "Whether delivery waits because max_unacked is reached.",
        lambda group: group.blocked_on_max_unacked,
    ),
    (G, "group_members", "Members connected.", lambda group: len(group.members)),
    (C, "group_delivered_messages", "Messages delivered, redeliveries included.", lambda group: group.delivered),
    (C, "group_redelivered_messages", "Messages delivered again.", lambda group: group.redelivered),
    (C, "group_acked_messages", "Messages acked.", lambda group: group.acked),
    (C, "group_dead_lettered_messages", "Messages moved to a dead-letter topic.", lambda group: group.dead_lettered),
)
MEMBER: Final[Sequence[Measure[MemberStats]]] = (
    (G, "member_unacked_messages", "Messages that the member has and has not settled.", lambda member: member.unacked),
    (G, "member_permits_messages", "Permits left, in messages.", lambda member: member.permits_messages),
    (
        G,
        "member_permits_bytes",
        "Permits left, in bytes, when limited.",
        lambda member: member.permits_bytes,
    ),
    (G, "member_partitions", "Partitions that the member owns.", lambda member: len(member.partitions)),
)
LOG: Final[Sequence[Measure[LogStats]]] = (
    (G, "log_bytes", "Bytes on disk.", lambda log: log.bytes),
    (G, "log_segments", "Segment files.", lambda log: log.segments),
    (C, "log_fsyncs", "Fsyncs.", lambda log: log.fsyncs),
    (G, "log_fsync_p50_seconds", "The median of the last 1000 fsyncs.", lambda log: log.fsync_p50_s),
    (G, "log_fsync_p99_seconds", "The 99th percentile of the last 1000 fsyncs.", lambda log: log.fsync_p99_s),
    (G, "log_quarantined_records", "Damaged records put aside.", lambda log: log.quarantined_records),
    (G, "log_torn_bytes", "Bytes cut from torn tails when the server started.", lambda log: log.torn_bytes),
)


class QueueCollector(Collector):
    """Yields one set of statistics."""

    def __init__(self, stats: ServerStats) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        """All metrics of the queue."""
        queue = self._stats.queue
        topics, groups = queue.topics, queue.groups
        partitions = [((topic.topic, str(each.partition)), each) for topic in topics for each in topic.partitions]
        members = [((group.group, member.member), member) for group in groups for member in group.members]
        yield from _families(SERVER, (), [((), self._stats)])
        yield from _families(TOPIC, ("topic",), [((topic.topic,), topic) for topic in topics])
        yield from _families(PARTITION, ("topic", "partition"), partitions)
        yield from _families(GROUP, ("group",), [((group.group,), group) for group in groups])
        yield from _families(MEMBER, ("group", "member"), members)
        if queue.log is not None:
            yield from _families(LOG, (), [((), queue.log)])


def _families(
    measures: Iterable[Measure[Counted]], labels: Sequence[str], counted: Sequence[tuple[Sequence[str], Counted]]
) -> Iterator[Metric]:
    for kind, name, text, value_of in measures:
        family = kind(f"telemetry_queue_{name}", text, labels=labels)
        for values, thing in counted:
            value = value_of(thing)
            if value is not None:
                family.add_metric(values, value)
        yield family
