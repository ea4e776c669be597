"""The quarantine: what could not be stored, as JSON lines in files of bounded size, of which the oldest go.

``quarantine.jsonl`` grows; when it is large it becomes ``quarantine.0.jsonl``, the next one ``quarantine.1.jsonl``, and
so on. The checkpoint vouches for the length of the one that grows and for how many were closed before it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from telemetry.storage import files

log = logging.getLogger(__name__)

NAME: Final = "quarantine.jsonl"
"""The file that grows."""

RETRIED: Final = "quarantine.retried.jsonl"
"""Which lines have been published again; see `telemetry/console/quarantine.py`."""

BYTES_MAX: Final = 1 << 30
"""Bytes that all files together may take, unless told otherwise."""

_PARTS: Final = 16
"""A file is closed when it has so manyth a part of all that is allowed."""

_CLOSED: Final = re.compile(r"quarantine\.(\d+)\.jsonl")


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of the quarantine counts.

    Attributes:
        length: bytes of the file that grows.
        closed: how many files were closed before it, whether they are still there or not.
    """

    length: int
    closed: int


class Quarantine:
    """Appends lines. :meth:`write` comes first, then a transaction vouches for the extent, then :meth:`apply`."""

    def __init__(self, directory: Path, extent: Extent, *, synced: bool, bytes_max: int = BYTES_MAX) -> None:
        """Open it and undo what no transaction vouches for.

        Args:
            directory: where the files are.
            extent: what the last transaction vouched for.
            synced: whether :meth:`write` waits for the disk.
            bytes_max: when the files take more, the oldest closed ones are removed.

        Raises:
            OSError: the files cannot be used.
        """
        self._directory, self._synced, self._bytes_max = directory, synced, bytes_max
        self._rotate_bytes = max(1, bytes_max // _PARTS)
        self._path = directory / NAME
        unvouched = self._closed_path(extent.closed)
        if unvouched.exists():
            # What lies under the growing name by now was never vouched for either.
            unvouched.replace(self._path)
        self._is_closed = False
        """Whether the file that grows has its closed name already, and no transaction to vouch for that."""
        size = files.cut(self._path, extent.length)
        if size < extent.length:
            log.error("lines are missing", extra={"file": str(self._path), "bytes": extent.length - size})
            if size and files.read_range(self._path, size - 1, size) != b"\n":
                # What is left of a line stays a line of its own.
                files.write_at(self._path, size, b"\n")
                size += 1
        self.extent = Extent(min(size, extent.length), extent.closed)
        self._closed = dict(closed_files(directory))
        for number in [number for number in self._closed if number > extent.closed]:
            # An older checkpoint was put back, say. What it does not know comes again.
            path = self._closed_path(number)
            size = self._closed.pop(number)
            path.unlink()
            log.warning("removed a file that no checkpoint vouches for", extra={"file": str(path), "bytes": size})
        self.dropped_bytes = 0
        """Bytes of files that were removed since this was opened."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return self.extent.length + sum(self._closed.values())

    def write(self, lines: bytes) -> Extent:
        """Append lines; returns what is to be vouched for. The same again after a failure does no harm.

        Raises:
            OSError: they are not all written.
        """
        if not lines:
            return self.extent
        length, closed = self.extent.length, self.extent.closed
        if length >= self._rotate_bytes:
            if not self._is_closed:
                files.cut(self._path, length)
                self._path.replace(self._closed_path(closed))
                self._is_closed = True
            length, closed = 0, closed + 1
        files.write_at(self._path, length, lines)
        if self._synced:
            files.sync_files(self._directory, [self._path], with_directory=length == 0)
        return Extent(length + len(lines), closed)

    def apply(self, extent: Extent) -> None:
        """Take as here what a transaction has vouched for, and make room.

        Nothing depends on the room, so what cannot be removed is left for the next time.
        """
        if extent.closed > self.extent.closed:
            self._closed[self.extent.closed] = self.extent.length
            self._is_closed = False
        self.extent = extent
        for number in sorted(self._closed):
            if self.size <= self._bytes_max:
                break
            path = self._closed_path(number)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                log.error("a file cannot be removed", extra={"file": str(path), "error": error.strerror})
                break
            size = self._closed.pop(number)
            self.dropped_bytes += size
            log.warning("the oldest of the quarantine was dropped", extra={"file": str(path), "bytes": size})

    def _closed_path(self, number: int) -> Path:
        return self._directory / closed_name(number)


def closed_name(number: int) -> str:
    """The name of a file that grows no longer."""
    return f"quarantine.{number}.jsonl"


def vouched_file(directory: Path, extent: Extent) -> Path:
    """The file that an extent is about: the one that grows, unless it was closed a moment ago."""
    closed = directory / closed_name(extent.closed)
    return closed if closed.exists() else directory / NAME


def open_vouched(directory: Path, extent: Extent) -> BinaryIO | None:
    """Open the file that an extent is about, while a collector may be about to close it; ``None`` if there is none.

    Raises:
        OSError: it cannot be read.
    """
    growing = _open(directory / NAME)
    # Whether that was still the right one is known only afterwards.
    closed = _open(directory / closed_name(extent.closed))
    if closed is None:
        return growing
    if growing is not None:
        growing.close()
    return closed


def _open(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def closed_files(directory: Path) -> Iterator[tuple[int, int]]:
    """The numbers and sizes of the files that grow no longer."""
    for name, size in files.file_sizes(directory, ".jsonl"):
        if match := _CLOSED.fullmatch(name):
            yield int(match[1]), size
