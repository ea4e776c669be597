"""What a message holds is told readably, whatever its content type says."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

from telemetry import payloads
from telemetry.codec import ARROW_CONTENT_TYPE, JSON_CONTENT_TYPE, encode_arrow, encode_json, frame_of
from telemetry.console.messages import message_lines
from telemetry.console.payloads import payload_json, payload_lines
from telemetry.live import LIVE_CONTENT_TYPE, LiveColumn, LiveUpdate
from telemetry.model import Record
from telemetry.queue.client import StoredMessage
from telemetry.v1 import queue_pb2

TIME = datetime(2026, 7, 14, 8, 12, 38, 696000, UTC)
RECORD = Record(TIME, "GPU-1", {"temperature": 41.0}, {"host": "node-1"})


def message(data: bytes, kind: str = "") -> queue_pb2.Message:
    return queue_pb2.Message(data=data, attributes={"content-type": kind} if kind else {})


def test_the_content_type_is_the_codecs_own() -> None:
    assert payloads.ARROW_CONTENT_TYPE == ARROW_CONTENT_TYPE


def test_arrow_is_told_as_its_records() -> None:
    arrow = message(encode_arrow(frame_of([RECORD] * 7)), ARROW_CONTENT_TYPE)
    head, *lines, rest = payload_lines(arrow)
    assert head.startswith("7 records of 1 GPU, ")
    assert lines == ["2026-07-14T08:12:38.696Z GPU-1 temperature=41"] * 5
    assert rest == "… 2 more"
    (first, *_) = payload_json(arrow)["data"]
    assert first == {"timestamp": TIME, "gpu": "GPU-1", "metrics": {"temperature": 41.0}, "labels": {"host": "node-1"}}


def test_json_is_a_value_for_scripts_and_a_line_for_people() -> None:
    record = message(encode_json(RECORD), JSON_CONTENT_TYPE)
    assert payload_json(record)["data"]["fields"] == {"temperature": 41.0, "host": "node-1"}
    assert list(payload_lines(record)) == [record.data.decode()]


def test_a_live_update_is_told_by_gpu() -> None:
    column = LiveColumn([41.0, None], [40.0, None], [42.0, None])
    update = LiveUpdate(["GPU-1", "GPU-2"], [0, 1_000_000], {"temperature": column})
    live = message(update.encode(), LIVE_CONTENT_TYPE)
    assert list(payload_lines(live))[1:] == [
        "1970-01-01T00:00:00.000Z GPU-1 temperature=41",
        "1970-01-01T00:00:01.000Z GPU-2 ",
    ]
    assert payload_json(live)["data"]["gpus"] == ["GPU-1", "GPU-2"]


def test_text_is_text_and_anything_else_is_base64() -> None:
    assert payload_json(message(b"hello")) == {"data": "hello"}
    assert payload_json(message(b"hello"), raw=True) == {"data_base64": base64.b64encode(b"hello").decode()}
    assert payload_json(message(b"\xff")) == {"data_base64": "/w=="}
    assert list(payload_lines(message(b"a\nb"))) == ["a\\nb"]


def test_what_does_not_hold_what_its_type_says_is_told_as_that() -> None:
    for kind in (ARROW_CONTENT_TYPE, LIVE_CONTENT_TYPE):
        (line,) = payload_lines(message(b"\xffnot", kind))
        assert line.startswith(f"4 B {kind}, which cannot be read: ")
        assert payload_json(message(b"\xffnot", kind)) == {"data_base64": base64.b64encode(b"\xffnot").decode()}
    assert list(
        payload_lines(message(b'{"gpus": 1, "timestamps_us": 2, "columns": {}, "labels": {}}', LIVE_CONTENT_TYPE))
    )


def test_long_text_is_cut_for_people() -> None:
    (line,) = payload_lines(message(b"x" * 5000))
    assert line == "x" * 2000 + "… 3,000 more characters"


def test_a_message_says_where_it_lies_and_what_travels_beside_it() -> None:
    stored = queue_pb2.Message(data=b"hello", attributes={"b": "2", "a": "1\n"}, ordering_key="k")
    assert message_lines(StoredMessage("t", 3, 120, 1_500_000, stored)) == [
        "t/3@120  1970-01-01T00:00:01.500Z  [key=k a=1\\n b=2]  hello"
    ]
