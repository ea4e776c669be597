"""Which cold files answer a query over time: the coarsest roll-ups that are right, records elsewhere. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from telemetry.storage.cold.files import ColdFile

Range = tuple[int, int]
"""A half-open range of time, in microseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Part:
    """Files to read together in a range: records, merged if there are several, or one roll-up.

    Attributes:
        files: the files.
        start_us: from here on.
        end_us: before this.
        last_us: of a roll-up, the newest record that it was made of, if that is known.
    """

    files: tuple[ColdFile, ...]
    start_us: int
    end_us: int
    last_us: int | None = None

    @property
    def is_rollup(self) -> bool:
        """Whether it is a roll-up."""
        return self.files[0].level.is_rollup


@dataclass(frozen=True, slots=True)
class Region:
    """Files of records whose windows overlap.

    Attributes:
        files: all of them; a GPU that has other records within their times must be read from these.
        ranges: the times in which they have records, as far as those are asked for.
        parts: what to read for all other GPUs.
    """

    files: tuple[ColdFile, ...]
    ranges: tuple[Range, ...]
    parts: tuple[Part, ...]

    def may_have(self, gpu: str) -> bool:
        """Whether any of the files may hold records of a GPU."""
        return any(file.gpu_min <= gpu <= file.gpu_max for file in self.files)


@dataclass(frozen=True, slots=True)
class ColdChoice:
    """What to read of the cold tier.

    Attributes:
        regions: where there are records.
        remains: roll-ups whose records are gone; nothing else counts in the ranges that they cover.
        covered: those ranges.
        coarsest_us: the width of the coarsest among ``remains``; 0 if there are none.
    """

    regions: Sequence[Region]
    remains: Sequence[Part]
    covered: Sequence[Range]
    coarsest_us: int


def choose(files: Iterable[ColdFile], start_us: int, end_us: int, step_us: int, *, rollups: bool) -> ColdChoice:
    """Choose what answers ``start_us`` ≤ time < ``end_us`` in steps of ``step_us``.

    Args:
        files: all there are.
        start_us: from here on.
        end_us: before this.
        step_us: the width of a step; steps begin at multiples of it.
        rollups: whether roll-ups can answer at all. Those whose records are gone are chosen in any case.
    """
    records: dict[int, ColdFile] = {}
    rolled: dict[int, list[ColdFile]] = {}
    for file in files:
        if file.derived_from is None:
            if file.first_us < end_us and file.last_us >= start_us:
                records[file.id] = file
        else:
            rolled.setdefault(file.derived_from, []).append(file)
    known = {file.id for file in files if file.derived_from is None}
    remains = [
        _best(group, step_us) or min(group, key=lambda file: file.level.width_us)
        for source, group in rolled.items()
        if source not in known
    ]
    remains = [file for file in remains if file.first_us < end_us and file.last_us + file.level.width_us > start_us]
    covered = _united((file.first_us, file.last_us + file.level.width_us) for file in remains)
    regions = []
    for overlapping in _by_overlapping_windows(records.values()):
        first, last = min(file.first_us for file in overlapping), max(file.last_us for file in overlapping)
        whole = (max(first, start_us), min(last + 1, end_us))
        ranges = tuple(_without(whole, covered))
        if ranges == (whole,):
            parts = tuple(_parts(overlapping, rolled if rollups else {}, start_us, end_us, step_us))
        else:
            parts = tuple(Part(tuple(overlapping), *each) for each in ranges)
        if ranges:
            regions.append(Region(tuple(overlapping), ranges, parts))
    widest = max((file.level.width_us for file in remains), default=0)
    return ColdChoice(regions, [Part((file,), start_us, end_us) for file in remains], covered, widest)


def overlaps(one: ColdFile, other: ColdFile) -> bool:
    """Whether two files of records, or what two roll-ups were made of, may have the same GPU and instant."""
    return (
        one.first_us < other.last_us + max(1, other.level.width_us)
        and other.first_us < one.last_us + max(1, one.level.width_us)
        and one.gpu_min <= other.gpu_max
        and other.gpu_min <= one.gpu_max
        # Files of one window and generation have different GPUs.
        and (one.window, one.generation) != (other.window, other.generation)
    )


def _parts(
    files: Sequence[ColdFile], rolled: dict[int, list[ColdFile]], start_us: int, end_us: int, step_us: int
) -> Iterable[Part]:
    contested = [file for file in files if any(overlaps(file, other) for other in files if other is not file)]
    if contested:
        yield Part(tuple(contested), start_us, end_us)
    for file in files:
        if file in contested:
            continue
        rollup = _best(rolled.get(file.id, ()), step_us)
        width = rollup.level.width_us if rollup else 0
        if rollup is None:
            yield Part((file,), start_us, end_us)
            continue
        # Where the range begins or ends within a row of the roll-up, only the records know what lies in it.
        inner_start = _ceiling(start_us, width) if start_us > file.first_us else file.first_us - file.first_us % width
        inner_end = end_us - end_us % width if end_us <= file.last_us else _ceiling(file.last_us + 1, width)
        if inner_start >= inner_end:
            yield Part((file,), start_us, end_us)
            continue
        yield Part((rollup,), inner_start, inner_end, file.last_us)
        if max(file.first_us, start_us) < inner_start:
            yield Part((file,), start_us, inner_start)
        if inner_end < min(file.last_us + 1, end_us):
            yield Part((file,), inner_end, end_us)


def _best(rollups: Sequence[ColdFile], step_us: int) -> ColdFile | None:
    """The coarsest of which a whole number fits into a step."""
    fitting = [file for file in rollups if step_us % file.level.width_us == 0]
    return max(fitting, key=lambda file: file.level.width_us, default=None)


def _by_overlapping_windows(files: Iterable[ColdFile]) -> list[list[ColdFile]]:
    groups: list[list[ColdFile]] = []
    end_us = 0
    for file in sorted(files, key=lambda file: (file.window.start_us, -file.window.end_us)):
        if groups and file.window.start_us < end_us:
            groups[-1].append(file)
        else:
            groups.append([file])
        end_us = max(end_us, file.window.end_us)
    return groups


def _united(ranges: Iterable[Range]) -> list[Range]:
    united: list[Range] = []
    for start, end in sorted(ranges):
        if united and start <= united[-1][1]:
            united[-1] = (united[-1][0], max(end, united[-1][1]))
        else:
            united.append((start, end))
    return united


def _without(whole: Range, holes: Sequence[Range]) -> Iterable[Range]:
    """What is left of a range without others, which are in order and apart."""
    start, end = whole
    edges = [start, *(edge for low, high in holes if low < end and high > start for edge in (low, high)), end]
    return [(low, high) for low, high in list(pairwise(edges))[::2] if low < high]


def _ceiling(time_us: int, width_us: int) -> int:
    return -(-time_us // width_us) * width_us
