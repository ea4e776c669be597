"""Rows that could not be read are read again by themselves, and each is either a record or still wrong."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from telemetry.codec import ARROW_CONTENT_TYPE, decode, records_of
from telemetry.streamer.reread import Reread, reread

HEADER = "timestamp,gpu_id,temperature"


def found(again: Reread) -> list[tuple[str, dict[str, float]]]:
    records = [
        record for part in again.slices for message in part.encode("arrow", "f") for record in records_in(message.data)
    ]
    return sorted(records)


def records_in(data: bytes) -> list[tuple[str, dict[str, float]]]:
    return [(record.gpu, dict(record.metrics)) for record in records_of(decode(data, ARROW_CONTENT_TYPE))]


def test_each_row_is_a_record_or_still_wrong_whatever_stands_beside_it() -> None:
    rows = {
        3: "2026-01-01T00:00:00Z,a,40",
        7: "2026-01-01T00:00:01Z,b,hot",
        8: "",
        9: "2026-01-01T00:00:00Z,c,1\n2026-01-01T00:00:00Z,d,2",
        12: HEADER,
        900: "2026-01-01T00:00:02Z,é🔥,41",
    }
    again = reread(rows, HEADER, 8)
    assert found(again) == [("a", {"temperature": 40.0}), ("é🔥", {"temperature": 41.0})]
    assert again.wrong == {
        7: "'hot' is not a number",
        8: "it is not one row",
        9: "it is not one row",
        12: "there is nothing in it to store",
    }


def test_messages_say_which_lines_they_came_from() -> None:
    again = reread({5: "2026-01-01T00:00:00Z,a,40", 70: "2026-01-01T00:00:01Z,a,41"}, HEADER, 1)
    (message,) = [message for part in again.slices for message in part.encode("arrow", "f.csv")]
    assert message.attributes["source"] == "f.csv:5-70"


@pytest.mark.parametrize("header", ["a,b,c", "timestamp,temperature", ""])
def test_rows_whose_columns_say_nothing_stay_where_they_are(header: str) -> None:
    again = reread({3: "2026-01-01T00:00:00Z,a,40"}, header, 8)
    assert found(again) == []
    assert list(again.wrong) == [3]


def test_times_without_a_zone_are_of_the_zone_that_is_said() -> None:
    again = reread({3: "2026-01-01 01:00:00,a,40"}, HEADER, 8, ZoneInfo("Europe/Berlin"))
    (part,) = again.slices
    assert part.records.item(0, "timestamp") == datetime(2026, 1, 1, tzinfo=UTC)
