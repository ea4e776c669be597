"""How a metric's values can be written without loss: as whole numbers, as decimals of so many places, or in binary.

GPUs report 563.12 W. In binary that is a fraction full of digits, which takes three times the room of the whole number
56312 once compressed. Parquet has decimals for this, and what reads Parquet reads them as what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, cast

import numpy as np
import polars as pl
import pyarrow as pa

PLACES_MAX: Final = 9
"""Most places after the point."""

_WHOLE_END: Final = 1 << 50
"""Whole numbers below it, divided by a power of ten, are the float that the decimal is nearest to; and multiplied by
that power a float is no further than a quarter from the whole number that it was."""

_PRECISION: Final = 18
"""Digits of a column of decimals, all places together: what fits into 64 bits."""

_SAMPLE: Final = 256


@dataclass(frozen=True, slots=True)
class Digits:
    """What all values of a metric can be written with.

    Attributes:
        places: after the point; ``None`` where only binary will do.
        largest: no value is further from zero.
    """

    places: int | None
    largest: float

    def joined(self, other: Digits) -> Digits:
        """What the values of both can be written with."""
        if self.places is None or other.places is None:
            return BINARY
        places, largest = max(self.places, other.places), max(self.largest, other.largest)
        return Digits(places, largest) if largest * 10.0**places < _WHOLE_END else BINARY

    def to_json(self) -> list[Any]:
        """As plain values."""
        return [self.places, self.largest]

    @classmethod
    def from_json(cls, value: Sequence[Any]) -> Self:
        """From what :meth:`to_json` gave."""
        places, largest = value
        return cls(None if places is None else int(places), float(largest))


BINARY: Final = Digits(None, 0.0)
UNSEEN: Final = Digits(0, 0.0)
"""Of no values at all."""


def digits_of(values: pl.Series, known: Digits = UNSEEN) -> Digits:
    """What finite ``values``, null or Float64, can be written with, and others as well that ``known`` is said of."""
    present = values.drop_nulls().to_numpy()
    if known.places is None or not len(present):
        return known
    largest = max(known.largest, float(np.abs(present).max()))
    for places in range(known.places, PLACES_MAX + 1):
        if not largest * 10.0**places < _WHOLE_END:
            break
        if _fits(present[:_SAMPLE], places) and _fits(present, places):
            return Digits(places, largest)
    return BINARY


def to_arrow(values: pl.Series, digits: Digits) -> pa.Array[Any]:
    """A column of a file: INT64, DECIMAL or DOUBLE.

    Raises:
        ValueError: ``digits`` are not those of the values.
    """
    if digits.places is None:
        return values.to_arrow()
    mask = values.is_null().to_numpy()
    floats = values.fill_null(0.0).to_numpy()
    whole = _whole(floats, digits.places)
    if not _same(whole / 10.0**digits.places, floats):
        raise ValueError(f"{values.name} has values of more than {digits.places} places")
    if not digits.places:
        return cast("pa.Array[Any]", pa.array(whole, mask=mask))
    words = np.empty((len(whole), 2), np.int64)
    words[:, 0], words[:, 1] = whole, whole >> 63
    validity = pa.array(~mask).buffers()[1] if mask.any() else None
    kind = pa.decimal128(_PRECISION, digits.places)
    return pa.Array.from_buffers(kind, len(whole), [validity, pa.py_buffer(words.tobytes())])


def to_floats(column: pa.Array[Any]) -> pa.Array[Any]:
    """What :func:`to_arrow` was given."""
    if pa.types.is_floating(column.type):
        return column
    if not len(column):
        return cast("pa.Array[Any]", pa.array([], pa.float64()))
    # Arrow's own conversion of decimals is off by a bit now and then, and loading what converts takes 0.1 s.
    validity, data = column.buffers()
    end = column.offset + len(column)
    words = np.frombuffer(memoryview(cast("Any", data)), np.int64)
    if pa.types.is_decimal(column.type):
        values = words[: 2 * end : 2] / 10.0**column.type.scale
    else:
        values = words[:end].astype(np.float64)
    return pa.Array.from_buffers(
        pa.float64(), len(column), [validity, pa.py_buffer(cast("Any", values))], offset=column.offset
    )


def _whole(floats: np.ndarray[Any, np.dtype[np.float64]], places: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.rint(floats * 10.0**places).astype(np.int64)


def _fits(floats: np.ndarray[Any, np.dtype[np.float64]], places: int) -> bool:
    return _same(_whole(floats, places) / 10.0**places, floats)


def _same(floats: np.ndarray[Any, np.dtype[np.float64]], others: np.ndarray[Any, np.dtype[np.float64]]) -> bool:
    """Whether all bits are the same: -0.0 is not 0.0."""
    return bool(np.array_equal(floats.view(np.int64), np.ascontiguousarray(others).view(np.int64)))
