"""What operators may write for positions, lengths of time, sizes, offsets and attributes."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from telemetry.console.values import (
    parse_age,
    parse_attribute,
    parse_duration,
    parse_offsets,
    parse_position,
    parse_size,
)
from telemetry.queue.client import AtOffset, AtTime, Place, Position

NOW = datetime(2026, 7, 14, 8, 0, tzinfo=UTC)
NOW_US = int(NOW.timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("earliest", Place.EARLIEST),
        ("latest", Place.LATEST),
        ("0", AtOffset(0)),
        ("18446744073709551615", AtOffset((1 << 64) - 1)),
        ("-15m", AtTime(NOW_US - 900_000_000)),
        ("-1h30m", AtTime(NOW_US - 5_400_000_000)),
        ("-250ms", AtTime(NOW_US - 250_000)),
        ("2026-07-14T08:00:00Z", AtTime(NOW_US)),
        ("2026-07-14T10:00:00.000001+02:00", AtTime(NOW_US + 1)),
        ("2026-07-14 08:00:00", AtTime(NOW_US)),
    ],
)
def test_a_position_is_a_name_an_offset_a_time_or_how_long_ago(text: str, position: Position) -> None:
    assert parse_position(text, NOW) == position


@pytest.mark.parametrize("text", ["", "first", "-", "-15", "-15x", "-99999999999d", "1.5", "18446744073709551616"])
def test_what_is_no_position_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(ValueError, match=f"{text}'|offset {text}"):
        parse_position(text, NOW)


def test_lengths_of_time_add_up() -> None:
    assert [parse_duration(text) for text in ("90s", "15m", "1h30m", "0.5s", "7d", "2w")] == [
        90.0, 900.0, 5400.0, 0.5, 604_800.0, 1_209_600.0,
    ]  # fmt: skip


def test_an_age_may_be_none() -> None:
    assert parse_age("none") == math.inf
    assert parse_age("1h") == 3600.0


def test_sizes_know_decimal_and_binary_units() -> None:
    assert [parse_size(text) for text in ("4096", "1k", "64MiB", "1.5GB", "2 TiB", "10B")] == [
        4096, 1024, 64 << 20, 1_500_000_000, 2 << 40, 10,
    ]  # fmt: skip


def test_offsets_are_listed_and_ranged() -> None:
    assert parse_offsets("3,7,10-12,11") == [3, 7, 10, 11, 12]


def test_an_attribute_may_have_any_value() -> None:
    assert parse_attribute("a=b=c") == ("a", "b=c")
    assert parse_attribute("a=") == ("a", "")


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_duration, "15"),
        (parse_duration, "m"),
        (parse_duration, "-15m"),
        (parse_size, "big"),
        (parse_size, "-1"),
        (parse_size, "1 XB"),
        (parse_offsets, ""),
        (parse_offsets, "1,,2"),
        (parse_offsets, "a-b"),
        (parse_offsets, "5-3"),
        (parse_offsets, "0-1000000000000"),
        (parse_attribute, "name"),
        (parse_attribute, "=value"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        parse(text)
