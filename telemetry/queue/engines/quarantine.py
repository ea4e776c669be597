"""Damaged records, put aside for whoever wants to look; never served."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from telemetry.queue.engines.files import FULL_ERRNOS, Files, write_file

FILES_MAX: Final = 1000
"""How many damaged records are kept. More are only counted while the process runs."""

_log = logging.getLogger(__name__)


class Quarantine:
    """A directory with one file for each damaged record, named by its position in the log."""

    def __init__(self, files: Files, directory: Path) -> None:
        files.make_directory(directory)
        self._files = files
        self._directory = directory
        self._positions = {path.stem for path in files.list(directory, ".damaged")}

    @property
    def count(self) -> int:
        """How many records were damaged since the directory was made."""
        return len(self._positions)

    def within(self, first: int, end: int) -> list[int]:
        """Where the records begin that lie in ``[first, end)`` and were put aside."""
        return [int(name) for name in tuple(self._positions) if _name(first) <= name < _name(end)]

    def put(self, position: int, data: bytes) -> None:
        """Put a record aside, unless that was done before. If there is no room for a copy, it is counted all the same.

        Raises:
            OSError: if the disk fails.
        """
        name = _name(position)
        if name not in self._positions:
            self._report(name, data)
            if len(self._positions) <= FILES_MAX:
                try:
                    self._copy(name, data)
                except OSError as error:
                    if error.errno not in FULL_ERRNOS:
                        raise
                    _log.error("no room to copy a damaged record", extra={"position": position, "error": str(error)})

    def keep(self, position: int, data: bytes) -> None:
        """Put a record aside so that every later start knows that there was one, whatever becomes of the log.

        Raises:
            OSError: if that cannot be.
        """
        name = _name(position)
        if name not in self._positions:
            self._report(name, data)
        # A file that is there may be one that a crash has not made durable.
        self._copy(name, data if len(self._positions) <= FILES_MAX else b"")

    def _report(self, name: str, data: bytes) -> None:
        self._positions.add(name)
        _log.error("damaged record put aside", extra={"position": int(name), "bytes": len(data)})

    def _copy(self, name: str, data: bytes) -> None:
        write_file(self._files, self._directory / f"{name}.damaged", data)
        self._files.sync_directory(self._directory)


def _name(position: int) -> str:
    return f"{position:020d}"
