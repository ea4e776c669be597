"""The queue's vocabulary: topics, batches, deliveries, groups, and what is counted. Plain data, no rules."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

MESSAGE_BYTES_MAX: Final = 8 << 20
"""Largest message, in bytes of data."""
BATCH_BYTES_MAX: Final = 8 << 20
"""Largest encoded batch, in bytes."""
BATCH_MESSAGES_MAX: Final = 65_536
"""Most messages in a batch."""
TOPIC_NAME_BYTES_MAX: Final = 200
"""Longest topic name."""
PARTITIONS_MAX: Final = 1024
"""Most partitions of a topic."""
PRODUCER_BYTES_MAX: Final = 128
"""Longest name of a producer, in UTF-8."""
DURATION_S_MAX: Final = 12 * 3600.0
"""Longest ack wait, delay and backoff."""


class Storage(enum.Enum):
    """Where a topic's messages are kept."""

    DISK = "disk"
    MEMORY = "memory"


class Mode(enum.Enum):
    """How members of a group share its messages."""

    SHARED = "shared"
    ORDERED = "ordered"


class Outcome(enum.Enum):
    """What a subscriber made of a delivery."""

    ACK = "ack"
    NACK = "nack"
    EXTEND = "extend"
    TERMINATE = "terminate"


class AckStatus(enum.Enum):
    """What became of an ack entry."""

    OK = "ok"
    STALE = "stale"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Retention:
    """When messages may be dropped. Nothing is dropped that a group has not acked, unless ``drop_unacked``."""

    age_s: float | None = None
    bytes: int = 0
    drop_unacked: bool = False
    drop_acked: bool = False


@dataclass(frozen=True, slots=True)
class TopicLimits:
    """What a topic refuses. 0 means the queue's own limit."""

    message_bytes: int = 0
    batch_bytes: int = 0
    batch_messages: int = 0
    partition_bytes: int = 0


@dataclass(frozen=True, slots=True)
class TopicConfig:
    """A topic as it is made. ``storage`` ``None`` means the engine's default."""

    name: str
    partitions: int = 1
    storage: Storage | None = None
    retention: Retention = field(default_factory=Retention)
    limits: TopicLimits = field(default_factory=TopicLimits)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it stands: the defaults filled in, and when it was made (microseconds since 1970)."""

    config: TopicConfig
    created_us: int


class Place(enum.Enum):
    """Named positions in a partition."""

    EARLIEST = "earliest"
    LATEST = "latest"


@dataclass(frozen=True, slots=True)
class AtTime:
    """The first message published at or after this time (microseconds since 1970)."""

    time_us: int


@dataclass(frozen=True, slots=True)
class AtOffset:
    """This offset, clamped to what is stored."""

    offset: int


Position = Place | AtTime | AtOffset
"""Where to begin in each partition."""


@dataclass(frozen=True, slots=True)
class PublishBatch:
    """One request to store a batch.

    ``batch`` is an encoded ``MessageBatch`` of ``count`` messages, already validated by the caller against the wire's
    absolute limits; the engine checks the topic's own (``largest_message`` is the largest ``data`` in it).
    At most one of ``partition`` and ``ordering_key`` is set; with neither the engine picks partitions in turn.
    ``producer_id`` empty means no idempotence.
    """

    topic: str
    batch: bytes
    count: int
    largest_message: int = 0
    partition: int | None = None
    ordering_key: str | None = None
    producer_id: str = ""
    producer_epoch: int = 0
    first_sequence: int = 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where a batch is stored. ``base_offset`` is ``None`` for a duplicate from further back than is remembered."""

    partition: int
    base_offset: int | None
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """What a group's first member fixes."""

    topics: tuple[str, ...]
    mode: Mode = Mode.SHARED
    ack_wait_s: float = 30.0
    max_deliver: int = 10
    backoff_s: tuple[float, ...] = ()
    dead_letter_topic: str = ""
    max_unacked: int = 1_000_000


