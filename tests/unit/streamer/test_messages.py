"""Records are cut into messages the same way every time, each partition's in order."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from telemetry.codec import CONTENT_TYPE, SOURCE, TIME_TYPE, decode
from telemetry.queue.client import partition_of_key
from telemetry.streamer import messages
from telemetry.streamer.messages import Packer, Sequences, Slice, quarantine_messages
from telemetry.streamer.sources.layout import FIRST_LINE, LAST_LINE
from telemetry.streamer.sources.lines import bad_row


def records(first: int, count: int, gpus: int = 5) -> pl.DataFrame:
    numbers = range(first, first + count)
    return pl.DataFrame(
        {
            "timestamp": pl.Series([datetime(2026, 1, 1, tzinfo=UTC)] * count, dtype=TIME_TYPE),
            "gpu": [f"gpu-{number % gpus}" for number in numbers],
            "temperature": [float(number) for number in numbers],
            "nothing": pl.Series([None] * count, dtype=pl.Float64),
            FIRST_LINE: list(numbers),
            LAST_LINE: list(numbers),
        }
    )


def cut(sizes: list[int]) -> list[tuple[int, list[float]]]:
    packer = Packer(3, message_records=10)
    slices: list[Slice] = []
    start = 0
    for size in sizes:
        slices += packer.add(records(start, size))
        start += size
    slices += packer.flush()
    return sorted((part.partition, part.records["temperature"].to_list()) for part in slices)


def test_messages_do_not_depend_on_how_the_records_came() -> None:
    assert cut([100]) == cut([1] * 100) == cut([33, 33, 34])


def test_every_record_goes_to_its_gpus_partition_once_and_in_order() -> None:
    found: dict[int, list[float]] = {}
    for partition, values in cut([100]):
        assert len(values) <= 10
        found.setdefault(partition, []).extend(values)
    expected: dict[int, list[float]] = {}
    for number in range(100):
        expected.setdefault(partition_of_key(f"gpu-{number % 5}", 3), []).append(float(number))
    assert found == expected


@pytest.mark.parametrize(("encoding", "count"), [("arrow", 1), ("json", 7)])
def test_a_message_says_what_it_is_and_where_it_came_from(encoding: messages.Encoding, count: int) -> None:
    encoded = Slice(0, records(12, 7)).encode(encoding, "file.csv")
    assert len(encoded) == count
    frames = [decode(message.data, message.attributes[CONTENT_TYPE]) for message in encoded]
    values = pl.concat(frames)
    assert values["temperature"].to_list() == [12.0 + n for n in range(7)]
    assert values.columns == ["timestamp", "gpu", "temperature"]
    assert encoded[0].attributes[SOURCE] == ("file.csv:12-18" if count == 1 else "file.csv:12-12")


def test_a_message_that_would_be_too_large_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MESSAGE_BYTES_MAX", 2_500)
    encoded = Slice(0, records(0, 1000)).encode("arrow", "f")
    assert len(encoded) > 1
    decoded = pl.concat([decode(m.data, m.attributes[CONTENT_TYPE]) for m in encoded])
    assert decoded["temperature"].to_list() == [float(n) for n in range(1000)]


def test_what_the_queue_has_is_not_sent_again() -> None:
    sequences = Sequences({0: 4})
    assert [sequences.take(0, 2) for _ in range(4)] == [None, None, 4, 6]
    assert sequences.take(1, 1) == 0


def test_bad_rows_tell_where_they_were_and_what_is_wrong() -> None:
    (message,) = quarantine_messages([bad_row(17, "it is bad", b"x" * 5000, "temperature")], "file.csv")
    assert message.data.startswith(b'{"source":"file.csv","line":17,"reason":"it is bad","raw":"xxx')
    assert message.data.endswith(b'xxx","field":"temperature","truncated":true}')
