"""What was measured, as numbers with their spread, and as tables and JSON."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

DIGITS: Final = 3


@dataclass(frozen=True, slots=True)
class Number:
    """A measurement made one or several times."""

    values: Sequence[float]

    @property
    def median(self) -> float:
        """The one in the middle."""
        return statistics.median(self.values)

    def __str__(self) -> str:
        median = _plain(self.median)
        if len(self.values) == 1:
            return median
        return f"{median} ({_plain(min(self.values))} … {_plain(max(self.values))})"


@dataclass(frozen=True, slots=True)
class Row:
    """What one subject did; ``note`` says what it promises meanwhile, or why it is missing."""

    subject: str
    numbers: Mapping[str, Number]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Goal:
    """What is asked for and what came out."""

    text: str
    reached: bool


@dataclass(slots=True)
class Figure:
    """One table."""

    name: str
    title: str
    rows: list[Row] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)

    def number(self, subject: str, column: str) -> float | None:
        """The median in a cell; ``None`` when the subject is missing."""
        for row in self.rows:
            if row.subject == subject and column in row.numbers:
                return row.numbers[column].median
        return None

    def at_least(self, text: str, value: float | None, least: float) -> None:
        """Add a goal that is reached at ``least`` or above; none when there is nothing to compare with."""
        if value is not None:
            self.goals.append(Goal(f"{text}: {_plain(value)}, at least {_plain(least)} asked for", value >= least))

    def at_most(self, text: str, value: float | None, most: float | None) -> None:
        """Add a goal that is reached at ``most`` or below."""
        if value is not None and most is not None:
            self.goals.append(Goal(f"{text}: {_plain(value)}, at most {_plain(most)} asked for", value <= most))

    def text(self) -> str:
        """The table, the notes and the goals."""
        columns = list(dict.fromkeys(column for row in self.rows for column in row.numbers))
        cells = [["", *columns]]
        cells += [[row.subject, *(str(row.numbers.get(column, "")) for column in columns)] for row in self.rows]
        widths = [max(len(line[at]) for line in cells) for at in range(len(columns) + 1)]
        lines = [f"{self.name}: {self.title}"]
        for line in cells:
            first, *rest = (cell.ljust(width) if at == 0 else cell.rjust(width)
                            for at, (cell, width) in enumerate(zip(line, widths, strict=True)))  # fmt: skip
            lines.append("  " + "   ".join((first, *rest)).rstrip())
        lines += [f"  {row.subject}: {row.note}" for row in self.rows if row.note]
        lines += [f"  {'reached    ' if goal.reached else 'NOT reached'} {goal.text}" for goal in self.goals]
        return "\n".join(lines)


def _plain(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{DIGITS}g}"
