"""What the cold tier's files are: levels, windows of time, and a description of each file that can travel as JSON."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

from telemetry.model import GPU, TIMESTAMP

FORMAT: Final = 1
"""Version of what is inside the files; each names it in its metadata."""

MINUTE_US: Final = 60_000_000
HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US

ROLLUP_FUNCTIONS: Final = ("min", "max", "sum", "count", "last")
"""What a roll-up keeps of each metric, in the order of its columns."""


class ColdFileError(Exception):
    """A cold file is missing, damaged, or not what its description says.

    Attributes:
        path: the file, relative to the cold directory.
        reason: what is wrong with it.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class Level(enum.Enum):
    """What a file holds, by the folder it lies in: records of an hour or a day, or a roll-up of either."""

    HOUR = "hour"
    DAY = "day"
    MINUTE_ROLLUP = "1m"
    HOUR_ROLLUP = "1h"

    @property
    def is_rollup(self) -> bool:
        """Whether the file holds a row a step of time instead of records."""
        return self in (Level.MINUTE_ROLLUP, Level.HOUR_ROLLUP)

    @property
    def width_us(self) -> int:
        """How much time a roll-up's row stands for; 0 for records."""
        return {Level.MINUTE_ROLLUP: MINUTE_US, Level.HOUR_ROLLUP: HOUR_US}.get(self, 0)


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """An hour or a day in UTC, as microseconds since 1970: ``start_us`` ≤ time < ``end_us``."""

    start_us: int
    end_us: int

    @classmethod
    def hour_of(cls, time_us: int) -> Self:
        """The hour in which ``time_us`` lies."""
        start = time_us - time_us % HOUR_US
        return cls(start, start + HOUR_US)

    @classmethod
    def day_of(cls, time_us: int) -> Self:
        """The day in which ``time_us`` lies."""
        start = time_us - time_us % DAY_US
        return cls(start, start + DAY_US)

    @property
    def level(self) -> Level:
        """Where records of this window lie."""
        return Level.HOUR if self.end_us - self.start_us == HOUR_US else Level.DAY

    @property
    def name(self) -> str:
        """How files name it: ``2026-11-25`` or ``2026-11-25T07``."""
        start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self.start_us)
        return start.strftime("%Y-%m-%dT%H" if self.level is Level.HOUR else "%Y-%m-%d")

    def meets(self, start_us: int | None, end_us: int | None) -> bool:
        """Whether any time of ``start_us`` ≤ time < ``end_us`` lies in it; ``None`` leaves an end open."""
        return (end_us is None or self.start_us < end_us) and (start_us is None or self.end_us > start_us)


@dataclass(frozen=True, slots=True)
class ColdFile:
    """One Parquet file: sorted by GPU and time, one row an instant (or a step), a column a metric (or five).

    Attributes:
        id: its number, given once.
        level: what it holds.
        window: the only hour or day that it holds anything of.
        path: where it is, relative to the cold directory.
        rows: how many rows.
        samples: how many values the records hold; in a roll-up, how many it was made of.
        size: bytes.
        crc32c: of all of them.
        footer_crc32c: of the Parquet footer alone, which every read checks; in it are the checksums of the rest.
        first_us: the oldest row.
        last_us: the newest row.
        gpu_min: the first GPU in it, in the order of their UTF-8 bytes.
        gpu_max: the last GPU in it.
        metrics: the metrics it has, in the order of its columns.
        generation: of files that overlap, what a higher generation says wins. Files of one window and generation have
            different GPUs.
        derived_from: the file that a roll-up was made of; ``None`` for records.
    """

    id: int
    level: Level
    window: Window
    path: str
    rows: int
    samples: int
    size: int
    crc32c: int
    footer_crc32c: int
    first_us: int
    last_us: int
    gpu_min: str
    gpu_max: str
    metrics: tuple[str, ...]
    generation: int
    derived_from: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "level": self.level.value, "window": [self.window.start_us, self.window.end_us]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """From what :meth:`to_json` gave."""
        plain = {"level": Level(value["level"]), "window": Window(*value["window"]), "metrics": tuple(value["metrics"])}
        return cls(**{**value, **plain})


@dataclass(frozen=True, slots=True)
class HotSegment:
    """A closed file of one GPU's lines.

    Attributes:
        gpu: the GPU that all its lines are of.
        path: the file.
        length: how many bytes of it count; they are whole lines.
    """

    gpu: str
    path: Path
    length: int


def file_path(level: Level, window: Window, number: int) -> str:
    """Where file ``number`` of a level and window lies, relative to the cold directory."""
    return f"{level.value}/{window.name}.{number:08d}.parquet"


def column_names(metrics: Sequence[str]) -> list[str]:
    """The columns that hold ``metrics`` in a file: their names, unless a reader could take two of them for one.

    DuckDB does not tell ``Power`` from ``power``, so the second of such names gets ``~`` and its place.
    """
    taken = {GPU, TIMESTAMP}
    names = []
    for place, metric in enumerate(metrics):
        name = metric if metric.casefold() not in taken else f"{metric}~{place}"
        while name.casefold() in taken:
            name += "~"
        taken.add(name.casefold())
        names.append(name)
    return names
