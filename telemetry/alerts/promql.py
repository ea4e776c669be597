"""From the text of an expression to a tree that can be evaluated. What is not supported is refused by name."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Final

import promql_parser as promql

from telemetry.alerts.expressions import (
    Absent,
    Aggregation,
    Binary,
    Call,
    Expression,
    Kind,
    Matcher,
    Matching,
    Number,
    OverTime,
    Selector,
)
from telemetry.alerts.matching import check_pattern

TEXT_MAX: Final = 4_000
"""Longest expression, in characters. The parser goes as deep as brackets do, and has only so much stack."""

DEPTH_MAX: Final = 200
"""Deepest nesting of an expression. ``a + b + c`` is two deep."""

RANGE_US_MAX: Final = 86_400_000_000
"""How far back an expression may look, in microseconds. What is older than a day is no matter of alerts."""

OVER_TIME: Final = frozenset(
    {
        "rate", "increase", "delta", "irate", "idelta", "deriv", "predict_linear", "changes", "resets",
        "avg_over_time", "min_over_time", "max_over_time", "sum_over_time", "count_over_time", "last_over_time",
        "present_over_time", "stddev_over_time", "stdvar_over_time", "quantile_over_time", "absent_over_time",
    }
)  # fmt: skip
"""Functions of ranges."""

OF_VALUES: Final = frozenset(
    {
        "abs", "ceil", "floor", "exp", "ln", "log2", "log10", "sqrt", "sgn", "round", "clamp", "clamp_min",
        "clamp_max", "hour", "minute", "day_of_week",
    }
)  # fmt: skip
"""Functions of single values."""

OTHER_FUNCTIONS: Final = frozenset({"time", "timestamp", "vector", "scalar", "absent", "label_replace", "label_join"})
"""The rest."""

AGGREGATIONS: Final = frozenset(
    {"sum", "avg", "min", "max", "count", "group", "stddev", "stdvar", "quantile", "topk", "bottomk"}
)
"""Aggregations."""

_COMPARISONS: Final = frozenset({"==", "!=", "<", "<=", ">", ">="})
_SETS: Final = frozenset({"and", "or", "unless"})
_ARITHMETIC: Final = frozenset({"+", "-", "*", "/", "%", "^", "atan2"})
_MATCHES: Final = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}
_NAME: Final = "__name__"
_RESERVED: Final = frozenset({"ALERTS", "ALERTS_FOR_STATE"})
_BLANKS: Final = re.compile(r"\s+")


class ExpressionError(ValueError):
    """An expression that is refused; the text says which part of it and why."""


def compile_expression(text: str) -> Expression:
    """Understand an expression.

    Raises:
        ExpressionError: if it is not PromQL, or asks for what is not supported.
    """
    if len(text) > TEXT_MAX:
        raise ExpressionError(f"the expression has {len(text)} characters; at most {TEXT_MAX} are allowed")
    try:
        parsed = promql.parse(text)
    except ValueError as error:
        raise ExpressionError(f"the expression is not PromQL: {_BLANKS.sub(' ', str(error))}") from None
    return _compile(parsed, 0)


def _compile(node: Any, depth: int) -> Expression:
    if depth > DEPTH_MAX:
        raise ExpressionError(f"the expression is nested more than {DEPTH_MAX} deep")
    match node:
        case promql.ParenExpr():
            return _compile(node.expr, depth + 1)
        case promql.NumberLiteral():
            return Number(repr(node.val), Kind.SCALAR, node.val)
        case promql.VectorSelector():
            return _selector(node)
        case promql.UnaryExpr():
            return _negated(_compile(node.expr, depth + 1))
        case promql.Call():
            return _call(node, depth)
        case promql.BinaryExpr():
            return _binary(node, depth)
        case promql.AggregateExpr():
            return _aggregation(node, depth)
        case promql.MatrixSelector():
            raise ExpressionError(f"{node} is a range; a function such as rate or avg_over_time has to take it")
        case promql.SubqueryExpr():
            raise ExpressionError(f"subqueries, such as {node}, are not supported; record the inner expression")
        case promql.StringLiteral():
            raise ExpressionError(f"the text {node} stands where a number or a vector has to")
    raise ExpressionError(f"{node} is not supported")


def _selector(node: Any) -> Selector:
    if node.at is not None:
        raise ExpressionError(f"{node}: the modifier @ is not supported")
    if node.matchers.or_matchers:
        raise ExpressionError(f"{node}: matchers joined by 'or' are not supported")
    name, matchers = node.name, []
    for matcher in node.matchers.matchers:
        comparison = _MATCHES[str(matcher.op)]
        if matcher.name == _NAME:
            if comparison != "=" or name:
                raise ExpressionError(f"{node}: a selector has to name one metric, not match names")
            name = matcher.value
            continue
        if "~" in comparison:
            try:
                check_pattern(matcher.value)
            except ValueError as error:
                raise ExpressionError(f"{node}: {error}") from None
        matchers.append(Matcher(matcher.name, comparison, matcher.value))
    if not name:
        raise ExpressionError(f"{node}: a selector has to name its metric")
    if name in _RESERVED:
        raise ExpressionError(f"{name} is not supported: alerts are not kept as series")
    offset_us = _us(node.offset)
    if offset_us < 0:
        raise ExpressionError(f"{node}: the future cannot be looked at")
    _check_range(node, offset_us)
    chosen = tuple(sorted(matchers, key=lambda matcher: (matcher.label, matcher.comparison, matcher.value)))
    inside = ",".join(f"{matcher.label}{matcher.comparison}{matcher.value!r}" for matcher in chosen)
    key = f"{name!r}{{{inside}}}" + (f" offset {offset_us}" if offset_us else "")
    return Selector(key, Kind.VECTOR, name, chosen, offset_us)


def _negated(inner: Expression) -> Expression:
    if isinstance(inner, Number):
        return Number(repr(-inner.value), Kind.SCALAR, -inner.value)
    return Call(f"-({inner.key})", inner.kind, "-", (inner,))


def _call(node: Any, depth: int) -> Expression:
    name, args = node.func.name, list(node.args)
    if name in OVER_TIME:
        return _over_time(name, args, depth)
    if name not in OF_VALUES and name not in OTHER_FUNCTIONS:
        raise ExpressionError(f"the function {name} is not supported")
    texts = tuple(arg.val for arg in args if isinstance(arg, promql.StringLiteral))
    inner = tuple(_compile(arg, depth + 1) for arg in args if not isinstance(arg, promql.StringLiteral))
    key = f"{name}({','.join([*(part.key for part in inner), *map(repr, texts)])})"
    if name == "absent":
        return Absent(key, Kind.VECTOR, inner[0], _sure_labels(inner[0]))
    if name == "timestamp" and not isinstance(inner[0], Selector):
        raise ExpressionError(f"{node}: timestamp takes a selector and nothing else")
    if name in ("label_replace", "label_join"):
        _check_label_texts(node, name, texts)
    return Call(key, Kind.SCALAR if name in ("time", "scalar") else Kind.VECTOR, name, inner, texts)


def _over_time(name: str, args: list[Any], depth: int) -> Expression:
    ranges = [arg for arg in args if isinstance(arg, promql.MatrixSelector | promql.SubqueryExpr | promql.ParenExpr)]
    node = next((arg for arg in ranges if not isinstance(arg, promql.ParenExpr)), None)
    if isinstance(node, promql.SubqueryExpr) or node is None:
        raise ExpressionError(
            f"{name}({', '.join(map(str, args))}): the range has to be that of a selector; subqueries are not"
            " supported, record the inner expression"
        )
    selector = _selector(node.vector_selector)
    window_us = _us(node.range)
    _check_range(node, window_us + selector.offset_us)
    rest = [_compile(arg, depth + 1) for arg in args if arg is not node]
    argument = rest[0] if rest else None
    key = f"{name}({selector.key}[{window_us}]{',' + argument.key if argument else ''})"
    if name == "absent_over_time":
        present = OverTime(
            f"present_over_time({selector.key}[{window_us}])",
            Kind.VECTOR,
            "present_over_time",
            selector,
            window_us,
            None,
        )
        return Absent(key, Kind.VECTOR, present, _sure_labels(selector))
    return OverTime(key, Kind.VECTOR, name, selector, window_us, argument)


def _binary(node: Any, depth: int) -> Expression:
    operator = str(node.op)
    left, right = _compile(node.lhs, depth + 1), _compile(node.rhs, depth + 1)
    modifier = node.modifier
    matching, many, as_bool = Matching(on=False, labels=()), "", False
    include: tuple[str, ...] = ()
    if modifier is not None:
        fill = modifier.fill_values
        if fill is not None and (fill.lhs is not None or fill.rhs is not None):
            raise ExpressionError(f"{node}: fill values are not supported")
        if modifier.matching is not None:
            on = modifier.matching.type == promql.LabelModifierType.Include
            matching = Matching(on, _label_names(node, modifier.matching.labels))
        if modifier.card == promql.VectorMatchCardinality.ManyToOne:
            many = "left"
        elif modifier.card == promql.VectorMatchCardinality.OneToMany:
            many = "right"
        include = _label_names(node, modifier.group_labels or ()) if many else ()
        as_bool = modifier.return_bool
    key = f"({left.key} {operator} {matching} {many} {include} {as_bool} {right.key})"
    both_scalar = left.kind is right.kind is Kind.SCALAR
    kind = Kind.SCALAR if both_scalar else Kind.VECTOR
    if operator not in _SETS | _COMPARISONS | _ARITHMETIC:
        raise ExpressionError(f"the operator {operator} is not supported")
    return Binary(key, kind, operator, left, right, matching, many, include, as_bool)


def _aggregation(node: Any, depth: int) -> Expression:
    operator = str(node.op)
    if operator not in AGGREGATIONS:
        raise ExpressionError(f"the aggregation {operator} is not supported")
    argument = _compile(node.expr, depth + 1)
    parameter = None if node.param is None else _compile(node.param, depth + 1)
    matching = Matching(on=True, labels=())
    if node.modifier is not None:
        by = node.modifier.type == promql.AggModifierType.By
        matching = Matching(by, _label_names(node, node.modifier.labels))
    key = f"{operator} {matching} ({parameter.key + ',' if parameter else ''}{argument.key})"
    return Aggregation(key, Kind.VECTOR, operator, argument, matching, parameter)


def _sure_labels(inner: Expression) -> dict[str, str]:
    """The labels of ``absent``: those that a selector asks to be equal to something, once."""
    if not isinstance(inner, Selector):
        return {}
    asked = [matcher.label for matcher in inner.matchers]
    return {
        matcher.label: matcher.value
        for matcher in inner.matchers
        if matcher.comparison == "=" and matcher.value and asked.count(matcher.label) == 1
    }


def _label_names(node: Any, names: Any) -> tuple[str, ...]:
    if _NAME in names:
        raise ExpressionError(f"{node}: {_NAME} cannot be grouped by or matched on")
    return tuple(sorted(set(names)))


def _check_label_texts(node: Any, function: str, texts: tuple[str, ...]) -> None:
    names = (texts[0], texts[2]) if function == "label_replace" else (texts[0], *texts[2:])
    for name in names:
        if name == _NAME or not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name):
            raise ExpressionError(f"{node}: {name!r} cannot be used as a label here")
    if function == "label_replace":
        try:
            check_pattern(texts[3])
        except ValueError as error:
            raise ExpressionError(f"{node}: {error}") from None


def _us(length: timedelta | None) -> int:
    return 0 if length is None else length // timedelta(microseconds=1)


def _check_range(node: Any, range_us: int) -> None:
    if range_us > RANGE_US_MAX:
        raise ExpressionError(f"{node}: looks back further than {RANGE_US_MAX // 3_600_000_000} hours")
