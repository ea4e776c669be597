"""What becomes of the messages of a delivery."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl
import pytest

from telemetry.codec import ARROW_CONTENT_TYPE, JSON_CONTENT_TYPE, encode_arrow, encode_json, frame_of
from telemetry.collector import intake as intake_module
from telemetry.collector.intake import Intake, batch_of, read, stored_through
from telemetry.model import Record
from telemetry.storage.store import Position, TopicPartition
from telemetry.topics import QUARANTINE_TOPIC
from telemetry.v1.queue_pb2 import Message

TIME = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class FakeDelivery:
    """Messages at dense offsets."""

    messages: Sequence[Message]
    first: int = 0
    topic: str = "telemetry"
    partition: int = 3
    publish_time_us: int = 0

    @property
    def offsets(self) -> Sequence[int]:
        return range(self.first, self.first + len(self.messages))


def arrow(*values: float, gpu: str = "a") -> Message:
    frame = frame_of([Record(TIME.replace(second=second), gpu, {"x": value}) for second, value in enumerate(values)])
    attributes = {"content-type": ARROW_CONTENT_TYPE, "source": "f.csv:2-3"}
    return Message(data=encode_arrow(frame), attributes=attributes)


def single(value: float | str, gpu: str = "a") -> Message:
    metrics, labels = ({"x": value}, {}) if isinstance(value, float) else ({}, {"x": value})
    record = Record(TIME, gpu, metrics, labels)
    return Message(data=encode_json(record), attributes={"content-type": JSON_CONTENT_TYPE})


def values(frames: Sequence[pl.DataFrame]) -> list[object]:
    return [value for frame in frames for value in frame.get_column("x")]


def test_arrow_and_json_messages_become_frames_in_order() -> None:
    contents = read(FakeDelivery([single(1.0), single(2.0), arrow(3.0, 4.0), single(5.0)]))
    assert values(contents.frames) == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert len(contents.frames) == 3
    assert contents.quarantine == []
    assert contents.size > 0


def test_a_name_may_be_a_metric_here_and_a_label_there() -> None:
    assert values(read(FakeDelivery([single(1.0), single("text")])).frames) == [1.0, "text"]


def test_what_cannot_be_read_goes_to_quarantine_whole_and_stops_nothing() -> None:
    bad = Message(data=b"\xff\x00", attributes={"content-type": ARROW_CONTENT_TYPE, "source": "f.csv:9"})
    unknown = Message(data=b"hello")
    contents = read(FakeDelivery([arrow(1.0), bad, unknown, arrow(2.0)], first=10))
    assert values(contents.frames) == [1.0, 2.0]
    first, second = map(json.loads, contents.quarantine)
    assert (first["topic"], first["partition"], first["offset"], first["source"]) == ("telemetry", 3, 11, "f.csv:9")
    assert base64.b64decode(first["raw_base64"]) == b"\xff\x00"
    assert "Arrow" in first["reason"]
    assert (second["offset"], second["raw"]) == (12, "hello")


def test_records_whose_time_cannot_be_written_go_to_quarantine() -> None:
    frame = pl.DataFrame({"timestamp": [-1, 0, 253_402_300_800_000_000], "gpu": ["a"] * 3, "x": [1.0, 2.0, 3.0]})
    frame = frame.with_columns(pl.col("timestamp").cast(pl.Datetime("us", "UTC")))
    message = Message(data=encode_arrow(frame), attributes={"content-type": ARROW_CONTENT_TYPE})
    contents = read(FakeDelivery([message]))
    assert values(contents.frames) == [2.0]
    (line,) = map(json.loads, contents.quarantine)
    assert line["reason"] == "2 records: time out of range"
    refused = pl.read_ipc_stream(base64.b64decode(line["raw_base64"]))
    assert refused.get_column("x").to_list() == [1.0, 3.0]


def test_records_with_more_text_than_may_stay_in_memory_go_to_quarantine() -> None:
    records = [Record(TIME, gpu, {"x": 1.0}, {"note": "€" * count}) for gpu, count in (("a", 21_846), ("b", 21_000))]
    message = Message(data=encode_arrow(frame_of(records)), attributes={"content-type": ARROW_CONTENT_TYPE})
    contents = read(FakeDelivery([message], first=7))
    assert [frame.get_column("gpu").to_list() for frame in contents.frames] == [["b"]]
    (line,) = map(json.loads, contents.quarantine)
    assert (line["reason"], line["offset"]) == ("more than 65536 bytes of labels", 7)


def test_a_message_with_absurdly_many_columns_goes_to_quarantine() -> None:
    record = Record(TIME, "a", {f"m{number}": 1.0 for number in range(2000)})
    message = Message(data=encode_arrow(frame_of([record])), attributes={"content-type": ARROW_CONTENT_TYPE})
    contents = read(FakeDelivery([message]))
    assert contents.frames == []
    assert json.loads(contents.quarantine[0])["reason"] == "2002 columns; at most 2000 are stored"


def test_rows_that_streamers_rejected_are_kept_with_their_origin() -> None:
    row = {"source": "f.csv", "line": 17, "reason": "no GPU", "raw": "x,y", "field": "gpu"}
    delivery = FakeDelivery([Message(data=json.dumps(row).encode()), Message(data=b"[1]")], topic=QUARANTINE_TOPIC)
    first, second = map(json.loads, read(delivery).quarantine)
    published = {"published": "1970-01-01T00:00:00Z"}
    assert first == row | {"topic": QUARANTINE_TOPIC, "partition": 3, "offset": 0} | published
    assert "not a rejected row" in second["reason"]


def test_a_rejected_row_of_any_shape_is_kept() -> None:
    """What is nested deeply can be read but not written as JSON."""
    deep = b'{"source":"f","line":1,"reason":"r","raw":"x","more":' + b"[" * 400 + b"]" * 400 + b"}"
    shapes = [deep, b'{"source":"f","line":"1","reason":"r","raw":{}}', b"{", b""]
    delivery = FakeDelivery([Message(data=shape) for shape in shapes], topic=QUARANTINE_TOPIC)
    lines = [json.loads(line) for line in read(delivery).quarantine]
    assert [line["raw"].encode() for line in lines] == shapes
    assert all("not a rejected row" in line["reason"] for line in lines)


def test_of_records_that_came_a_message_each_only_the_wrong_one_goes_to_quarantine_with_its_own_offset() -> None:
    too_long = Message(
        data=encode_json(Record(TIME, "a", {"x": 3.0}, {"note": "n" * 70_000})),
        attributes={"content-type": JSON_CONTENT_TYPE, "site": "west"},
        ordering_key="key",
    )
    contents = read(FakeDelivery([single(1.0), single(2.0), too_long, single(4.0)], first=50))
    assert values(contents.frames) == [1.0, 2.0, 4.0]
    assert [list(piece.offsets) for piece in contents.pieces] == [[50, 51, 53]]
    (line,) = map(json.loads, contents.quarantine)
    assert (line["offset"], line["reason"]) == (52, "more than 65536 bytes of labels")
    assert (line["raw"].encode(), line["content_type"]) == (too_long.data, JSON_CONTENT_TYPE)
    assert (line["attributes"], line["ordering_key"]) == ({"site": "west"}, "key")
    assert contents.size > len(too_long.data)


def test_records_that_cannot_be_put_together_cost_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is wrong with the code that puts them together."""

    def faulty(records: Sequence[Record]) -> pl.DataFrame:
        if any(record.gpu == "bad" for record in records):
            raise LookupError("a fault")
        return frame_of(records)

    monkeypatch.setattr(intake_module, "frame_of", faulty)
    contents = read(FakeDelivery([single(1.0), single(2.0, gpu="bad"), arrow(3.0), single(4.0, gpu="bad")]))
    assert values(contents.frames) == [1.0, 3.0]
    assert [(json.loads(line)["offset"], json.loads(line)["reason"]) for line in contents.quarantine] == [
        (1, "a fault"),
        (3, "a fault"),
    ]


