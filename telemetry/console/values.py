"""What operators write on the command line: positions, lengths of time, sizes, offsets, attributes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import click

from telemetry.queue.client import AtOffset, AtTime, Place, Position
from telemetry.tabular import read_time

OFFSETS_MAX: Final = 100_000
"""The most offsets that may be named at once."""

_Value = TypeVar("_Value")

_UNITS_S: Final = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_UNITS_BYTES: Final = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40,
    "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}  # fmt: skip
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhdw]))+")
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_duration(text: str) -> float:
    """Read a length of time, in seconds: ``90s``, ``15m``, ``1h30m``, ``7d``.

    Raises:
        ValueError: if it is none.
    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a length of time; examples are 30s, 15m, 1h30m and 7d")
    return sum(float(number) * _UNITS_S[unit] for number, unit in _DURATION_PART.findall(text))


def parse_age(text: str) -> float:
    """Read how old messages may get, in seconds; ``none`` is infinity.

    Raises:
        ValueError: if it is neither.
    """
    return math.inf if text == "none" else parse_duration(text)


def parse_size(text: str) -> int:
    """Read a number of bytes: ``4096``, ``64MiB``, ``1.5GB``; ``k``, ``m``, ``g`` alone are powers of 1024.

    Raises:
        ValueError: if it is none.
    """
    match = _SIZE.fullmatch(text)
    if match is None or match[2].lower() not in _UNITS_BYTES:
        raise ValueError(f"{text!r} is not a size; examples are 4096, 512KiB, 64MiB and 1.5GB")
    return int(float(match[1]) * _UNITS_BYTES[match[2].lower()])


def parse_position(text: str, now: datetime) -> Position:
    """Read ``earliest``, ``latest``, an offset, an RFC 3339 time, or how long ago (``-15m``).

    Raises:
        ValueError: if it is none of these.
    """
    if text in ("earliest", "latest"):
        return Place(text)
    if text.isdecimal():
        if int(text) >= 1 << 64:
            raise ValueError(f"offset {text} is larger than any that there can be")
        return AtOffset(int(text))
    if text.startswith("-"):
        try:
            time = now - timedelta(seconds=parse_duration(text[1:]))
        except (ValueError, OverflowError):
            raise ValueError(f"{text!r} is not how long ago; examples are -30s, -15m and -7d") from None
    else:
        try:
            # A bare number would be read as seconds since 1970, and it may as well be a mistyped offset.
            time = read_time(text if "-" in text else "")
        except ValueError:
            raise ValueError(
                f"{text!r} is no position: earliest, latest, an offset such as 120, "
                "a time such as 2026-07-14T08:00:00Z, or how long ago such as -15m"
            ) from None
    return AtTime(max(0, (time - _EPOCH) // timedelta(microseconds=1)))


def parse_since(text: str, now: datetime) -> datetime:
    """Read an RFC 3339 time, or how long ago (``-15m``).

    Raises:
        ValueError: if it is neither.
    """
    position = parse_position(text, now)
    if not isinstance(position, AtTime):
        raise ValueError(f"{text!r} is no time such as 2026-07-14T08:00:00Z, nor how long ago such as -15m")
    return _EPOCH + timedelta(microseconds=position.time_us)


def parse_offsets(text: str) -> list[int]:
    """Read offsets and ranges of them, both ends included: ``3,7,10-12``.

    Raises:
        ValueError: if it is none.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"{part!r} is neither an offset nor a range of them; an example is 3,7,10-12")
        run = range(int(first), int(last or first) + 1)
        if not run:
            raise ValueError(f"{part!r} ends before it begins")
        if len(found) + len(run) > OFFSETS_MAX:
            raise ValueError(f"more than {OFFSETS_MAX:,} offsets; do them in parts")
        found.update(run)
    return sorted(found)


def parse_attribute(text: str) -> tuple[str, str]:
    """Read ``name=value``.

    Raises:
        ValueError: if it is none.
    """
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError(f"{text!r} is not name=value")
    return name, value


def _option(parse: Callable[[str], _Value]) -> Callable[[str], _Value]:
    """What click takes as a type: as ``parse``, whose sentences reach the user as usage errors."""

    def convert(text: str) -> _Value:
        try:
            return parse(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return convert


SINCE: Final = _option(lambda text: parse_since(text, datetime.now(UTC)))
POSITION: Final = _option(lambda text: parse_position(text, datetime.now(UTC)))
AGE: Final = _option(parse_age)
SIZE: Final = _option(parse_size)
OFFSETS: Final = _option(parse_offsets)
ATTRIBUTE: Final = _option(parse_attribute)
