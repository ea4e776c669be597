"""How times and steps are read."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.parameters import parse_instant, parse_step


@pytest.mark.parametrize(
    ("text", "instant_us"),
    [
        ("1752871354", 1752871354_000000),
        ("1752871354.25", 1752871354_250000),
        ("0", 0),
        ("-1.5", -1_500000),
        ("2025-07-18T20:42:34Z", 1752871354_000000),
        ("2025-07-18T20:42:34.000001Z", 1752871354_000001),
        ("2025-07-18T22:42:34+02:00", 1752871354_000000),
        ("2025-07-18T22:42:34 02:00", 1752871354_000000),  # a plus sign that was not encoded
        ("0001-01-01T00:00:00Z", -62135596800_000000),
        ("9999-12-31T23:59:59.999999Z", 253402300799_999999),
    ],
)
def test_an_instant_is_rfc_3339_or_seconds(text: str, instant_us: int) -> None:
    assert parse_instant(text) == instant_us


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("yesterday", "neither"),
        ("", "neither"),
        ("2025-13-01T00:00:00Z", "neither"),
        ("2025-07-18T20:42:34", "time zone"),
        ("2025-07-18", "time zone"),
        ("nan", "years"),
        ("inf", "years"),
        ("1e30", "years"),
        ("0001-01-01T00:00:00+01:00", "years"),
        ("9999-12-31T23:59:59-01:00", "years"),
    ],
)
def test_another_instant_is_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_instant(text)


@pytest.mark.parametrize(
    ("text", "length_us"),
    [
        ("500ms", 500_000),
        ("1ms", 1_000),
        ("10s", 10_000_000),
        ("10", 10_000_000),
        ("0.5s", 500_000),
        ("1m", 60_000_000),
        ("2h", 7_200_000_000),
        ("1d", 86_400_000_000),
    ],
)
def test_a_step_has_a_unit(text: str, length_us: int) -> None:
    assert parse_step(text) == length_us


@pytest.mark.parametrize(
    "text", ["", "fast", "10 parsecs", "-5s", "0s", "0.1ms", "367d", "1e3s", "nan", "9" * 40 + "s"]
)
def test_another_step_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not"):
        parse_step(text)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_instant, parse_step):
        with suppress(ValueError):
            assert isinstance(parse(text), int)
