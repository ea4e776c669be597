"""What the queue carries may be anything: the codec makes records of it or says that there are none."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from telemetry.codec import ARROW_CONTENT_TYPE, JSON_CONTENT_TYPE, CodecError, decode, encode_arrow
from tests.fuzz.examples import examples
from tests.fuzz.messages import damaged

ARROW = encode_arrow(
    pl.DataFrame(
        {
            "timestamp": pl.Series([0, 1_000_000, 2_000_000]).cast(pl.Datetime("us", "UTC")),
            "gpu": ["GPU-a", "GPU-b", "GPU-a"],
            "temperature_celsius": [40.0, None, 42.5],
            "host": ["node-1", "node-2", None],
        }
    )
)
JSON = b'{"timestamp":"2026-01-02T03:04:05Z","gpu":"GPU-a","labels":{"host":"n"},"metrics":{"temperature_celsius":40}}'


@examples(60)
@given(
    data=st.binary(max_size=200) | damaged(st.sampled_from([ARROW, JSON])),
    content_type=st.sampled_from([ARROW_CONTENT_TYPE, JSON_CONTENT_TYPE]),
)
def test_bytes_that_are_no_records_are_a_codec_error(data: bytes, content_type: str) -> None:
    try:
        frame = decode(data, content_type)
    except CodecError:
        return
    assert frame.schema["timestamp"] == pl.Datetime("us", "UTC")
    assert frame.schema["gpu"] == pl.String
    assert frame["timestamp"].null_count() == frame["gpu"].null_count() == 0
