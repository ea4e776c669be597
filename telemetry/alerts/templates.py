"""Texts with templates, as labels and annotations of rules have them: the part of Prometheus' language that rules use.

``{{ $labels.gpu }}`` and ``{{ $value }}``, through functions and pipelines: ``{{ $value | printf "%.1f" }}``.
Conditions, loops, variables and queries are refused by name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

FILLED_MAX: Final = 4_000
"""Longest text that a template makes, in characters; the rest is cut off."""

TEMPLATE_MAX: Final = 10_000
"""Longest template, in characters."""

_ACTION: Final = re.compile(
    r"\{\{(?P<left>- )?(?P<inside>(?:[^}\"`]|\"(?:[^\"\\]|\\.)*\"|`[^`]*`|\}(?!\}))*?)(?P<right> -)?\}\}"
)
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<label>(?:\$labels|\.Labels)\.(?P<name>[a-zA-Z_][a-zA-Z0-9_]*))(?![\w.])"
    r"|(?P<value>\$value|\.Value)(?![\w.])"
    r"|(?P<text>\"(?:[^\"\\]|\\.)*\"|`[^`]*`)"
    r"|(?P<number>-?\d+(?:\.\d+)?)(?![\w.])"
    r"|(?P<pipe>\|)"
    r"|(?P<word>[^\s|()\"`]+)"
    r"|(?P<other>.))",
    re.DOTALL,
)
_VERB: Final = re.compile(r"%(?P<flags>[-+ 0#]*)(?P<width>\d{0,3})(?:\.(?P<precision>\d{0,2}))?(?P<verb>.)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}

_Value: TypeAlias = float | str


class TemplateError(ValueError):
    """A template that is refused; the text says which part of it and why."""


@dataclass(frozen=True, slots=True)
class _Label:
    name: str


class _TheValue:
    """Stands for ``$value``."""


_VALUE: Final = _TheValue()
_Operand: TypeAlias = _Label | _TheValue | float | str


@dataclass(frozen=True, slots=True)
class _Step:
    """One part of a pipeline: a function and its arguments, or, without a function, just a value."""

    function: str
    operands: tuple[_Operand, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A text with templates.

    Attributes:
        parts: texts, and pipelines to put between them.
        labels: the labels that it asks for.
    """

    parts: tuple[str | tuple[_Step, ...], ...]
    labels: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> Template:
        """Understand a text.

        Raises:
            TemplateError: if it is not a template, or asks for what is not supported.
        """
        if len(text) > TEMPLATE_MAX:
            raise TemplateError(f"the text has {len(text)} characters; at most {TEMPLATE_MAX} are allowed")
        parts: list[str | tuple[_Step, ...]] = []
        position, trim = 0, False
        for action in _ACTION.finditer(text):
            plain = text[position : action.start()]
            plain = plain.lstrip() if trim else plain
            parts.append(plain.rstrip() if action["left"] else plain)
            parts.append(_pipeline(action["inside"]))
            position, trim = action.end(), bool(action["right"])
        rest = text[position:]
        parts.append(rest.lstrip() if trim else rest)
        if any(isinstance(part, str) and "{{" in part for part in parts):
            raise TemplateError("{{ is not closed by }}")
        steps = [step for part in parts if not isinstance(part, str) for step in part]
        names = {operand.name for step in steps for operand in step.operands if isinstance(operand, _Label)}
        template = cls(tuple(parts), frozenset(names))
        template.fill({}, 0.0)  # finds formats that do not fit
        return template

    def fill(self, labels: Mapping[str, str], value: float) -> str:
        """The text for an alert."""
        filled = (part if isinstance(part, str) else _run(part, labels, value) for part in self.parts)
        return "".join(filled)[:FILLED_MAX]


