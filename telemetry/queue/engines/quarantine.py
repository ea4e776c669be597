"""Damaged records, put aside for whoever wants to look; never served."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

FILES_MAX: Final = 1000
"""How many damaged records are kept. More are only counted while the process runs."""

_log = logging.getLogger(__name__)


class Quarantine:
    """A directory with one file for each damaged record, named by its position in the log."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._positions = {path.stem for path in directory.glob("*.damaged")}

    @property
    def count(self) -> int:
        """How many records were damaged since the directory was made."""
        return len(self._positions)

    def put(self, position: int, data: bytes) -> None:
        """Put a record aside, unless that was done before."""
        name = f"{position:020d}"
        if name in self._positions:
            return
        self._positions.add(name)
        _log.error("damaged record put aside", extra={"position": position, "bytes": len(data)})
        if len(self._positions) <= FILES_MAX:
            try:
                (self._directory / f"{name}.damaged").write_bytes(data)
            except OSError as error:
                _log.error("damaged record could not be copied", extra={"position": position, "error": str(error)})
