"""Functions of single values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

_DAY_S: Final = 86_400
_EPOCH_WEEKDAY: Final = 4
"""1970 began on a Thursday; Sunday is 0."""


def _round(values: Values, to: float = 1.0) -> Values:
    # As Prometheus does, with the inverse, which is exact where 0.1 is not; halves go up.
    inverse = 1.0 / to
    return np.floor(values * inverse + 0.5) / inverse


def _clamp(values: Values, low: float, high: float) -> Values:
    return np.maximum(low, np.minimum(high, values))


def _day_of_week(values: Values) -> Values:
    return np.asarray(np.mod(np.floor(values / _DAY_S) + _EPOCH_WEEKDAY, 7))


FUNCTIONS: Final[Mapping[str, Callable[..., Values]]] = {
    "-": np.negative,
    "abs": np.abs,
    "ceil": np.ceil,
    "floor": np.floor,
    "exp": np.exp,
    "ln": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "sqrt": np.sqrt,
    "sgn": np.sign,
    "round": _round,
    "clamp": _clamp,
    "clamp_min": lambda values, low: np.maximum(low, values),
    "clamp_max": lambda values, high: np.minimum(high, values),
    "hour": lambda values: np.floor(np.mod(values, _DAY_S) / 3600),
    "minute": lambda values: np.floor(np.mod(values, 3600) / 60),
    "day_of_week": _day_of_week,
}
"""By name; the values come first, then scalars."""
