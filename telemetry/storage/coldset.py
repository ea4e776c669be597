"""The cold files that count right now, and those that turned out to be damaged."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from telemetry.storage.checkpoint import Checkpoint
from telemetry.storage.cold.alone import alone
from telemetry.storage.cold.files import ColdFile, ColdFileError, Level
from telemetry.storage.cold.reader import ColdReader

log = logging.getLogger(__name__)

JOB_END_S: Final = 2.0
"""How long to wait for the compaction job of a collector that died: it ends as soon as it gets to run."""


class ColdSet:
    """What is in ``<directory>``. :attr:`files` is replaced as a whole, so whoever has it keeps a consistent view."""

    def __init__(self, directory: Path, checkpoint: Checkpoint) -> None:
        """Open it and remove files that no transaction vouches for.

        Raises:
            OSError: the directory cannot be used.
        """
        self.directory = directory
        self._checkpoint = checkpoint
        self.reader = ColdReader(directory)
        known = checkpoint.cold_files()
        self.files: tuple[ColdFile, ...] = tuple(file for file, _ in known)
        self.adopted_us: Mapping[int, int] = {file.id: adopted_us for file, adopted_us in known}
        self.damaged: dict[str, str] = {}
        """Path of each file that could not be read, and why."""
        self._next_number = checkpoint.next_cold_number()
        try:
            self.remove_strays(JOB_END_S)
        except BlockingIOError as error:
            log.warning("what no checkpoint vouches for stays until the next start", extra={"error": error.strerror})
        for file in sorted(self.files, key=lambda file: file.path):
            if not (directory / file.path).exists():
                self.report(ColdFileError(file.path, "the file is missing"))

    def next_number(self) -> int:
        """A number above all that were ever given to a cold file."""
        return self._next_number

    def exchange(self, new: Sequence[ColdFile], gone: Collection[int], now_us: int) -> None:
        """Take files in and others out of what is here; nothing happens on disk."""
        kept = [file for file in self.files if file.id not in gone]
        self.files = (*kept, *new)
        adopted_us = {number: at for number, at in self.adopted_us.items() if number not in gone}
        self.adopted_us = {**adopted_us, **{file.id: now_us for file in new}}
        paths = {file.path for file in self.files}
        self.damaged = {path: reason for path, reason in self.damaged.items() if path in paths}
        self.reserve(1 + max((file.id for file in new), default=0))

    def reserve(self, number: int) -> None:
        """Give no number below ``number`` any more."""
        self._next_number = max(self._next_number, number)

    def delete(self, files: Iterable[ColdFile]) -> None:
        """Remove files that nobody reads any more.

        Raises:
            OSError: one cannot be removed.
        """
        for file in files:
            (self.directory / file.path).unlink(missing_ok=True)

    def report(self, error: ColdFileError) -> None:
        """Take note of a damaged file."""
        if error.path not in self.damaged:
            log.error("a cold file is damaged", extra={"file": str(self.directory / error.path), "error": error.reason})
            self.damaged[error.path] = error.reason

    def remove_strays(self, wait_s: float = 0.0) -> None:
        """Remove the files that no transaction vouches for, such as those of a job that was ended.

        Args:
            wait_s: how long a job that is still at work, and could leave more behind, may take to end.

        Raises:
            BlockingIOError: a job is at work for longer.
            OSError: the directory cannot be used.
        """
        if not self.directory.is_dir():
            return
        with alone(self.directory, wait_s):
            known = {file.path for file, _ in self._checkpoint.cold_files()}
            for level in Level:
                folder = self.directory / level.value
                for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                    if f"{level.value}/{path.name}" not in known and path.is_file() and not path.is_symlink():
                        log.warning("removed a file that no checkpoint vouches for", extra={"file": str(path)})
                        path.unlink()
