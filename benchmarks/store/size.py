"""How much is measured, and where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Size:
    """How much to do.

    Attributes:
        quick: a first look instead of figures to publish.
        rounds: how often what takes seconds is measured.
        minutes: how long the collector's memory is watched.
        folder: where everything keeps its files for the time being.
    """

    quick: bool
    rounds: int
    minutes: float
    folder: Path

    def of(self, quick: int, full: int) -> int:
        """One or the other."""
        return quick if self.quick else full
