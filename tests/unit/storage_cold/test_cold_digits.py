"""Values keep every bit, whatever they are written with, and are written with as little as they need."""

from __future__ import annotations

import io
import os
import struct
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.storage.cold.digits import BINARY, UNSEEN, Digits, digits_of, to_arrow, to_floats

ROUNDS = int(os.environ.get("TELEMETRY_TEST_ROUNDS") or 1)

decimals = st.builds(lambda number, places: number / 10**places, st.integers(-(10**15), 10**15), st.integers(0, 12))
columns = st.lists(
    st.one_of(
        st.none(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.integers(-5, 5).map(float),
        st.sampled_from([0.0, -0.0, 0.1, 563.12, 2.0**50, 2.0**53 + 2]),
        decimals,
    ),
    max_size=20,
)


def column(values: list[float | None]) -> pl.Series:
    return pl.Series("x", values, dtype=pl.Float64)


def bits(values: list[float | None]) -> list[bytes | None]:
    return [None if value is None else struct.pack("<d", value) for value in values]


def through_a_file(array: pa.Array[Any]) -> pa.ChunkedArray[Any]:
    file = io.BytesIO()
    pq.write_table(pa.table({"x": array}), file, store_decimal_as_integer=True)
    return pq.read_table(file)["x"]


@given(pieces=st.lists(columns, min_size=1, max_size=4))
@settings(max_examples=150 * ROUNDS, deadline=None)
def test_every_value_comes_back_with_all_its_bits(pieces: list[list[float | None]]) -> None:
    one_after_another, together = UNSEEN, UNSEEN
    for piece in pieces:
        one_after_another = digits_of(column(piece), one_after_another)
        together = together.joined(digits_of(column(piece)))
    assert one_after_another.places == together.places
    for piece in pieces:
        stored = through_a_file(to_arrow(column(piece), together))
        found = [value for chunk in stored.chunks for value in to_floats(chunk).to_pylist()]
        assert bits(found) == bits(piece)
        sliced = [value for chunk in stored.chunks for value in to_floats(chunk.slice(1)).to_pylist()]
        assert bits(sliced) == bits(piece[1:])


@given(whole=st.integers(-(10**9), 10**9), places=st.integers(0, 6))
@settings(max_examples=100 * ROUNDS, deadline=None)
def test_decimals_are_known_for_what_they_are(whole: int, places: int) -> None:
    value = whole / 10**places
    needed = len(f"{value:.6f}".rstrip("0").partition(".")[2])
    assert digits_of(column([value, None])) == Digits(needed, abs(value))


@pytest.mark.parametrize("value", [1 / 3, -0.0, 2.0**50, 1e300, 5e-324, 0.1 + 0.2])
def test_what_is_no_decimal_stays_binary(value: float) -> None:
    assert digits_of(column([1.0, value])) == BINARY


def test_a_large_and_a_fine_value_of_one_metric_need_binary() -> None:
    assert Digits(0, 2.0**49).joined(Digits(3, 1.0)) == BINARY
    assert digits_of(column([0.001]), Digits(0, 2.0**49)) == BINARY


def test_a_column_with_other_values_than_were_said_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 2 places"):
        to_arrow(column([1.234]), Digits(2, 2.0))
