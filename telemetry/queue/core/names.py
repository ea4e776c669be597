"""What topics, groups and patterns are called, and where a key or a dead letter goes by name."""

from __future__ import annotations

import re
import zlib
from typing import Final

from telemetry.queue.core.errors import InvalidArgumentError
from telemetry.queue.core.types import TOPIC_NAME_BYTES_MAX

GROUP_NAME_BYTES_MAX: Final = 128
"""Longest name of a group, a member and a producer."""
PATTERNS_MAX: Final = 100
"""Most topics and patterns in one subscription."""
DEAD_LETTER_PART: Final = "dead-letter"
"""The last part of a dead-letter topic's name, unless the group names another."""

_TOPIC = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_PATTERN = re.compile(r"([a-z0-9_-]+|\*)(\.([a-z0-9_-]+|\*))*(\.>)?|>")
_GROUP = re.compile(r"[A-Za-z0-9._-]+")


def check_topic_name(name: str, field: str) -> None:
    """Raise `InvalidArgumentError` for ``field`` unless ``name`` can name a topic."""
    if len(name) > TOPIC_NAME_BYTES_MAX or not _TOPIC.fullmatch(name):
        raise InvalidArgumentError(
            f"{name[:TOPIC_NAME_BYTES_MAX]!r} is not a topic name: parts of a-z, 0-9, _ and - with dots between them, "
            f"at most {TOPIC_NAME_BYTES_MAX} bytes",
            field=field,
        )


def check_patterns(patterns: tuple[str, ...]) -> None:
    """Raise `InvalidArgumentError` unless each of ``patterns`` is a topic's name or has its wildcards in place."""
    if not 1 <= len(patterns) <= PATTERNS_MAX:
        raise InvalidArgumentError(
            f"a subscription has 1 to {PATTERNS_MAX} topics, not {len(patterns)}", field="topics"
        )
    for number, pattern in enumerate(patterns):
        if len(pattern) > TOPIC_NAME_BYTES_MAX or not _PATTERN.fullmatch(pattern):
            raise InvalidArgumentError(
                f"{pattern[:TOPIC_NAME_BYTES_MAX]!r} is neither a topic name nor a pattern: * stands for one part, "
                "> at the end for one or more",
                field=f"topics[{number}]",
            )


def check_group_name(name: str) -> None:
    """Raise `InvalidArgumentError` unless ``name`` can name a group."""
    if len(name) > GROUP_NAME_BYTES_MAX or not _GROUP.fullmatch(name):
        raise InvalidArgumentError(
            f"{name[:GROUP_NAME_BYTES_MAX]!r} is not a group name: A-Z, a-z, 0-9, '.', _ and -, "
            f"at most {GROUP_NAME_BYTES_MAX} bytes",
            field="group",
        )


def is_pattern(name: str) -> bool:
    """Whether ``name`` has wildcards."""
    return "*" in name or ">" in name


def matches(pattern: str, topic: str) -> bool:
    """Whether ``topic`` is named by ``pattern``. A wildcard does not take in dead-letter topics by accident.

    Otherwise a group subscribed to ``>`` would be handed what it has just given up, and again what became of that.
    A pattern that ends in the part ``dead-letter`` does match them.
    """
    if pattern == topic:
        return True
    if not is_pattern(pattern):
        return False
    wanted, parts = pattern.split("."), topic.split(".")
    if parts[-1] == DEAD_LETTER_PART and wanted[-1] != DEAD_LETTER_PART:
        return False
    if wanted[-1] == ">":
        wanted.pop()
        if len(parts) <= len(wanted):
            return False
        parts = parts[: len(wanted)]
    return len(wanted) == len(parts) and all(w in ("*", p) for w, p in zip(wanted, parts, strict=True))


def partition_of_key(key: str, partitions: int) -> int:
    """The partition that a key's messages go to, the same for every client in every language."""
    return zlib.crc32(key.encode()) % partitions


def dead_letter_topic_of(topic: str) -> str:
    """Where the dead letters of ``topic`` go by default. A name too long to be lengthened is shortened first."""
    room = TOPIC_NAME_BYTES_MAX - len(DEAD_LETTER_PART) - 1
    return f"{topic[:room].rstrip('.')}.{DEAD_LETTER_PART}"
