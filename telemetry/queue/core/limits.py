"""What a queue refuses because it is too much: one set of numbers, which whoever runs it may change by flags."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from telemetry.queue.core.types import BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, MESSAGE_BYTES_MAX, PARTITIONS_MAX


def _limit(default: int, most: int, text: str) -> int:
    """A limit with its bounds and meaning, from which its flag and its place in the documentation are made."""
    value: int = field(default=default, metadata={"most": most, "text": text})
    return value


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits in force. Each is at least 1, and a refusal names the flag that sets it, :func:`flag_of`."""

    max_message_bytes: int = _limit(MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX, "Largest message, in bytes of data.")
    max_batch_bytes: int = _limit(BATCH_BYTES_MAX, BATCH_BYTES_MAX, "Largest encoded batch, in bytes.")
    max_batch_messages: int = _limit(BATCH_MESSAGES_MAX, BATCH_MESSAGES_MAX, "Most messages in a batch.")
    max_topics: int = _limit(10_000, 100_000, "Most topics, dead-letter topics included.")
    max_partitions: int = _limit(PARTITIONS_MAX, PARTITIONS_MAX, "Most partitions of a topic.")
    max_groups: int = _limit(10_000, 100_000, "Most groups.")
    max_members: int = _limit(10_000, 100_000, "Most members of a group connected at a time.")
    max_subscriptions: int = _limit(10_000, 100_000, "Most subscriptions open at a time, with and without a group.")
    partition_bytes: int = _limit(
        64 << 30, 1 << 50, "At how many bytes a partition on disk is full, unless its topic says otherwise."
    )
    memory_partition_bytes: int = _limit(
        256 << 20, 1 << 50, "At how many bytes a partition in memory is full, unless its topic says otherwise."
    )


DEFAULT_LIMITS: Final = Limits()
"""What holds unless somebody says otherwise."""


def flag_of(limit: str) -> str:
    """The flag of `telemetry queue` that sets a limit, by the name of its field."""
    return f"--{limit.replace('_', '-')}"
