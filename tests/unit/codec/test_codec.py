"""What goes into a message comes out of it again, and what is no message is refused with a reason."""

from __future__ import annotations

import io
import math
import random
from datetime import UTC, datetime

import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.codec import (
    ARROW_CONTENT_TYPE,
    JSON_CONTENT_TYPE,
    TIME_TYPE,
    CodecError,
    decode,
    encode_arrow,
    encode_json,
    frame_of,
    records_of,
)
from telemetry.model import Record

TIME = datetime(2026, 7, 14, 8, 12, 38, 696123, tzinfo=UTC)
RECORD = Record(TIME, "node-1/0", {"temperature": 41.0}, {"host": "node-1", "index": "0"})

names = st.sampled_from(["temperature", "power_draw", "Ünknown metric", "a.b"])
records = st.builds(
    Record,
    st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)).map(lambda time: time.replace(tzinfo=UTC)),  # noqa: DTZ001
    st.sampled_from(["GPU-1", "node/0", "../../etc/passwd"]),
    st.dictionaries(names, st.floats(allow_nan=False, allow_infinity=False, width=32)),
    st.dictionaries(st.sampled_from(["host", "pod"]), st.text(st.characters(codec="utf-8"), min_size=1)),
)


@given(st.lists(records, min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_records_survive_arrow(given_records: list[Record]) -> None:
    assert list(records_of(decode(encode_arrow(frame_of(given_records)), ARROW_CONTENT_TYPE))) == given_records


def test_a_record_survives_json() -> None:
    assert list(records_of(decode(encode_json(RECORD), JSON_CONTENT_TYPE))) == [RECORD]


def test_a_frame_has_the_types_it_promises() -> None:
    for data, kind in (
        (encode_arrow(frame_of([RECORD])), ARROW_CONTENT_TYPE),
        (encode_json(RECORD), JSON_CONTENT_TYPE),
    ):
        assert decode(data, kind).schema == {
            "timestamp": TIME_TYPE,
            "gpu": pl.String(),
            "temperature": pl.Float64(),
            "host": pl.String(),
            "index": pl.String(),
        }


def test_other_programs_may_send_other_numbers_times_and_dictionaries() -> None:
    frame = pl.DataFrame(
        {
            "timestamp": pl.Series([TIME]).dt.convert_time_zone("Asia/Tokyo").dt.cast_time_unit("ns"),
            "gpu": pl.Series(["a"], dtype=pl.Categorical),
            "temperature": pl.Series([41], dtype=pl.Int16),
            "nothing": pl.Series([None], dtype=pl.Null),
        }
    )
    assert list(records_of(decode(_ipc(frame), ARROW_CONTENT_TYPE))) == [Record(TIME, "a", {"temperature": 41.0})]


def test_not_a_number_is_not_a_value() -> None:
    frame = frame_of([Record(TIME, "a", {"x": value}) for value in (math.nan, math.inf, 1.0)])
    assert decode(encode_arrow(frame), ARROW_CONTENT_TYPE)["x"].to_list() == [None, None, 1.0]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (pl.DataFrame({"gpu": ["a"]}), "'timestamp' is missing"),
        (pl.DataFrame({"timestamp": [TIME]}), "'gpu' is missing"),
        (pl.DataFrame({"timestamp": [TIME.replace(tzinfo=None)], "gpu": ["a"]}), "not a time with a zone"),
        (pl.DataFrame({"timestamp": [TIME, None], "gpu": ["a", "a"]}), "'timestamp' has no value in row 1"),
        (pl.DataFrame({"timestamp": [TIME], "gpu": [""]}), "'gpu' is empty in row 0"),
        (pl.DataFrame({"timestamp": [TIME], "gpu": [7]}), "not text"),
        (pl.DataFrame({"timestamp": [TIME], "gpu": ["a"], "x": [[1.0]]}), "'x' is List"),
    ],
)
def test_a_table_that_is_no_frame_is_refused_with_the_column(frame: pl.DataFrame, reason: str) -> None:
    with pytest.raises(CodecError, match=reason):
        decode(_ipc(frame), ARROW_CONTENT_TYPE)


@pytest.mark.parametrize("data", [b"", b"nonsense", b"\xff\xff\xff\xff\x00\x00\x00\x00"])
def test_bytes_that_are_no_stream_are_refused(data: bytes) -> None:
    with pytest.raises(CodecError, match=r"not an Arrow stream|is missing"):
        decode(data, ARROW_CONTENT_TYPE)


def test_damaged_messages_are_refused_or_read_but_never_crash() -> None:
    chance = random.Random(1)
    whole = encode_arrow(frame_of([RECORD] * 50))
    for _ in range(300):
        damaged = bytearray(whole[: chance.randrange(8, len(whole))])
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        try:
            decode(bytes(damaged), ARROW_CONTENT_TYPE)
        except CodecError:
            continue


def test_an_unknown_content_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(CodecError, match=r"'text/plain' is not known; known are .*arrow.* and application/json"):
        decode(b"", "text/plain")


def test_json_from_a_script_is_understood() -> None:
    content = {
        "timestamp": "2026/07/14 08:12:38.696123",
        "fields": {
            "Hostname": "node-1",
            "gpu": 0,
            "utilization.gpu [%]": "45 %",
            "power.draw [W]": "[N/A]",
            "clocks_event_reasons.active": "0x0000000000000004",
            "custom": 1.5,
            "note": "x",
        },
    }
    expected = Record(
        TIME,
        "node-1/0",
        {"utilization": 45.0, "throttle_reasons": 4.0, "custom": 1.5},
        {"host": "node-1", "index": "0", "note": "x"},
    )
    assert list(records_of(decode(orjson.dumps(content), JSON_CONTENT_TYPE))) == [expected]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "'fields' is not an object"),
        (b'{"timestamp": 1, "fields": {"temperature": 1}}', "which GPU"),
        (b'{"fields": {"gpu_id": "1"}}', "'timestamp' is missing"),
        (b'{"timestamp": "soon", "fields": {"gpu_id": "1"}}', "'timestamp': 'soon' is not a time"),
        (
            b'{"timestamp": 1, "fields": {"gpu_id": "1", "temperature": "warm"}}',
            "'temperature': 'warm' is not a number",
        ),
        (b'{"timestamp": 1, "fields": {"gpu_id": "1", "x": {}}}', "field 'x'"),
    ],
)
def test_json_that_is_no_record_is_refused_with_the_field(content: bytes, reason: str) -> None:
    with pytest.raises(CodecError, match=reason):
        decode(content, JSON_CONTENT_TYPE)


def _ipc(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer)
    return buffer.getvalue()
