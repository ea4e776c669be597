"""Dead letters as whoever looks at them needs them: which topics hold them, and what a letter says of its death."""

from __future__ import annotations

from collections.abc import Iterable

from telemetry.queue.core.names import DEAD_LETTER_PART, dead_letter_topic_of
from telemetry.queue.engines.dead_letters import (
    ATTEMPTS,
    FIRST_TIME,
    GROUP,
    LAST_TIME,
    ORIGIN_OFFSET,
    ORIGIN_PARTITION,
    ORIGIN_TOPIC,
    REASON,
)
from telemetry.queue.shapes import Json
from telemetry.v1 import queue_admin_pb2, queue_pb2


def dead_letter_topics(
    topics: Iterable[queue_admin_pb2.Topic], groups: Iterable[queue_admin_pb2.Group]
) -> list[queue_admin_pb2.Topic]:
    """The topics that hold dead letters: those of such a name, and those that a group has chosen."""
    chosen = {group.dead_letter_topic for group in groups}
    return [topic for topic in topics if topic.name in chosen or topic.name.rpartition(".")[2] == DEAD_LETTER_PART]


def dead_letter_topic_meant(
    name: str, topics: Iterable[queue_admin_pb2.Topic], groups: Iterable[queue_admin_pb2.Group]
) -> queue_admin_pb2.Topic | None:
    """The topic meant by ``name``: a dead-letter topic, or a topic's own; ``None`` if it is neither.

    So nobody replays or discards what is alive by a slip of the pen.
    """
    found = {topic.name: topic for topic in dead_letter_topics(topics, groups)}
    return found.get(name) or found.get(dead_letter_topic_of(name))


def origin_of(letter: queue_pb2.Message) -> Json:
    """Where a letter came from and why it died; what it does not say is ``None``."""
    about = letter.attributes

    def number(name: str) -> int | None:
        return int(about[name]) if name in about and about[name].isdecimal() and len(about[name]) <= 20 else None

    return {
        "topic": about.get(ORIGIN_TOPIC),
        "partition": number(ORIGIN_PARTITION),
        "offset": number(ORIGIN_OFFSET),
        "group": about.get(GROUP),
        "attempts": number(ATTEMPTS),
        "reason": about.get(REASON),
        "first_time": about.get(FIRST_TIME),
        "last_time": about.get(LAST_TIME),
    }
