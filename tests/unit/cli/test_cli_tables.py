"""Tables line up, and numbers read well."""

from __future__ import annotations

import pytest

from telemetry.console.tables import plural, printable, rate, seconds, size, table


def test_columns_line_up_on_their_side() -> None:
    assert list(table(("NAME", ">COUNT"), [("a", "1"), ("longer", "1,234")])) == [
        "NAME    COUNT",
        "a           1",
        "longer  1,234",
    ]


def test_a_table_without_rows_is_its_heading() -> None:
    assert list(table(("NAME", ">COUNT"), [])) == ["NAME  COUNT"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"), (0.0, "0 s"), (0.25, "250 ms"), (4.0, "4 s"), (4.25, "4.2 s"), (60.0, "1 min"),
        (200.0, "3 min 20 s"), (7500.0, "2 h 5 min"), (86_400.0, "1 d"), (273_600.0, "3 d 4 h"), (1e9, "11,574 d 1 h"),
    ],
)  # fmt: skip
def test_lengths_of_time(value: float | None, text: str) -> None:
    assert seconds(value) == text


def test_sizes_and_rates_and_counts() -> None:
    assert [size(each) for each in (0, 1023, 1536, 5 << 20, 3 << 40)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.0 MiB",
        "3.0 TiB",
    ]
    assert [rate(each) for each in (0.0, 0.44, 12.5, 4321.0)] == ["0", "0.4", "12.5", "4,321"]
    assert [plural(each, "message") for each in (0, 1, 1234)] == ["0 messages", "1 message", "1,234 messages"]


def test_text_cannot_take_over_the_terminal() -> None:
    assert printable("a\x1b[2Jb\nc\u202e°") == r"a\x1b[2Jb\nc\u202e°"
