"""How far a long command has come: a line on the terminal that is written over; nothing elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final

REDRAW_S: Final = 0.1
"""How often the line is drawn at most."""


class ProgressLine:
    """One line on standard error. Use as ``with``; leaving wipes it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._live = sys.stderr.isatty()
        self._clock = clock
        self._drawn_at = float("-inf")

    def update(self, text: Callable[[], str]) -> None:
        """Draw the line, unless that was done a moment ago."""
        if self._live and self._clock() - self._drawn_at >= REDRAW_S:
            self._drawn_at = self._clock()
            sys.stderr.write(f"\r\x1b[2K{text()}")
            sys.stderr.flush()

    def wipe(self) -> None:
        """Make room for something else."""
        if self._live:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *error: object) -> None:
        self.wipe()
