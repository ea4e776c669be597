"""The files that a GPU's lines lie in: one that grows, and closed ones. Files may be closed while others read them."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from telemetry.storage import files

SUFFIX: Final = ".jsonl"

_CLOSED: Final = re.compile(r"(?P<stem>.*)\+(?P<number>\d{6,})\.jsonl", re.DOTALL)


def closed_name(growing: str, number: int) -> str:
    """What a growing file is called once it is closed.

    No GPU's own file has a ``+`` in its name (:func:`~telemetry.storage.names.file_stem`), so names never meet.
    """
    return f"{growing.removesuffix(SUFFIX)}+{number:06d}{SUFFIX}"


def growing_name(name: str) -> tuple[str, int] | None:
    """The growing file's name and the number that a closed file's name is made of; ``None`` for others."""
    match = _CLOSED.fullmatch(name)
    return (match["stem"] + SUFFIX, int(match["number"])) if match else None


class SegmentFiles:
    """The files in one directory. A segment is found by its GPU's number, its growing file's name and its number."""

    def __init__(self, directory: Path) -> None:
        """Nothing is closed yet; see :meth:`know_closed`."""
        self.directory: Final = directory
        self._closed: dict[int, int] = {}
        self._lock = threading.Lock()

    def know_closed(self, closed: Mapping[int, int]) -> None:
        """Take note of how many files of each GPU are closed."""
        self._closed.update(closed)

    def close(self, gpu: int, growing: str, number: int) -> None:
        """Give the growing file the name of closed file ``number``. Done once, however often it is asked for.

        Raises:
            OSError: it cannot be renamed.
        """
        with self._lock:
            if self._closed.get(gpu, 0) <= number:
                (self.directory / growing).rename(self.directory / closed_name(growing, number))
                self._closed[gpu] = number + 1

    def path(self, gpu: int, growing: str, number: int) -> Path:
        """Where segment ``number`` is now."""
        is_closed = self._closed.get(gpu, 0) > number
        return self.directory / (closed_name(growing, number) if is_closed else growing)

    def read(self, gpu: int, growing: str, number: int, start: int, end: int) -> bytes:
        """Read bytes of a segment.

        Raises:
            OSError: they cannot be read.
        """
        with self._lock:
            descriptor = os.open(self.path(gpu, growing, number), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return files.read_open(descriptor, start, end)
        finally:
            os.close(descriptor)
