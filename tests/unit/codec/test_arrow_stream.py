"""What an Arrow stream says about its size is what it takes, and one that would take too much is not unpacked."""

from __future__ import annotations

import io
import random
from contextlib import suppress
from typing import Literal

import polars as pl
import pyarrow as pa
import pytest

from telemetry.arrow_stream import unpacked_size
from telemetry.codec import ARROW_CONTENT_TYPE, TIME_TYPE, UNPACKED_BYTES_MAX, CodecError, decode

ROWS = 5000


def frame(rows: int = ROWS) -> pl.DataFrame:
    """Numbers, text, and text by number."""
    return pl.DataFrame(
        {
            "timestamp": pl.Series(range(rows)).cast(TIME_TYPE),
            "gpu": ["GPU-0", "GPU-1"] * (rows // 2),
            "x": [place / 7 for place in range(rows)],
            "pod": pl.Series(["a pod with a long name", None] * (rows // 2), dtype=pl.Categorical),
        }
    )


def stream(table: pl.DataFrame, compression: Literal["uncompressed", "lz4", "zstd"]) -> bytes:
    buffer = io.BytesIO()
    table.write_ipc_stream(buffer, compression=compression)
    return buffer.getvalue()


@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
def test_the_size_is_that_of_the_buffers_however_they_are_packed(
    compression: Literal["uncompressed", "lz4", "zstd"],
) -> None:
    plain = len(stream(frame(), "uncompressed"))
    assert 0.9 * plain < unpacked_size(stream(frame(), compression)) <= plain


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_streams_of_other_writers_are_understood_batch_by_batch(compression: Literal["lz4", "zstd"] | None) -> None:
    table = frame().to_arrow()
    buffer = io.BytesIO()
    with pa.ipc.new_stream(buffer, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        for batch in table.to_batches(max_chunksize=100):
            writer.write_batch(batch)
    assert table.nbytes <= unpacked_size(buffer.getvalue()) < 3 * table.nbytes
    assert decode(buffer.getvalue(), ARROW_CONTENT_TYPE).height == ROWS


def test_a_small_message_that_would_take_gigabytes_is_refused_before_it_is_unpacked() -> None:
    message = stream(frame(2).with_columns(note=pl.Series(["a" * UNPACKED_BYTES_MAX, None])), "zstd")
    assert len(message) < UNPACKED_BYTES_MAX // 1000
    with pytest.raises(CodecError, match=r"unpacked it would take \d+ bytes; at most 134217728 are allowed"):
        decode(message, ARROW_CONTENT_TYPE)


def test_what_is_damaged_is_refused_and_nothing_else_happens() -> None:
    whole = stream(frame(100), "lz4")
    chance = random.Random(1)
    for _ in range(2000):
        damaged = bytearray(whole[: chance.randrange(len(whole))])
        for _ in range(chance.randrange(4)):
            if damaged:
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        with suppress(ValueError):
            assert unpacked_size(bytes(damaged)) >= 0
