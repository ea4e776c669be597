"""Expressions as they are evaluated: trees in which equal parts have equal keys, so that rules can share them."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

LOOKBACK_US: Final = 300_000_000
"""How long a sample counts as the series' value, in microseconds."""


class Kind(enum.Enum):
    """What evaluating an expression gives."""

    SCALAR = "scalar"
    VECTOR = "instant vector"


@dataclass(frozen=True, slots=True)
class Matcher:
    """Chooses series by one label: ``=``, ``!=``, ``=~`` or ``!~``."""

    label: str
    comparison: str
    value: str


@dataclass(frozen=True, slots=True)
class Matching:
    """Which labels bring two sides together: only ``labels`` (``on``), or all but ``labels`` (``ignoring``)."""

    on: bool
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expression:
    """A part of an expression, or the whole.

    Attributes:
        key: what it is, as text; equal expressions have equal keys.
        kind: what it gives.
    """

    key: str
    kind: Kind

    @property
    def parts(self) -> tuple[Expression, ...]:
        """What it is made of."""
        return ()

    @property
    def selectors(self) -> Iterator[Selector]:
        """All selectors in it."""
        for part in self.parts:
            yield from part.selectors

    @property
    def range_us(self) -> int:
        """How far back it looks besides the lookback, in microseconds."""
        return max((part.range_us for part in self.parts), default=0)


@dataclass(frozen=True, slots=True)
class Number(Expression):
    """A number."""

    value: float


@dataclass(frozen=True, slots=True)
class Selector(Expression):
    """The series of one name that match; with a range only inside :class:`OverTime`.

    Attributes:
        name: the series' name.
        matchers: all have to match.
        offset_us: how long before the evaluation to look, in microseconds.
    """

    name: str
    matchers: tuple[Matcher, ...]
    offset_us: int

    @property
    def selectors(self) -> Iterator[Selector]:
        """Itself."""
        yield self

    @property
    def range_us(self) -> int:
        """Its offset."""
        return self.offset_us


@dataclass(frozen=True, slots=True)
class OverTime(Expression):
    """A function of the samples of each series within a range.

    Attributes:
        function: its name.
        selector: the series.
        window_us: how far the range goes back.
        argument: the scalar that some functions take.
    """

    function: str
    selector: Selector
    window_us: int
    argument: Expression | None

    @property
    def parts(self) -> tuple[Expression, ...]:
        """The selector and the argument."""
        return (self.selector,) if self.argument is None else (self.selector, self.argument)

    @property
    def range_us(self) -> int:
        """The range and its offset."""
        argument_us = self.argument.range_us if self.argument is not None else 0
        return max(self.window_us + self.selector.offset_us, argument_us)


@dataclass(frozen=True, slots=True)
class Call(Expression):
    """A function of values.

    Attributes:
        function: its name.
        arguments: expressions.
        texts: arguments that are texts.
    """

    function: str
    arguments: tuple[Expression, ...]
    texts: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[Expression, ...]:
        """The arguments."""
        return self.arguments


@dataclass(frozen=True, slots=True)
class Absent(Expression):
    """1 with the labels that its selector is sure of while nothing is selected.

    Attributes:
        argument: what has to give nothing.
        labels: the labels.
    """

    argument: Expression
    labels: Mapping[str, str]

    @property
    def parts(self) -> tuple[Expression, ...]:
        """The argument."""
        return (self.argument,)


@dataclass(frozen=True, slots=True)
class Binary(Expression):
    """Two sides and what is between them.

    Attributes:
        operator: as written.
        left: one side.
        right: the other.
        matching: how series of both sides find each other.
        many: the side that may have many for one of the other: ``left``, ``right``, or empty for neither.
        include: labels that the many take from the one.
        as_bool: whether a comparison gives 0 and 1 instead of choosing.
    """

    operator: str
    left: Expression
    right: Expression
    matching: Matching
    many: str
    include: tuple[str, ...]
    as_bool: bool

    @property
    def parts(self) -> tuple[Expression, ...]:
        """Both sides."""
        return (self.left, self.right)


@dataclass(frozen=True, slots=True)
class Aggregation(Expression):
    """Many series made one a group.

    Attributes:
        operator: as written.
        argument: the series.
        matching: which labels make the groups.
        parameter: the scalar that some take.
    """

    operator: str
    argument: Expression
    matching: Matching
    parameter: Expression | None

    @property
    def parts(self) -> tuple[Expression, ...]:
        """The series and the parameter."""
        return (self.argument,) if self.parameter is None else (self.argument, self.parameter)
