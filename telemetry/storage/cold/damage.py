"""Lines of segments that are no records: what is reported of them, and the file that keeps their bytes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from telemetry.storage.cold.segments import DamagedLine

DAMAGED: Final = "damaged"
"""The folder, below the cold directory, that keeps lines that could not be read."""

REPORTED_MAX: Final = 100
"""So many lines of a job are named one by one; all are counted and kept."""


@dataclass(frozen=True, slots=True)
class Damage:
    """A line that could not be read.

    Attributes:
        gpu: whose segment it was in.
        path: the segment.
        offset: of the line's first byte.
        reason: what is wrong with it.
        kept: the file, relative to the cold directory, that its bytes were copied to.
    """

    gpu: str
    path: str
    offset: int
    reason: str
    kept: str

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


class DamageLog:
    """Keeps damaged lines of a job, one file for each segment; the same job writes the same files again."""

    def __init__(self, directory: Path, number: int) -> None:
        """``number`` is in the files' names; no two jobs that counted have the same."""
        self._directory = directory
        self._number = number
        self._file: tuple[str, BinaryIO] | None = None
        self.first: list[Damage] = []
        self.lines = 0

    def add(self, lines: Sequence[DamagedLine]) -> None:
        """Keep lines; those of one segment come one after the other."""
        for line in lines:
            kept = f"{DAMAGED}/{line.segment.path.name}.{self._number:08d}.lines"
            self._open(kept).write(line.data + b"\n")
            self.lines += 1
            if len(self.first) < REPORTED_MAX:
                segment = line.segment
                self.first.append(Damage(segment.gpu, str(segment.path), line.offset, line.reason, kept))

    def close(self) -> None:
        """Wait until all of it is on disk."""
        if self._file is None:
            return
        self._finish()
        descriptor = os.open(self._directory / DAMAGED, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _open(self, kept: str) -> BinaryIO:
        if self._file is None or self._file[0] != kept:
            self._finish()
            path = self._directory / kept
            path.parent.mkdir(exist_ok=True)
            self._file = kept, path.open("wb")
        return self._file[1]

    def _finish(self) -> None:
        if self._file is not None:
            self._file[1].flush()
            os.fsync(self._file[1].fileno())
            self._file[1].close()
