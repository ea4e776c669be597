"""Instant vectors as columns, and what PromQL does with one or two of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from telemetry.alerts.expressions import Matching
from telemetry.alerts.labels import EVERYTHING, Groups, LabelSets, Mask, Rows

Values = NDArray[np.float64]


class EvaluationError(Exception):
    """An expression that has no result; the text says why."""


@dataclass(frozen=True, slots=True)
class Vector:
    """At most one value for each of some label sets.

    Attributes:
        sets: the label sets.
        present: which of them have a value.
        values: the values; anything where there is none.
    """

    sets: LabelSets
    present: Mask
    values: Values

    def map(self, function: Callable[[Values], Values]) -> Vector:
        """Apply a function to all values."""
        return Vector(self.sets, self.present, function(self.values))

    def where(self, mask: Mask) -> Vector:
        """Only the values for which the mask is true."""
        return Vector(self.sets, self.present & mask, self.values)


Value: TypeAlias = float | Vector

_ARITHMETIC: Final[Mapping[str, Callable[..., Values]]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "%": np.fmod, "^": np.power, "atan2": np.arctan2,
}  # fmt: skip
_COMPARE: Final[Mapping[str, Callable[..., Mask]]] = {
    "==": np.equal, "!=": np.not_equal, "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal,
}  # fmt: skip


def with_scalars(operator: str, left: Value, right: Value, as_bool: bool) -> Value:
    """An operator of which one side or both are scalars."""
    sides = [side.values if isinstance(side, Vector) else np.float64(side) for side in (left, right)]
    vector = left if isinstance(left, Vector) else right
    compare = _COMPARE.get(operator)
    if compare is None:
        values = _ARITHMETIC[operator](*sides)
        return Vector(vector.sets, vector.present, values) if isinstance(vector, Vector) else float(values)
    true = compare(*sides)
    if not isinstance(vector, Vector):
        return float(true)
    return Vector(vector.sets, vector.present, true.astype(np.float64)) if as_bool else vector.where(true)


def set_operation(operator: str, left: Vector, right: Vector, matching: Matching) -> Vector:
    """``and``, ``or`` and ``unless``."""
    mine, theirs, count = left.sets.pairs(right.sets, matching)
    if operator != "or":
        there = np.zeros(count, np.bool_)
        there[theirs[right.present]] = True
        return left.where(there[mine] if operator == "and" else ~there[mine])
    there = np.zeros(count, np.bool_)
    there[mine[left.present]] = True
    added = right.present & ~there[theirs]
    if left.sets is right.sets and left.sets.distinct and not np.any(added & left.present):
        return Vector(left.sets, left.present | added, np.where(added, right.values, left.values))
    both = left.sets.remember_with(right.sets, "or", lambda: left.sets.followed_by(right.sets))
    return Vector(both, np.concatenate([left.present, added]), np.concatenate([left.values, right.values]))


def one_to_one(operator: str, left: Vector, right: Vector, matching: Matching, as_bool: bool) -> Vector:
    """An operator between vectors of which each series has at most one on the other side."""
    if left.sets is right.sets and left.sets.distinct and matching == EVERYTHING:
        values, keep = _apply(operator, left.values, right.values, as_bool)
        return Vector(left.sets, left.present & right.present & keep, values)
    mine, theirs, count = left.sets.pairs(right.sets, matching)
    partner = _partners(left, right, theirs, count, "right")[mine]
    values, keep = _apply(operator, left.values, right.values[partner], as_bool)
    present = left.present & (partner >= 0) & keep
    return _regrouped(left.sets.groups(matching), present, values)


def many_to_one(
    operator: str,
    many: Vector,
    one: Vector,
    matching: Matching,
    include: tuple[str, ...],
    as_bool: bool,
    swapped: bool,
) -> Vector:
    """``group_left``, or ``group_right`` when the sides are swapped."""
    mine, theirs, count = many.sets.pairs(one.sets, matching)
    partner = _partners(many, one, theirs, count, "left" if swapped else "right")[mine]
    sides = (one.values[partner], many.values) if swapped else (many.values, one.values[partner])
    values, keep = _apply(operator, *sides, as_bool)
    present = many.present & (partner >= 0) & keep
    if not include:
        return Vector(many.sets, present, values)
    rows = np.flatnonzero(present)
    sets = many.sets.take(rows)
    for name in include:
        sets = sets.replaced(name, one.sets.column(name)[partner[rows]])
    result = Vector(sets, np.ones(len(rows), np.bool_), values[rows])
    check_distinct(result, "multiple matches for labels: grouping labels must ensure unique matches")
    return result


def check_distinct(vector: Vector, complaint: str) -> None:
    """See that no two series have the same labels.

    Raises:
        EvaluationError: with the complaint and the labels, if two have.
    """
    if vector.sets.distinct:
        return
    rows = np.flatnonzero(vector.present)
    signatures = vector.sets.signatures(EVERYTHING)[rows]
    order = np.argsort(signatures)
    twice = np.flatnonzero(np.diff(signatures[order]) == 0)
    if len(twice):
        raise EvaluationError(f"{complaint}: {vector.sets.row(int(rows[order[twice[0]]]))}")


def aggregate(operator: str, vector: Vector, matching: Matching, parameter: float) -> Vector:
    """One of the aggregations."""
    groups = vector.sets.groups(matching)
    if operator in ("topk", "bottomk"):
        return _first(vector, groups, parameter, largest=operator == "topk")
    rows = np.flatnonzero(vector.present)
    mine, values, size = groups.of_row[rows], vector.values[rows], groups.sets.size
    counts = np.bincount(mine, minlength=size)
    present = counts > 0
    if operator == "count":
        return Vector(groups.sets, present, counts.astype(np.float64))
    if operator == "group":
        return Vector(groups.sets, present, np.ones(size))
    if operator in ("min", "max"):
        return Vector(groups.sets, present, _extreme(vector, groups, np.fmin if operator == "min" else np.fmax))
    if operator == "quantile":
        return Vector(groups.sets, present, _quantile(mine, values, counts, parameter))
    sums: Values = np.asarray(np.bincount(mine, values, minlength=size), np.float64)
    if operator == "sum":
        return Vector(groups.sets, present, sums)
    means = sums / counts
    if operator == "avg":
        return Vector(groups.sets, present, means)
    variances = np.bincount(mine, (values - means[mine]) ** 2, minlength=size) / counts
    return Vector(groups.sets, present, variances if operator == "stdvar" else np.sqrt(variances))


def _apply(operator: str, left: Values, right: Values, as_bool: bool) -> tuple[Values, Mask]:
    """The values, and which are kept."""
    compare = _COMPARE.get(operator)
    if compare is None:
        return _ARITHMETIC[operator](left, right), np.ones(len(left), np.bool_)
    true = compare(left, right)
    return (true.astype(np.float64), np.ones(len(left), np.bool_)) if as_bool else (left, true)


def _partners(other: Vector, one: Vector, numbers: Rows, count: int, side: str) -> Rows:
    """By number, the row of ``one`` that has it and a value; -1 for none. Where there is no other, nobody minds two."""
    partner = np.full(count, -1)
    if not other.present.any():
        return partner
    rows = np.flatnonzero(one.present)
    partner[numbers[rows]] = rows
    if np.count_nonzero(partner >= 0) < len(rows):
        twice = int(np.bincount(numbers[rows]).argmax())
        labels = one.sets.row(int(rows[np.flatnonzero(numbers[rows] == twice)[0]]))
        raise EvaluationError(f"found duplicate series for the match group on the {side} hand-side: {labels}")
    return partner


def _regrouped(groups: Groups, present: Mask, values: Values) -> Vector:
    """Rows with only the labels of their groups, of which each may have one."""
    rows = np.flatnonzero(present)
    mine = groups.of_row[rows]
    result, there = np.zeros(groups.sets.size), np.zeros(groups.sets.size, np.bool_)
    result[mine], there[mine] = values[rows], True
    if np.count_nonzero(there) < len(rows):
        twice = int(np.bincount(mine).argmax())
        raise EvaluationError(
            "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right):"
            f" {groups.sets.row(twice)}"
        )
    return Vector(groups.sets, there, result)


def _extreme(vector: Vector, groups: Groups, function: np.ufunc) -> Values:
    if not groups.sets.size:
        return np.zeros(0)
    values = np.where(vector.present, vector.values, np.nan)[groups.order]
    extremes: Values = function.reduceat(values, groups.starts)
    return extremes


def _sorted(mine: Rows, values: Values) -> Rows:
    """Positions by group and value; what is not a number comes first."""
    return np.lexsort((np.where(np.isnan(values), -np.inf, values), mine))


def _quantile(mine: Rows, values: Values, counts: Rows, quantile: float) -> Values:
    if np.isnan(quantile) or not 0 <= quantile <= 1:
        return np.full(len(counts), np.nan if np.isnan(quantile) else np.inf if quantile > 1 else -np.inf)
    ordered = np.append(values[_sorted(mine, values)], 0.0)
    ends = np.cumsum(counts)
    rank = quantile * (counts - 1)
    lower = np.maximum(np.floor(rank), 0)
    upper = np.minimum(lower + 1, counts - 1)
    starts, weight = ends - counts, rank - np.floor(rank)
    low = ordered[np.minimum((starts + lower).astype(np.int64), len(values))]
    high = ordered[np.clip((starts + upper).astype(np.int64), 0, len(values))]
    return np.asarray(low * (1 - weight) + high * weight)


def _first(vector: Vector, groups: Groups, count: float, largest: bool) -> Vector:
    if np.isnan(count) or count < 1:
        return vector.where(np.zeros(vector.sets.size, np.bool_))
    rows = np.flatnonzero(vector.present)
    values = vector.values[rows]
    mine = groups.of_row[rows]
    worst = np.where(np.isnan(values), -np.inf, values if largest else -values)
    order = np.lexsort((-worst, mine))
    counts = np.bincount(mine, minlength=groups.sets.size)
    place = np.arange(len(rows)) - (np.cumsum(counts) - counts)[mine[order]]
    mask = np.zeros(vector.sets.size, np.bool_)
    mask[rows[order[place < count]]] = True
    return vector.where(mask)