def test_messages_with_names_of_their_own_take_memory_by_their_number_only() -> None:
    """A table of all would have a column for each name and a row for each message."""
    messages = []
    for number in range(60):
        record = Record(TIME, "a", {f"m{number}.{place}": 1.0 for place in range(100)})
        messages.append(Message(data=encode_json(record), attributes={"content-type": JSON_CONTENT_TYPE}))
    frames = read(FakeDelivery(messages * 20)).frames
    assert sum(frame.height for frame in frames) == 1200
    assert max(frame.height * frame.width for frame in frames) < 1.1 * intake_module.CELLS_MAX
    wide = Record(TIME, "a", {f"m{place}": 1.0 for place in range(2000)})
    message = Message(data=encode_json(wide), attributes={"content-type": JSON_CONTENT_TYPE})
    assert "2002 columns" in json.loads(read(FakeDelivery([message])).quarantine[0])["reason"]


def intake(*messages: Message, first: int, created_us: int = 1) -> Intake:
    delivery = FakeDelivery(messages, first)
    return Intake(delivery, created_us, read(delivery))


PARTITION = TopicPartition("telemetry", 3)


def test_a_batch_carries_the_offset_that_comes_next() -> None:
    batch = batch_of([intake(arrow(1.0), arrow(2.0), first=5), intake(arrow(3.0), first=7)], {})
    assert values(batch.frames) == [1.0, 2.0, 3.0]
    assert batch.positions == {PARTITION: Position(1, 8)}


def test_what_is_stored_is_left_out_even_in_the_middle_of_a_delivery() -> None:
    stored = {PARTITION: Position(1, 6)}
    assert batch_of([intake(arrow(1.0), first=5)], stored).positions == {}
    batch = batch_of([intake(arrow(1.0), Message(data=b"bad"), arrow(3.0), first=4)], stored)
    assert values(batch.frames) == [3.0]
    assert batch.quarantine == []
    assert batch.positions == {PARTITION: Position(1, 7)}


def test_a_delivery_that_came_twice_counts_once() -> None:
    batch = batch_of([intake(arrow(1.0), arrow(2.0), first=0), intake(arrow(2.0), arrow(3.0), first=1)], {})
    assert values(batch.frames) == [1.0, 2.0, 3.0]


def test_a_topic_made_anew_begins_again() -> None:
    stored = {PARTITION: Position(1, 100)}
    assert stored_through(stored, PARTITION, 1) == 100
    assert stored_through(stored, PARTITION, 2) == 0
    batch = batch_of([intake(arrow(1.0), first=0, created_us=2)], stored)
    assert batch.positions == {PARTITION: Position(2, 1)}
