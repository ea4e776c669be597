"""Series as a chart of characters."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import isnan
from typing import Final

import plotext

from telemetry.console.tables import instant_of_us, number, printable
from telemetry.model import CATALOGUE

MARKS: Final = "ABCDEFGH"
"""What series are drawn with where there are several, lest colour alone should tell them apart; more are not drawn."""
HEIGHT: Final = 18
"""Lines that a chart takes."""
WIDTH_MIN: Final = 60
WIDTH_MAX: Final = 160
TICKS_MAX: Final = 6


def chart(metric: str, times_us: Sequence[int], series: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """The lines of a chart of one metric: times in UTC, a gap where there are no samples.

    Args:
        metric: its name; the catalogue knows its unit.
        times_us: when each step begins, in microseconds since 1970.
        series: values by the name of the GPU or group, NaN where there is none.
    """
    drawn = {name: values for name, values in series.items() if not all(map(isnan, values))}
    if not drawn:
        yield f"{printable(metric)}: no samples"
        return
    known = CATALOGUE.get(metric)
    unit = f" ({known.unit})" if known and known.unit else ""
    figure = plotext.figure
    figure.clear()
    width = min(max(shutil.get_terminal_size((100, 24)).columns, WIDTH_MIN), WIDTH_MAX)
    figure.plot_size(width, HEIGHT)
    figure.title(printable(metric) + unit)
    marks = dict(zip(drawn, MARKS, strict=False))
    for name, mark in marks.items():
        values = drawn[name]
        places = [place for place, value in enumerate(values) if not isnan(value)]
        signal = figure.signal(places, [values[place] for place in places], marker=mark if len(drawn) > 1 else None)
        signal.lines()
        for at, (before, place) in enumerate(pairwise(places), 1):
            if place > before + 1:
                signal.line(at, False)
        figure.draw(signal)
    ticks = _ticks(len(times_us))
    days = {instant_of_us(times_us[place]).date() for place in ticks}
    form = "%H:%M:%S" if len(days) == 1 else "%m-%d %H:%M"
    ruler = figure.ruler("x")
    ruler.lim(0, max(len(times_us) - 1, 1))
    ruler.ticks(ticks, [f"{instant_of_us(times_us[place]):{form}}" for place in ticks])
    text: str = figure.build().string(colorless=not sys.stdout.isatty())
    yield from (line.rstrip() for line in text.splitlines())
    for name, mark in marks.items():
        yield f"{mark if len(drawn) > 1 else ' '} {printable(name)}"
    if len(drawn) > len(marks):
        yield f"{number(len(drawn) - len(marks))} more series are not drawn"


def _ticks(count: int) -> list[int]:
    wanted = min(count, TICKS_MAX)
    return sorted({round(at * (count - 1) / max(wanted - 1, 1)) for at in range(wanted)})
