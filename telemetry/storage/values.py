"""The metrics of a GPU as numbers in a row, each of 8 bytes: as objects a value takes ten times that, a fleet millions.

The place of each metric in a row is kept aside, once for all GPUs that have the same.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

Places = Mapping[str, int]
"""Metric to its place, counted from 0 without a gap."""

_NEVER: Final = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True, eq=False)
class Ranges(Mapping[str, tuple[float, float, float]]):
    """Metric to the last of some values, the smallest and the largest.

    Attributes:
        places: where each metric is.
        figures: three rows: last, smallest, largest; NaN nowhere.
    """

    places: Places
    figures: NDArray[np.float64]

    @classmethod
    def of(cls, values: Mapping[str, tuple[float, float, float]]) -> Self:
        """The same from another mapping."""
        rows = np.array(list(values.values()), dtype=np.float64).reshape(len(values), 3)
        return cls({name: place for place, name in enumerate(values)}, rows.T)

    def __getitem__(self, name: str) -> tuple[float, float, float]:
        last, low, high = self.figures[:, self.places[name]].tolist()
        return last, low, high

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def then(self, later: Ranges) -> Ranges:
        """These values and later ones taken together."""
        places = extended(self.places, later.places)
        figures = np.full((3, len(places)), np.nan)
        figures[:, : len(self.places)] = self.figures
        at = where(later.places, places)
        _, low, high = figures[:, at]
        figures[:, at] = later.figures[0], np.fmin(low, later.figures[1]), np.fmax(high, later.figures[2])
        return Ranges(places, figures)


@dataclass(frozen=True, slots=True, eq=False)
class Latest(Mapping[str, tuple[int, float]]):
    """Metric to the instant and value of its newest sample.

    Attributes:
        places: where each metric is.
        instants: microseconds since 1970.
        numbers: the values.
    """

    places: Places = field(default_factory=dict)
    instants: array[int] = field(default_factory=lambda: array("q"))
    numbers: array[float] = field(default_factory=lambda: array("d"))

    def __getitem__(self, name: str) -> tuple[int, float]:
        place = self.places[name]
        return self.instants[place], self.numbers[place]

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def as_dict(self) -> dict[str, tuple[int, float]]:
        """The same as objects."""
        return dict(zip(self.places, zip(self.instants, self.numbers, strict=True), strict=True))

    def with_newer(self, places: Places, instants: NDArray[np.int64], numbers: NDArray[np.float64]) -> Latest:
        """What is newest when these samples come; of two with the same instant, the one that comes later."""
        merged = extended(self.places, places)
        at = where(places, merged)
        ours, newest = np.full(len(merged), _NEVER), np.empty(len(merged))
        ours[: len(self)], newest[: len(self)] = self.instants, self.numbers
        known, before = ours[at], newest[at]
        is_newer = instants >= known
        ours[at], newest[at] = np.where(is_newer, instants, known), np.where(is_newer, numbers, before)
        return Latest(merged, array("q", ours.tobytes()), array("d", newest.tobytes()))


def extended(places: Places, more: Places) -> Places:
    """``places`` itself if it has all of ``more``, else with what it lacks at the end; ``more`` if it has none."""
    if not places:
        return more
    lacking = () if places == more else [name for name in more if name not in places]
    return {**places, **{name: len(places) + n for n, name in enumerate(lacking)}} if lacking else places


def where(places: Places, among: Places) -> slice | NDArray[np.intp]:
    """Where the metrics of a row are in a row that has all of them."""
    if places is among or places == among:
        return slice(None)
    return np.fromiter((among[name] for name in places), np.intp, len(places))
