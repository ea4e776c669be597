"""Checks of single fields; each raises ``InvalidArgumentError`` that names the field by its path in the request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from telemetry.queue.core.errors import InvalidArgumentError, QueueError
from telemetry.queue.core.names import check_group_name, check_topic_name
from telemetry.queue.core.types import DURATION_S_MAX, AtOffset, AtTime, Place, Position
from telemetry.v1 import queue_pb2

NAME_BYTES_MAX: Final = 128
"""Longest request id, group, member and producer id."""
ORDERING_KEY_BYTES_MAX: Final = 1024
"""Longest ordering key."""

_TIMESTAMP_SECONDS: Final = range(-62_135_596_800, 253_402_300_800)  # the years 1 to 9999, as the type's own rules say


def invalid(field: str, problem: str) -> NoReturn:
    """Raise the error that says what is wrong with ``field``."""
    raise InvalidArgumentError(f"{field} {problem}", field=field)


@contextmanager
def inside(path: str) -> Iterator[None]:
    """Put ``path`` before the field of what is refused here."""
    try:
        yield
    except QueueError as error:
        if error.field:
            error.field = f"{path}.{error.field}"
        raise


def topic_name(value: str, field: str) -> str:
    """The exact name of a topic."""
    if not value:
        invalid(field, "is required")
    check_topic_name(value, field)
    return value


def group_name(value: str) -> str:
    """The name of a subscription group, in a field called ``group``."""
    if not value:
        invalid("group", "is required")
    check_group_name(value)
    return value


def text(value: str, field: str, bytes_max: int) -> str:
    """Any text of at most ``bytes_max`` bytes."""
    # A character takes at most four bytes: short text needs no encoding to be known as short.
    if len(value) > bytes_max // 4 and len(value.encode()) > bytes_max:
        invalid(field, f"is longer than {bytes_max} bytes")
    return value


def at_most(value: int, field: str, most: int) -> int:
    """A number from 0 to ``most``."""
    if value > most:
        invalid(field, f"is {value}; at most {most} is allowed")
    return value


def duration_s(value: Duration, field: str, *, least_s: float = 0.0, most_s: float = DURATION_S_MAX) -> float:
    """A length of time, in seconds."""
    if abs(value.nanos) > 999_999_999 or value.seconds * value.nanos < 0:
        invalid(field, "is not a valid duration: nanos must lie within a second and have the sign of seconds")
    seconds = value.seconds + value.nanos / 1e9
    if not least_s <= seconds <= most_s:
        invalid(field, f"is {seconds:g} s; it must be from {least_s:g} s to {most_s:g} s")
    return seconds


def time_us(value: Timestamp, field: str) -> int:
    """An instant, in microseconds since 1970, rounded up so that nothing before it is meant."""
    if value.seconds not in _TIMESTAMP_SECONDS or not 0 <= value.nanos <= 999_999_999:
        invalid(field, "is not a valid timestamp: it must lie in the years 1 to 9999, with nanos from 0 to 999999999")
    return value.seconds * 1_000_000 - (-value.nanos // 1000)


def position(value: queue_pb2.StartPosition, field: str) -> Position | None:
    """Where to begin; ``None`` when nothing is set."""
    match value.WhichOneof("position"):
        case None:
            return None
        case "time":
            return AtTime(time_us(value.time, f"{field}.time"))
        case "offset":
            return AtOffset(value.offset)
        case "earliest" if value.earliest:
            return Place.EARLIEST
        case "latest" if value.latest:
            return Place.LATEST
        case name:
            invalid(f"{field}.{name}", "must be true when it is set")