def _pipeline(inside: str) -> tuple[_Step, ...]:
    steps: list[_Step] = []
    function, operands = "", list[_Operand]()
    what = "{{" + inside + "}}"
    for token in _TOKEN.finditer(inside.strip()):
        if token["pipe"]:
            steps.append(_step(function, operands, first=not steps, what=what))
            function, operands = "", []
        elif token["label"]:
            if token["name"] == "__name__":
                raise TemplateError(f"{what}: the series' name is not kept")
            operands.append(_Label(token["name"]))
        elif token["value"]:
            operands.append(_VALUE)
        elif token["text"]:
            operands.append(_unquoted(token["text"], what))
        elif token["number"]:
            operands.append(float(token["number"]))
        elif token["word"] and not function and not operands:
            function = token["word"]
            if function not in _FUNCTIONS:
                raise TemplateError(f"{what}: {function} is not supported in templates")
        else:
            raise TemplateError(f"{what}: {(token['word'] or token['other'] or '').strip()!r} is not supported there")
    steps.append(_step(function, operands, first=not steps, what=what))
    return tuple(steps)


def _step(function: str, operands: Sequence[_Operand], first: bool, what: str) -> _Step:
    if not function:
        if len(operands) != 1 or not first:
            raise TemplateError(f"{what}: a value or a function has to stand there")
        return _Step("", tuple(operands))
    wanted = _ARGUMENTS.get(function, 1) - (0 if first else 1)
    if len(operands) != wanted:
        raise TemplateError(
            f"{what}: {function} takes {wanted} argument{'s' * (wanted != 1)} here, not {len(operands)}"
        )
    return _Step(function, tuple(operands))


def _unquoted(text: str, what: str) -> str:
    if text.startswith("`"):
        return text[1:-1]

    def escape(match: re.Match[str]) -> str:
        if match[1] not in _ESCAPES:
            raise TemplateError(f"{what}: the escape {match[0]} is not supported")
        return _ESCAPES[match[1]]

    return re.sub(r"\\(.)", escape, text[1:-1], flags=re.DOTALL)


def _run(steps: Sequence[_Step], labels: Mapping[str, str], value: float) -> str:
    result: _Value = ""
    for number, step in enumerate(steps):
        arguments = [_operand(operand, labels, value) for operand in step.operands]
        if number:
            arguments.append(result)
        result = _FUNCTIONS[step.function](arguments) if step.function else arguments[0]
    return result if isinstance(result, str) else go_float(result)


def _operand(operand: _Operand, labels: Mapping[str, str], value: float) -> _Value:
    if isinstance(operand, _Label):
        return labels.get(operand.name, "")
    return value if isinstance(operand, _TheValue) else operand


