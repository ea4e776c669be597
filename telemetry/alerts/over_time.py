"""Functions of ranges: what PromQL makes of the samples of each series within a while, for all series at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetry.alerts.labels import Mask
from telemetry.alerts.series import Window

Values = NDArray[np.float64]

EXTRAPOLATED: Final = 1.1
"""How many times the usual distance between samples the edge of the range may be away for the rate to go on to it."""


@dataclass(frozen=True, slots=True)
class Span:
    """A range.

    Attributes:
        window: the samples in it.
        start_us: it begins after this.
        end_us: its end.
        now_us: the time of the evaluation.
        argument: the function's scalar; 0 for none.
    """

    window: Window
    start_us: int
    end_us: int
    now_us: int
    argument: float

    @property
    def counts(self) -> Values:
        """How many samples each series has."""
        return np.asarray(np.count_nonzero(self.window.inside, axis=1), np.float64)


Result = tuple[Values, Mask]
"""The values, and which series have one."""

IN_ORDER: Final = frozenset(
    {"rate", "increase", "delta", "irate", "idelta", "changes", "resets", "last_over_time", "deriv", "predict_linear"}
)
"""Functions that need samples in the order of time."""


def over_time(function: str, span: Span) -> Result:
    """Apply a function to every series."""
    if not span.window.inside.size:
        rows = len(span.window.inside)
        return np.zeros(rows), np.zeros(rows, np.bool_)
    return _FUNCTIONS[function](span)


def _sums(span: Span, values: Values) -> Values:
    return np.asarray(np.where(span.window.inside, values, 0.0).sum(axis=1))


def _sum(span: Span) -> Result:
    return _sums(span, span.window.values), span.counts > 0


def _avg(span: Span) -> Result:
    counts = span.counts
    return _sums(span, span.window.values) / counts, counts > 0


def _min(span: Span) -> Result:
    return np.fmin.reduce(np.where(span.window.inside, span.window.values, np.nan), axis=1), span.counts > 0


def _max(span: Span) -> Result:
    return np.fmax.reduce(np.where(span.window.inside, span.window.values, np.nan), axis=1), span.counts > 0


def _count(span: Span) -> Result:
    return span.counts, span.counts > 0


def _present(span: Span) -> Result:
    counts = span.counts
    return np.ones(len(counts)), counts > 0


def _stdvar(span: Span) -> Result:
    counts = span.counts
    mean = _sums(span, span.window.values) / counts
    return _sums(span, (span.window.values - mean[:, None]) ** 2) / counts, counts > 0


def _stddev(span: Span) -> Result:
    variance, present = _stdvar(span)
    return np.sqrt(variance), present


def _quantile(span: Span) -> Result:
    counts, quantile = span.counts, span.argument
    if np.isnan(quantile) or not 0 <= quantile <= 1:
        out = np.nan if np.isnan(quantile) else np.inf if quantile > 1 else -np.inf
        return np.full(len(counts), out), counts > 0
    values = np.where(np.isnan(span.window.values), -np.inf, span.window.values)
    ordered = np.sort(np.where(span.window.inside, values, np.inf), axis=1)
    rank = quantile * (counts - 1)
    lower = np.maximum(np.floor(rank), 0).astype(np.int64)
    upper = np.clip(lower + 1, 0, np.maximum(counts - 1, 0)).astype(np.int64)
    rows, weight = np.arange(len(counts)), rank - np.floor(rank)
    low, high = ordered[rows, lower], ordered[rows, upper]
    return low * (1 - weight) + high * weight, counts > 0


def _ends(span: Span) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The rows, and the slots of each row's first and last sample."""
    counts = np.count_nonzero(span.window.inside, axis=1)
    first = np.argmax(span.window.inside, axis=1)
    return np.arange(len(counts)), first, np.maximum(first + counts - 1, 0)


def _last(span: Span) -> Result:
    rows, _, last = _ends(span)
    return span.window.values[rows, last], span.counts > 0


def _steps(span: Span) -> tuple[Values, Values, Mask]:
    """Each sample but a series' first, the one before it, and which of these pairs there are."""
    inside = span.window.inside
    return span.window.values[:, 1:], span.window.values[:, :-1], inside[:, 1:] & inside[:, :-1]


