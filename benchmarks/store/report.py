"""What was asked of the store and what came out, as text, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from benchmarks.queue.report import Figure, Number

Better = Literal["more", "less"]


@dataclass(frozen=True, slots=True)
class Asked:
    """One figure that was asked for.

    Attributes:
        what: the figure.
        unit: what it is counted in.
        value: what was measured.
        floor: what it must be.
        aim: what it should be.
        better: whether more or less of it is better.
        beside: what a floor or a peer did in the same run, and the ratio to it.
    """

    what: str
    unit: str
    value: float
    floor: float
    aim: float
    better: Better
    beside: str = ""

    @property
    def verdict(self) -> str:
        """``aim``, ``floor`` or ``missed``: the best that was reached."""
        sign = 1 if self.better == "more" else -1
        if sign * self.value >= sign * self.aim:
            return "aim"
        return "floor" if sign * self.value >= sign * self.floor else "missed"

    def cells(self) -> list[str]:
        """As a row of the summary."""
        numbers = (f"{plain(value)} {self.unit}" for value in (self.value, self.floor, self.aim))
        return [self.what, *numbers, self.verdict, self.beside]


@dataclass(slots=True)
class Part:
    """What one part of the benchmark found: a table, and the figures in it that were asked for."""

    figure: Figure
    asked: list[Asked] = field(default_factory=list)


HEAD = ["figure", "measured", "floor", "aim", "reached", "beside"]


def plain(value: float) -> str:
    """A number with three digits, or all of its whole ones."""
    return str(Number([value]))


def ratio(value: float, other: float) -> str:
    """``value`` as a multiple of ``other``."""
    return f"{value / other:.2g} ×" if other else "∞ ×"


def text(part: Part) -> str:
    """A part for a terminal."""
    lines = [part.figure.text()]
    lines += [
        f"  {asked.what}: {plain(asked.value)} {asked.unit}; floor {plain(asked.floor)}, aim {plain(asked.aim)}: "
        f"{ {'aim': 'AIM reached', 'floor': 'floor reached', 'missed': 'NOT reached'}[asked.verdict] }"
        f"{'; ' + asked.beside if asked.beside else ''}"
        for asked in part.asked
    ]
    return "\n".join(lines)


def markdown(about: Mapping[str, str], parts: Sequence[Part]) -> str:
    """All parts as a section of a page: the summary, then the tables."""
    lines = ["; ".join(f"{key}: {value}" for key, value in about.items()) + ".", ""]
    rows = [asked.cells() for part in parts for asked in part.asked]
    if rows:
        lines += _table(HEAD, rows)
    for part in parts:
        figure = part.figure
        columns = list(dict.fromkeys(column for row in figure.rows for column in row.numbers))
        cells = [[row.subject, *(str(row.numbers.get(column, "")) for column in columns)] for row in figure.rows]
        lines += ["", f"**{figure.name}**: {figure.title}", "", *_table(["", *columns], cells)]
        notes = [f"- {row.subject}: {row.note}" for row in figure.rows if row.note]
        lines += ["", *notes] if notes else []
    return "\n".join(lines)


def as_dict(part: Part) -> dict[str, object]:
    """A part for JSON."""
    asked = [{**asdict(each), "reached": each.verdict} for each in part.asked]
    return {**asdict(part.figure), "asked": asked}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{' --- |' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