def go_float(value: float) -> str:
    """A number as Go writes it by default."""
    if math.isnan(value) or math.isinf(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    if value == 0:
        return "-0" if math.copysign(1, value) < 0 else "0"
    scientific = f"{value:.{_significant(value) - 1}e}"
    if -4 <= int(scientific.partition("e")[2]) < 6:
        return repr(value).removesuffix(".0")
    return scientific


def _significant(value: float) -> int:
    """How many digits tell a number from its neighbours."""
    digits = repr(abs(value)).lower().partition("e")[0].replace(".", "").lstrip("0").rstrip("0")
    return max(len(digits), 1)


def _number(value: _Value) -> float:
    """As Prometheus' functions read their argument."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return math.nan
    return value


def _humanize(arguments: Sequence[_Value]) -> str:
    value = _number(arguments[0])
    if value == 0 or math.isnan(value) or math.isinf(value):
        return _four(value)
    prefix = ""
    if abs(value) >= 1:
        for step in ("k", "M", "G", "T", "P", "E", "Z", "Y"):
            if abs(value) < 1000:
                break
            prefix, value = step, value / 1000
        return f"{_four(value)}{prefix}"
    for step in ("m", "u", "n", "p", "f", "a", "z", "y"):
        if abs(value) >= 1:
            break
        prefix, value = step, value * 1000
    return f"{_four(value)}{prefix}"


def _humanize_1024(arguments: Sequence[_Value]) -> str:
    value = _number(arguments[0])
    if abs(value) <= 1 or math.isnan(value) or math.isinf(value):
        return _four(value)
    prefix = ""
    for step in ("ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"):
        if abs(value) < 1024:
            break
        prefix, value = step, value / 1024
    return f"{_four(value)}{prefix}"


def _humanize_percentage(arguments: Sequence[_Value]) -> str:
    return f"{_four(_number(arguments[0]) * 100)}%"


def _humanize_duration(arguments: Sequence[_Value]) -> str:
    value = _number(arguments[0])
    if math.isnan(value) or math.isinf(value) or value == 0:
        return _four(value) if value else "0s"
    if abs(value) >= 1:
        sign, whole = ("-" if value < 0 else ""), abs(int(value))
        days, hours, minutes, seconds = whole // 86400, whole // 3600 % 24, whole // 60 % 60, whole % 60
        if days:
            return f"{sign}{days}d {hours}h {minutes}m {seconds}s"
        if hours:
            return f"{sign}{hours}h {minutes}m {seconds}s"
        if minutes:
            return f"{sign}{minutes}m {seconds}s"
        return f"{_four(value)}s"
    prefix = ""
    for step in ("m", "u", "n", "p", "f", "a", "z", "y"):
        if abs(value) >= 1:
            break
        prefix, value = step, value * 1000
    return f"{_four(value)}{prefix}s"


def _humanize_timestamp(arguments: Sequence[_Value]) -> str:
    value = _number(arguments[0])
    if math.isnan(value) or math.isinf(value):
        return _four(value)
    try:
        time = datetime.fromtimestamp(value, UTC)
    except (OverflowError, ValueError, OSError):
        return go_float(value)
    fraction = f"{time.microsecond:06d}".rstrip("0")
    return f"{time:%Y-%m-%d %H:%M:%S}{'.' + fraction if fraction else ''} +0000 UTC"


def _four(value: float) -> str:
    """Go's ``%.4g``."""
    if math.isnan(value) or math.isinf(value):
        return go_float(value)
    return f"{value:.4g}"


def _printf(arguments: Sequence[_Value]) -> str:
    layout, argument = arguments
    if not isinstance(layout, str):
        raise TemplateError("printf: its first argument has to be a text")
    verbs = [match for match in _VERB.finditer(layout) if match["verb"] != "%"]
    if len(verbs) != 1:
        raise TemplateError(f"printf {layout!r}: exactly one verb is supported")

    def write(match: re.Match[str]) -> str:
        verb, precision = match["verb"], match["precision"]
        if verb == "%":
            return "%"
        layout_rest = f"{match['flags'].replace(' ', '')}{match['width']}"
        if verb in ("v", "s") and not match["flags"] and not match["width"] and precision is None:
            if verb == "v" or isinstance(argument, str):
                return argument if isinstance(argument, str) else go_float(argument)
        elif verb in ("f", "e", "g") and not isinstance(argument, str) and not (verb == "g" and precision is None):
            if math.isnan(argument) or math.isinf(argument):
                return go_float(argument)
            return f"%{layout_rest}.{precision if precision is not None else 6}{verb}" % argument
        kind = "text" if isinstance(argument, str) else "number"
        raise TemplateError(f"printf {layout!r}: {match[0]} is not supported for a {kind}")

    return _VERB.sub(write, layout)


def _text(value: _Value) -> str:
    return value if isinstance(value, str) else go_float(value)


_FUNCTIONS: Final[Mapping[str, Callable[[Sequence[_Value]], str]]] = {
    "humanize": _humanize,
    "humanize1024": _humanize_1024,
    "humanizeDuration": _humanize_duration,
    "humanizePercentage": _humanize_percentage,
    "humanizeTimestamp": _humanize_timestamp,
    "printf": _printf,
    "title": lambda arguments: re.sub(r"(?<!\S)\S", lambda first: first[0].upper(), _text(arguments[0])),
    "toLower": lambda arguments: _text(arguments[0]).lower(),
    "toUpper": lambda arguments: _text(arguments[0]).upper(),
}
_ARGUMENTS: Final = {"printf": 2}
"""How many a function takes, if not one."""
