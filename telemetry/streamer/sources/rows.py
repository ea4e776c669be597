"""What every source gives: rows in blocks, and what could not be read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from telemetry.streamer.sources.lines import BadRow


@dataclass(frozen=True, slots=True)
class Rows:
    """What a block of a file holds.

    Attributes:
        rows: the rows that can be read; :meth:`Source.records` makes records of any run of them.
        bad: those that cannot.
        position: how far into the file this is, in bytes as they lie on disk.
    """

    rows: pl.DataFrame
    bad: list[BadRow]
    position: int


class Source(Protocol):
    """One pass over one file."""

    @property
    def name(self) -> str:
        """The file's name, for people."""
        ...

    @property
    def header(self) -> str:
        """The line without which its rows mean nothing; empty where there is none."""
        ...

    @property
    def size(self) -> int:
        """The file's size in bytes, as it lies on disk."""
        ...

    @property
    def has_time(self) -> bool:
        """Whether the file says when."""
        ...

    def __iter__(self) -> Iterator[Rows]:
        """Read the file, once, and every time in the same blocks."""
        ...

    def records(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Merge consecutive rows into records: a frame, and the columns ``FIRST_LINE`` and ``LAST_LINE``."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...
