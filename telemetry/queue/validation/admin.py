"""From requests of QueueAdminService to the queue's own types."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from telemetry.queue.core.types import Retention, Storage, TopicConfig, TopicLimits
from telemetry.queue.validation.fields import duration_s, invalid, topic_name
from telemetry.v1 import queue_admin_pb2

PAGE_SIZE_DEFAULT: Final = 100
PAGE_SIZE_MAX: Final = 1000
RETENTION_S_MAX: Final = 100 * 365 * 86_400.0

_STORAGES: Final = {
    queue_admin_pb2.TOPIC_STORAGE_UNSPECIFIED: None,
    queue_admin_pb2.TOPIC_STORAGE_DISK: Storage.DISK,
    queue_admin_pb2.TOPIC_STORAGE_MEMORY: Storage.MEMORY,
}


@dataclass(frozen=True, slots=True)
class ChosenLetters:
    """Which messages of a dead-letter topic are meant. ``None`` means all partitions, or all offsets."""

    topic: str
    partition: int | None
    offsets: frozenset[int] | None


def topic_config(topic: queue_admin_pb2.Topic) -> TopicConfig:
    """A topic as it is asked for; the engine checks its numbers and fills in the defaults. ``create_time`` is ignored.

    Raises:
        InvalidArgumentError: if a field is wrong.
    """
    if topic.storage not in _STORAGES:
        invalid("topic.storage", f"is {topic.storage}, which is no TopicStorage")
    age_s = None
    if topic.retention.HasField("age"):
        age_s = duration_s(topic.retention.age, "topic.retention.age", least_s=0.001, most_s=RETENTION_S_MAX)
    return TopicConfig(
        name=topic_name(topic.name, "topic.name"),
        partitions=topic.partitions,
        storage=_STORAGES[topic.storage],
        retention=Retention(
            age_s=age_s,
            bytes=topic.retention.bytes,
            drop_unacked=topic.retention.drop_unacked,
            drop_acked=topic.retention.drop_acked,
        ),
        limits=TopicLimits(
            message_bytes=topic.limits.message_bytes,
            batch_bytes=topic.limits.batch_bytes,
            batch_messages=topic.limits.batch_messages,
            partition_bytes=topic.limits.partition_bytes,
        ),
    )


def chosen_letters(
    request: queue_admin_pb2.ReplayDeadLettersRequest | queue_admin_pb2.DiscardDeadLettersRequest,
) -> ChosenLetters:
    """Which dead letters a request is about.

    Raises:
        InvalidArgumentError: if the topic is wrong, or there are offsets and nobody said of which partition.
    """
    topic = topic_name(request.topic, "topic")
    partition = request.partition if request.HasField("partition") else None
    if request.offsets and partition is None:
        invalid("partition", "is required with offsets")
    return ChosenLetters(topic, partition, frozenset(request.offsets) or None)


def page_of(names: Sequence[str], page_size: int, page_token: str) -> tuple[Sequence[str], str]:
    """One page of sorted names, and the token of the next page (empty after the last).

    A token holds the last name of its page, so that names that come and go between two calls are neither skipped nor
    repeated.

    Raises:
        InvalidArgumentError: if the size is negative or the token was not made here.
    """
    if page_size < 0:
        invalid("page_size", f"is {page_size}; it must not be negative")
    size = min(page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
    after = _name_of_token(page_token)
    rest = [name for name in names if name > after]
    page = rest[:size]
    return page, _token_of_name(page[-1]) if len(rest) > size else ""


def _token_of_name(name: str) -> str:
    return base64.urlsafe_b64encode(b"after:" + name.encode()).decode()


def _name_of_token(token: str) -> str:
    if not token:
        return ""
    try:
        decoded = base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        decoded = ""
    if not decoded.startswith("after:"):
        invalid("page_token", "is not a token that a list returned")
    return decoded.removeprefix("after:")