def _changes(span: Span) -> Result:
    after, before, pairs = _steps(span)
    changed = (after != before) & ~(np.isnan(after) & np.isnan(before))
    return np.count_nonzero(changed & pairs, axis=1).astype(np.float64), span.counts > 0


def _resets(span: Span) -> Result:
    after, before, pairs = _steps(span)
    return np.count_nonzero((after < before) & pairs, axis=1).astype(np.float64), span.counts > 0


def _extrapolated(span: Span, counter: bool, per_second: bool) -> Result:
    """What a series grew by, as if it had samples at both edges of the range."""
    rows, first, last = _ends(span)
    counts = span.counts
    values, times = span.window.values, span.window.times
    grown = values[rows, last] - values[rows, first]
    if counter:
        after, before, pairs = _steps(span)
        grown = grown + np.where(pairs & (after < before), before, 0.0).sum(axis=1)
    covered = (times[rows, last] - times[rows, first]) / 1e6
    usual = covered / (counts - 1)
    to_start = (times[rows, first] - span.start_us) / 1e6
    to_end = (span.end_us - times[rows, last]) / 1e6
    to_start = np.where(to_start >= usual * EXTRAPOLATED, usual / 2, to_start)
    if counter:
        # A counter cannot have been below zero.
        to_zero = covered * (values[rows, first] / grown)
        to_start = np.where((grown > 0) & (values[rows, first] >= 0) & (to_zero < to_start), to_zero, to_start)
    to_end = np.where(to_end >= usual * EXTRAPOLATED, usual / 2, to_end)
    factor = (covered + to_start + to_end) / covered
    if per_second:
        factor = factor / ((span.end_us - span.start_us) / 1e6)
    return grown * factor, counts > 1


def _instant(span: Span, counter: bool) -> Result:
    """The last two samples."""
    rows, _, last = _ends(span)
    values, times = span.window.values, span.window.times
    before = np.maximum(last - 1, 0)
    step = values[rows, last] - values[rows, before]
    seconds = (times[rows, last] - times[rows, before]) / 1e6
    if counter:
        step = np.where(values[rows, last] < values[rows, before], values[rows, last], step) / seconds
    return step, (span.counts > 1) & (seconds > 0)


def _regression(span: Span, origin_us: NDArray[np.int64]) -> tuple[Values, Values]:
    """Slope a second and value at the origin of the line that fits best."""
    counts, values = span.counts, span.window.values
    seconds = np.where(span.window.inside, (span.window.times - origin_us[:, None]) / 1e6, 0.0)
    sum_x, sum_y = seconds.sum(axis=1), _sums(span, values)
    covariance = _sums(span, seconds * values) - sum_x * sum_y / counts
    slope = covariance / ((seconds * seconds).sum(axis=1) - sum_x * sum_x / counts)
    rows, first, _ = _ends(span)
    start = values[rows, first]
    constant = np.where(span.window.inside, values == start[:, None], True).all(axis=1)
    slope = np.where(constant, np.where(np.isinf(start), np.nan, 0.0), slope)
    return slope, np.where(constant, np.where(np.isinf(start), np.nan, start), sum_y / counts - slope * sum_x / counts)


def _deriv(span: Span) -> Result:
    rows, first, _ = _ends(span)
    return _regression(span, span.window.times[rows, first])[0], span.counts > 1


def _predict(span: Span) -> Result:
    slope, value = _regression(span, np.full(len(span.counts), span.now_us))
    return slope * span.argument + value, span.counts > 1


_FUNCTIONS: Final[Mapping[str, Callable[[Span], Result]]] = {
    "sum_over_time": _sum,
    "avg_over_time": _avg,
    "min_over_time": _min,
    "max_over_time": _max,
    "count_over_time": _count,
    "present_over_time": _present,
    "last_over_time": _last,
    "stddev_over_time": _stddev,
    "stdvar_over_time": _stdvar,
    "quantile_over_time": _quantile,
    "changes": _changes,
    "resets": _resets,
    "rate": lambda span: _extrapolated(span, counter=True, per_second=True),
    "increase": lambda span: _extrapolated(span, counter=True, per_second=False),
    "delta": lambda span: _extrapolated(span, counter=False, per_second=False),
    "irate": lambda span: _instant(span, counter=True),
    "idelta": lambda span: _instant(span, counter=False),
    "deriv": _deriv,
    "predict_linear": _predict,
}