@dataclass(frozen=True, slots=True)
class SubscribeOptions:
    """A request to subscribe. ``None`` in a setting means: the group's, or the default for a new group.

    ``group`` empty is an ephemeral subscription: nothing is leased or acked, ``position`` defaults to LATEST and a slow
    reader gets a :class:`Gap`.
    """

    topics: tuple[str, ...]
    group: str = ""
    member: str = ""
    peer: str = ""
    position: Position | None = None
    mode: Mode | None = None
    ack_wait_s: float | None = None
    max_deliver: int | None = None
    backoff_s: tuple[float, ...] | None = None
    dead_letter_topic: str | None = None
    max_unacked: int | None = None


@dataclass(frozen=True, slots=True)
class TopicPartition:
    """One partition of one topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """A batch handed to a member, or what of it is due again.

    ``due`` holds ``(first, count)`` runs within the batch, counted from 0; empty means all of it. ``delivery_id`` is
    empty and ``attempt`` 0 in an ephemeral subscription.
    """

    delivery_id: str
    topic: str
    partition: int
    base_offset: int
    attempt: int
    publish_time_us: int
    batch: bytes
    count: int
    due: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Assigned:
    """ORDERED: these partitions are this member's from now on."""

    partitions: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True)
class Revoked:
    """ORDERED: these partitions are to go to another member, once what was sent of them is settled."""

    partitions: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """An ephemeral reader was too slow: ``missed`` messages of a partition were passed over."""

    topic: str
    partition: int
    missed: int


SubscriptionEvent = Delivery | Assigned | Revoked | Gap
"""What a subscription yields."""


@dataclass(frozen=True, slots=True)
class Started:
    """A subscription's settings in force."""

    session_id: str
    group: str
    member: str
    settings: GroupSettings


@dataclass(frozen=True, slots=True)
class AckEntry:
    """Settles a delivery or a part: ``run`` is ``(first, count)`` within the batch, ``None`` all that is still due."""

    delivery_id: str
    outcome: Outcome
    run: tuple[int, int] | None = None
    delay_s: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class GroupPosition:
    """Where a group stands: every offset below ``acked_through`` is settled."""

    topic: str
    partition: int
    acked_through: int
    end_offset: int


@dataclass(frozen=True, slots=True)
class Group:
    """A subscription group."""

    name: str
    settings: GroupSettings
    positions: tuple[GroupPosition, ...]


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A batch as it lies in a partition."""

    partition: int
    base_offset: int
    count: int
    publish_time_us: int
    batch: bytes


@dataclass(frozen=True, slots=True)
class ProducerPosition:
    """How far a producer has come in a partition."""

    partition: int
    epoch: int
    last_sequence: int


@dataclass(frozen=True, slots=True)
class PartitionStats:
    """Counts of one partition."""

    partition: int
    start_offset: int
    end_offset: int
    bytes: int


@dataclass(frozen=True, slots=True)
class TopicStats:
    """Counts of one topic; counters are since the server started, the rate over the last 10 s."""

    topic: str
    messages: int
    bytes: int
    published: int
    duplicates: int
    publish_rate: float
    partitions: Sequence[PartitionStats]


@dataclass(frozen=True, slots=True)
class MemberStats:
    """Counts of one member of a group. ``permits_bytes`` ``None`` means that bytes are not limited."""

    member: str
    session_id: str
    peer: str
    permits_messages: int
    permits_bytes: int | None
    unacked: int
    partitions: Sequence[TopicPartition]
    joined_us: int


@dataclass(frozen=True, slots=True)
class GroupStats:
    """Counts of one group; counters are since the server started, rates over the last 10 s."""

    group: str
    mode: Mode
    ready: int
    unacked: int
    dead_lettered: int
    oldest_unacked_age_s: float | None
    lag_messages: int
    lag_age_s: float | None
    delivered: int
    acked: int
    redelivered: int
    deliver_rate: float
    ack_rate: float
    blocked_on_max_unacked: bool
    members: Sequence[MemberStats]


@dataclass(frozen=True, slots=True)
class LogStats:
    """The log on disk. Fsync times cover the last 1000."""

    bytes: int
    segments: int
    fsyncs: int
    fsync_p50_s: float
    fsync_p99_s: float
    quarantined_records: int
    torn_bytes: int


@dataclass(frozen=True, slots=True)
class QueueStats:
    """All that an engine counts; the server adds its version, start time and connections."""

    engine: str
    topics: Sequence[TopicStats]
    groups: Sequence[GroupStats]
    log: LogStats | None
