"""A topic: its configuration with the defaults filled in, its partitions, and what they refuse and drop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from telemetry.queue.core.errors import FullError, InvalidArgumentError, NotFoundError, PreconditionError
from telemetry.queue.core.limits import DEFAULT_LIMITS, Limits, flag_of
from telemetry.queue.core.names import check_topic_name, partition_of_key
from telemetry.queue.core.partition import Partition
from telemetry.queue.core.rates import Meter
from telemetry.queue.core.types import (
    PRODUCER_BYTES_MAX,
    PublishBatch,
    Storage,
    Topic,
    TopicConfig,
    TopicLimits,
)

RETRY_AFTER_S = 1.0
"""What a publisher is told to wait when a partition is full."""


class TopicDefaults:
    """What a topic is made with where its configuration leaves it open, and the storages there are."""

    def __init__(
        self, storage: Storage, partition_bytes: Mapping[Storage, int], limits: Limits = DEFAULT_LIMITS
    ) -> None:
        """``partition_bytes`` has the default limit of a partition for each storage that the engine offers."""
        self.storage = storage
        self.partition_bytes = partition_bytes
        self.limits = limits

    def fill(self, config: TopicConfig) -> TopicConfig:
        """Check a configuration and return it with the defaults filled in.

        Raises:
            InvalidArgumentError: naming the field that is wrong.
        """
        storage = config.storage or self.storage
        if storage not in self.partition_bytes:
            raise InvalidArgumentError(f"this queue keeps no topics on {storage.value}", field="topic.storage")
        most = self.limits.max_partitions
        if not 0 <= config.partitions <= most:
            raise InvalidArgumentError(
                f"a topic has 1 to {most} partitions ({flag_of('max_partitions')}), not {config.partitions}",
                field="topic.partitions",
            )
        retention, limits = config.retention, config.limits
        if retention.age_s is not None and retention.age_s <= 0:
            raise InvalidArgumentError("the age to keep must be positive, or unset", field="topic.retention.age")
        if retention.bytes < 0:
            raise InvalidArgumentError("the bytes to keep must not be negative", field="topic.retention.bytes")
        filled = TopicLimits(
            message_bytes=limits.message_bytes or self.limits.max_message_bytes,
            batch_bytes=limits.batch_bytes or self.limits.max_batch_bytes,
            batch_messages=limits.batch_messages or self.limits.max_batch_messages,
            partition_bytes=limits.partition_bytes or self.partition_bytes[storage],
        )
        for name in ("message_bytes", "batch_bytes", "batch_messages"):
            value, most = getattr(filled, name), getattr(self.limits, f"max_{name}")
            if not 0 <= value <= most:
                raise InvalidArgumentError(
                    f"{name} must be 0 to {most} ({flag_of(f'max_{name}')}), not {value}", field=f"topic.limits.{name}"
                )
        if filled.partition_bytes < 0:
            raise InvalidArgumentError("partition_bytes must not be negative", field="topic.limits.partition_bytes")
        return replace(config, partitions=config.partitions or 1, storage=storage, limits=filled)


class TopicState:
    """A topic and its partitions. ``topic_id`` is never reused, so that the log can tell a name's topics apart."""

    def __init__(self, topic_id: int, config: TopicConfig, created_us: int) -> None:
        self.topic_id = topic_id
        self.config = config
        self.created_us = created_us
        self.partitions = tuple(Partition(self, number) for number in range(config.partitions))
        self.published = Meter()
        self.duplicates = 0
        self._next_partition = 0

    @property
    def name(self) -> str:
        """The topic's name."""
        return self.config.name

    @property
    def in_memory(self) -> bool:
        """Whether its messages go with the process."""
        return self.config.storage is Storage.MEMORY

    def describe(self) -> Topic:
        """The topic as it stands."""
        return Topic(self.config, self.created_us)

    def update(self, config: TopicConfig, defaults: TopicDefaults) -> None:
        """Replace retention and limits. Partitions 0 and no storage mean: as they are.

        Raises:
            PreconditionError: if partitions or storage would change.
        """
        if config.partitions not in (0, self.config.partitions):
            raise PreconditionError(
                f"topic {self.name} has {self.config.partitions} partitions, which cannot change",
                field="topic.partitions",
            )
        if config.storage not in (None, self.config.storage):
            raise PreconditionError(f"the storage of topic {self.name} cannot change", field="topic.storage")
        self.config = defaults.fill(replace(config, partitions=self.config.partitions, storage=self.config.storage))

    def check_limits(self, batch: PublishBatch) -> None:
        """Raise `InvalidArgumentError` if the batch is more than the topic takes."""
        limits = self.config.limits
        if not 1 <= batch.count <= limits.batch_messages:
            raise InvalidArgumentError(
                f"topic {self.name} takes 1 to {limits.batch_messages} messages a batch, not {batch.count}",
                field="batch.messages",
            )
        if len(batch.batch) > limits.batch_bytes:
            raise InvalidArgumentError(
                f"topic {self.name} takes batches of at most {limits.batch_bytes} bytes, not {len(batch.batch)}",
                field="batch",
            )
        if len(batch.producer_id.encode()) > PRODUCER_BYTES_MAX:
            raise InvalidArgumentError(f"a producer's name has at most {PRODUCER_BYTES_MAX} bytes", field="producer_id")
        if batch.largest_message > limits.message_bytes:
            raise InvalidArgumentError(
                f"topic {self.name} takes messages of at most {limits.message_bytes} bytes, "
                f"not {batch.largest_message}",
                field="batch.messages.data",
            )

    def choose(self, batch: PublishBatch) -> Partition:
        """The partition that the batch goes to: the one it names, the one of its key, or each in turn."""
        if batch.partition is not None:
            if not 0 <= batch.partition < len(self.partitions):
                raise InvalidArgumentError(self._no_partition(batch.partition), field="partition")
            return self.partitions[batch.partition]
        if batch.ordering_key:
            return self.partitions[partition_of_key(batch.ordering_key, len(self.partitions))]
        if batch.producer_id:
            raise InvalidArgumentError(
                "a producer must name the partition or the ordering key, or its batches could not be told apart",
                field="producer_id",
            )
        number, self._next_partition = self._next_partition, (self._next_partition + 1) % len(self.partitions)
        return self.partitions[number]

    def partition(self, number: int) -> Partition:
        """The partition of that number.

        Raises:
            NotFoundError: if there is none.
        """
        if not 0 <= number < len(self.partitions):
            raise NotFoundError(self._no_partition(number), field="partition")
        return self.partitions[number]

    def _no_partition(self, number: int) -> str:
        return f"topic {self.name} has partitions 0 to {len(self.partitions) - 1}, not {number}"

    def offset_to_keep(self, partition: Partition, now_us: int) -> int:
        """Below which offset retention says to drop now."""
        retention = self.config.retention
        settled = partition.acked_through()
        droppable = partition.visible_end if settled is None or retention.drop_unacked else settled
        keep = partition.start_offset
        if retention.drop_acked and settled is not None:
            keep = settled
        if retention.age_s is not None:
            entry = partition.index.find_time(now_us - int(retention.age_s * 1_000_000))
            keep = max(keep, partition.visible_end if entry is None else entry.base_offset)
        if retention.bytes:
            keep = max(keep, _offset_to_free(partition, partition.size_bytes - retention.bytes))
        return max(partition.start_offset, min(keep, droppable))

    def offset_to_fit(self, partition: Partition, size: int) -> int:
        """Below which offset to drop, so that ``size`` more bytes fit under the partition's limit.

        What every group has acked makes room, and in memory also what no group asks for.

        Raises:
            FullError: if that is not enough.
        """
        excess = partition.size_bytes + size - self.config.limits.partition_bytes
        if excess <= 0:
            return partition.start_offset
        settled = partition.acked_through()
        if settled is None and self.in_memory:
            settled = partition.visible_end
        if self.config.retention.drop_unacked:
            settled = partition.visible_end
        keep = _offset_to_free(partition, excess)
        if settled is None or keep > settled or excess > partition.size_bytes:
            raise FullError(
                f"partition {partition.number} of topic {self.name} is full: "
                f"{partition.size_bytes} of {self.config.limits.partition_bytes} bytes",
                retry_after_s=RETRY_AFTER_S,
            )
        return keep


def _offset_to_free(partition: Partition, excess: int) -> int:
    """The offset below which the oldest batches together hold at least ``excess`` bytes."""
    keep = partition.start_offset
    if excess > 0:
        for entry in partition.index:
            keep = entry.end_offset
            excess -= entry.size
            if excess <= 0:
                break
    return keep


def new_topic(topic_id: int, config: TopicConfig, defaults: TopicDefaults, created_us: int) -> TopicState:
    """Make a topic.

    Raises:
        InvalidArgumentError: naming the field that is wrong.
    """
    check_topic_name(config.name, "topic.name")
    return TopicState(topic_id, defaults.fill(config), created_us)
