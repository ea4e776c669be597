"""Evaluates rules over what GPUs say: Prometheus' semantics, whole columns at a time.

Theory of operation. What rules ask for is known when they are loaded, so only those series are kept, and of those only
the newest sample or as many as some rule looks back on. An expression is a tree whose equal parts have equal keys;
within one time of evaluation a part is evaluated once, whatever the number of rules that have it. What recording rules
record becomes series at once, for the rules after them too.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from telemetry.alerts.alert import ALERT_NAME
from telemetry.alerts.expressions import (
    LOOKBACK_US,
    Absent,
    Aggregation,
    Binary,
    Call,
    Expression,
    Number,
    OverTime,
    Selector,
)
from telemetry.alerts.fleet import Fleet
from telemetry.alerts.functions import FUNCTIONS
from telemetry.alerts.in_force import RuleResult
from telemetry.alerts.labels import NO_LABELS, LabelSets, Rows, join_labels, replace_label
from telemetry.alerts.over_time import IN_ORDER, Span, over_time
from telemetry.alerts.rules import Group, Rule, RuleError, RuleSet
from telemetry.alerts.series import NEVER, Budget, Column, History, Table
from telemetry.alerts.state import Sample
from telemetry.alerts.vectors import (
    EvaluationError,
    Value,
    Vector,
    aggregate,
    check_distinct,
    many_to_one,
    one_to_one,
    set_operation,
    with_scalars,
)
from telemetry.live import LiveUpdate

_SLACK_US: Final = 2_000_000
"""Evaluations may be for a time a little before what came last."""

_NO_HISTORY_NEEDED: Final = frozenset({"last_over_time", "present_over_time"})
"""Functions of ranges that up to now need only the newest sample."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What evaluating may take.

    Attributes:
        gpus_max: most label sets of GPUs that are kept.
        series_max: most alerts or series that one rule may give.
        history_bytes_max: most memory for samples that rules look back on.
    """

    gpus_max: int = 200_000
    series_max: int = 100_000
    history_bytes_max: int = 2 << 30


class Evaluator:
    """Rules in force with all that it takes to evaluate them. For one thread at a time.

    It is the :class:`telemetry.alerts.in_force.Rules` that the service runs.
    """

    def __init__(self, rules: RuleSet, limits: Limits | None = None) -> None:
        """Know nothing yet."""
        self._limits = limits or Limits()
        self._limit_of = {rule.rule_id: group.limit for group in rules.groups for rule in group.rules}
        recorded = {rule.record for rule in rules if rule.record}
        needs = _needs(rules)
        kept_us = max([LOOKBACK_US, *(rule.range_us for rule in rules)])
        budget = Budget(self._limits.history_bytes_max)
        gpu_series = {name: length for name, length in needs.items() if name not in recorded}
        self.fleet = Fleet(gpu_series, kept_us, self._limits.gpus_max, budget)
        self._recorded = {name: Table({name: needs.get(name, 0)}, kept_us, budget) for name in sorted(recorded)}
        self._before: dict[str, LabelSets] = {}
        self._dependants = _dependants(rules, recorded)
        self.groups: Sequence[Group] = rules.groups
        """The groups, in the order of the files."""
        self._memo: dict[str, Value] = {}
        self._memo_us = NEVER

    def ingest(self, update: LiveUpdate, received_us: int) -> list[str]:
        """Take in what GPUs said; returns the GPUs of which it was taken, see :meth:`Fleet.ingest`."""
        self._memo_us = NEVER
        return self.fleet.ingest(update, received_us)

    def evaluate(self, group: Group, now_us: int) -> Iterator[RuleResult]:
        """Evaluate a group's rules one after the other, as of a time."""
        for rule in group.rules:
            began = time.perf_counter()
            samples: Sequence[Sample] = ()
            error = ""
            try:
                samples = self.evaluate_rule(rule, now_us)
            except RuleError as refused:
                error = str(refused)
            yield RuleResult(rule, samples, error, time.perf_counter() - began)

    def evaluate_rule(self, rule: Rule, now_us: int) -> list[Sample]:
        """Evaluate one rule: a sample for each alert, or none if it is recorded.

        Raises:
            RuleError: if the expression has no result, or too large a one.
        """
        try:
            vector = self.value(rule.compiled, now_us)
            if not isinstance(vector, Vector):
                vector = _alone(vector)
            count = int(np.count_nonzero(vector.present))
            limit = min(self._limits.series_max, self._limit_of.get(rule.rule_id) or self._limits.series_max)
            if count > limit:
                raise EvaluationError(f"the expression gives {count} series; at most {limit} are allowed")
            check_distinct(vector, "the expression gives two series with the same labels")
            if rule.alert:
                return _samples(rule, vector)
            self._record(rule, vector, now_us)
        except EvaluationError as error:
            raise RuleError(rule.file, rule.line, f"{rule.name}: {error}") from None
        return []

    def value(self, expression: Expression, now_us: int) -> Value:
        """What an expression gives at a time.

        Raises:
            EvaluationError: if it has no result.
        """
        if now_us != self._memo_us:
            self._memo.clear()
            self._memo_us = now_us
        with np.errstate(all="ignore"):
            return self._value(expression, now_us)

    def _value(self, expression: Expression, now_us: int) -> Value:
        known = self._memo.get(expression.key)
        if known is None:
            known = self._memo[expression.key] = self._compute(expression, now_us)
        return known

    def _compute(self, expression: Expression, now_us: int) -> Value:
        match expression:
            case Number():
                return expression.value
            case Selector():
                return self._select(expression, now_us)
            case OverTime():
                return self._over_time(expression, now_us)
            case Binary():
                return self._binary(expression, now_us)
            case Aggregation():
                parameter = 0.0 if expression.parameter is None else self._scalar(expression.parameter, now_us)
                vector = self._vector(expression.argument, now_us)
                return aggregate(expression.operator, vector, expression.matching, parameter)
            case Absent():
                if self._vector(expression.argument, now_us).present.any():
                    return Vector(NO_LABELS, np.zeros(1, np.bool_), np.ones(1))
                sets = LabelSets.of([expression.labels]) if expression.labels else NO_LABELS
                return Vector(sets, np.ones(1, np.bool_), np.ones(1))
            case Call():
                return self._call(expression, now_us)
        raise AssertionError(f"unknown expression {expression.key}")

    def _vector(self, expression: Expression, now_us: int) -> Vector:
        value = self._value(expression, now_us)
        assert isinstance(value, Vector)
        return value

    def _scalar(self, expression: Expression, now_us: int) -> float:
        value = self._value(expression, now_us)
        assert not isinstance(value, Vector)
        return value

    def _table(self, name: str) -> tuple[Table, Column]:
        table = self._recorded.get(name, self.fleet)
        return table, table.columns[name]

    def _select(self, selector: Selector, now_us: int) -> Vector:
        table, column = self._table(selector.name)
        if selector.offset_us:
            at_us = now_us - selector.offset_us
            window = self._history(column, selector).window(at_us - LOOKBACK_US, at_us, in_order=True)
            values, present = over_time("last_over_time", Span(window, at_us - LOOKBACK_US, at_us, now_us, 0.0))
        else:
            values, present = column.values.copy(), column.live & (column.times > now_us - LOOKBACK_US)
        matching = table.sets.matching(selector.matchers)
        return Vector(table.sets, present if matching is None else present & matching, values)

    def _over_time(self, call: OverTime, now_us: int) -> Vector:
        selector, window_us = call.selector, call.window_us
        table, column = self._table(selector.name)
        end_us = now_us - selector.offset_us
        if call.function in _NO_HISTORY_NEEDED and not selector.offset_us:
            present = column.times > now_us - window_us
            values = column.values.copy() if call.function == "last_over_time" else np.ones(table.sets.size)
        else:
            until_us = end_us if selector.offset_us else None
            history = self._history(column, selector)
            window = history.window(end_us - window_us, until_us, in_order=call.function in IN_ORDER)
            argument = 0.0 if call.argument is None else self._scalar(call.argument, now_us)
            values, present = over_time(call.function, Span(window, end_us - window_us, end_us, now_us, argument))
        matching = table.sets.matching(selector.matchers)
        return Vector(table.sets, present if matching is None else present & matching, values)

    def _history(self, column: Column, selector: Selector) -> History:
        if column.history is None:
            raise EvaluationError(f"{selector.name}: {column.overflow}")
        return column.history

    def _binary(self, binary: Binary, now_us: int) -> Value:
        left, right = self._value(binary.left, now_us), self._value(binary.right, now_us)
        if not isinstance(left, Vector) or not isinstance(right, Vector):
            return with_scalars(binary.operator, left, right, binary.as_bool)
        if binary.operator in ("and", "or", "unless"):
            return set_operation(binary.operator, left, right, binary.matching)
        if not binary.many:
            return one_to_one(binary.operator, left, right, binary.matching, binary.as_bool)
        swapped = binary.many == "right"
        many, one = (right, left) if swapped else (left, right)
        return many_to_one(binary.operator, many, one, binary.matching, binary.include, binary.as_bool, swapped)

    def _call(self, call: Call, now_us: int) -> Value:
        name = call.function
        if name == "time":
            return now_us / 1e6
        if name == "timestamp":
            assert isinstance(call.arguments[0], Selector)
            return self._timestamps(call.arguments[0], now_us)
        values = [self._value(argument, now_us) for argument in call.arguments]
        if not values:  # of the time, if nothing is said
            values = [_alone(now_us / 1e6)]
        first = values[0]
        match name:
            case "vector":
                assert not isinstance(first, Vector)
                return _alone(first)
            case "scalar":
                assert isinstance(first, Vector)
                rows = np.flatnonzero(first.present)
                return float(first.values[rows[0]]) if len(rows) == 1 else float("nan")
            case "label_replace" | "label_join":
                assert isinstance(first, Vector)
                target, text, *rest = call.texts
                if name == "label_replace":
                    sets = replace_label(first.sets, target, text, rest[0], rest[1])
                else:
                    sets = join_labels(first.sets, target, text, tuple(rest))
                result = Vector(sets, first.present, first.values)
                check_distinct(result, f"{name} makes two series with the same labels")
                return result
        arguments = [float("nan") if isinstance(value, Vector) else value for value in values[1:]]
        if isinstance(first, Vector):
            return first.map(lambda numbers: FUNCTIONS[name](numbers, *arguments))
        return float(FUNCTIONS[name](np.array([first]), *arguments)[0])

    def _timestamps(self, selector: Selector, now_us: int) -> Vector:
        table, column = self._table(selector.name)
        vector = self._vector(selector, now_us)
        if selector.offset_us:
            at_us = now_us - selector.offset_us
            window = self._history(column, selector).window(at_us - LOOKBACK_US, at_us, in_order=False)
            times = np.where(window.inside, window.times, NEVER).max(axis=1, initial=NEVER)
        else:
            times = np.minimum(column.times, now_us)
        return Vector(table.sets, vector.present, times / 1e6)

    def _record(self, rule: Rule, vector: Vector, now_us: int) -> None:
        """Make the result series, and end those that are in it no more."""
        sets = vector.sets
        if rule.labels:
            sets = sets.remember(("recorded", rule.rule_id), lambda: _labelled(vector.sets, rule.labels))
            vector = Vector(sets, vector.present, vector.values)
            check_distinct(vector, "the rule's labels make two series the same")
        rows = np.flatnonzero(vector.present)
        if not sets.distinct or len(rows) < sets.size // 4:
            vector = _only(vector, rows)
            sets, rows = vector.sets, np.arange(len(rows))
        table = self._recorded[rule.record]
        places = table.adopt(sets, now_us)
        column = table.columns[rule.record]
        before = self._before.get(rule.rule_id)
        if before is not None:
            ended = table.rows_of(before)
            column.live[ended[ended >= 0]] = False
        self._before[rule.rule_id] = sets
        written = places[rows]
        column.add(written, np.full(len(rows), now_us // 1000 * 1000), vector.values[rows])
        column.live[written] = True
        for key in self._dependants[rule.record]:
            self._memo.pop(key, None)


def _only(vector: Vector, rows: Rows) -> Vector:
    """Only the series that are there, of which the caller knows that no two are alike."""
    return Vector(vector.sets.take(rows, distinct=True), np.ones(len(rows), np.bool_), vector.values[rows])


def _alone(value: float) -> Vector:
    return Vector(NO_LABELS, np.ones(1, np.bool_), np.array([value], np.float64))


def _labelled(sets: LabelSets, labels: Mapping[str, str]) -> LabelSets:
    for name, text in labels.items():
        column = np.empty(sets.size, np.object_)
        column[:] = text
        sets = sets.replaced(name, column)
    return sets


def _samples(rule: Rule, vector: Vector) -> list[Sample]:
    rows = np.flatnonzero(vector.present)
    samples = []
    for row, value in zip(rows.tolist(), vector.values[rows].tolist(), strict=True):
        labels = vector.sets.row(row)
        given = {name: template.fill(labels, value) for name, template in rule.label_templates.items()}
        labels |= given
        labels[ALERT_NAME] = rule.alert
        samples.append(Sample({name: text for name, text in labels.items() if text} if given else labels, value))
    if rule.labels.keys() & vector.sets.columns.keys():
        _check_alike(samples)
    return samples


def _check_alike(samples: Iterable[Sample]) -> None:
    """Labels that the rule gives may hide those by which series differed."""
    seen: set[tuple[tuple[str, str], ...]] = set()
    for sample in samples:
        key = tuple(sorted(sample.labels.items()))
        if key in seen:
            raise EvaluationError(f"the rule's labels make two alerts the same: {dict(sample.labels)}")
        seen.add(key)


def _walk(expression: Expression) -> Iterator[Expression]:
    yield expression
    for part in expression.parts:
        yield from _walk(part)


def _needs(rules: RuleSet) -> dict[str, int]:
    """The series that rules ask for, and how far back samples of each are needed, in microseconds; 0 for the newest."""
    needs: dict[str, int] = {}
    for rule in rules:
        for part in _walk(rule.compiled):
            if isinstance(part, Selector):
                name, length_us = part.name, part.offset_us + LOOKBACK_US + _SLACK_US if part.offset_us else 0
            elif isinstance(part, OverTime):
                name, offset_us = part.selector.name, part.selector.offset_us
                newest = part.function in _NO_HISTORY_NEEDED and not offset_us
                length_us = 0 if newest else part.window_us + offset_us + _SLACK_US
            else:
                continue
            needs[name] = max(needs.get(name, 0), length_us)
    return needs


def _dependants(rules: RuleSet, recorded: set[str]) -> dict[str, set[str]]:
    """By recorded series, the keys of all expressions that use it."""
    dependants: dict[str, set[str]] = {name: set() for name in recorded}
    for rule in rules:
        for part in _walk(rule.compiled):
            for selector in part.selectors:
                if selector.name in dependants:
                    dependants[selector.name].add(part.key)
    return dependants
