"""How an answer was found: which tiers, how many files and rows, and what had to be left out. For people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Plan:
    """Filled while an answer is put together; one thread at a time.

    Attributes:
        warnings: what is missing from the answer and why.
    """

    warnings: list[str] = field(default_factory=list)
    _files: dict[str, set[str]] = field(default_factory=dict)
    _rows: dict[str, int] = field(default_factory=dict)

    def read(self, tier: str, names: Iterable[str], rows: int) -> None:
        """Take note of what was read in a tier: files or, in the hot tier, GPUs, and how many rows."""
        self._files.setdefault(tier, set()).update(names)
        self._rows[tier] = self._rows.get(tier, 0) + rows

    def warn(self, text: str) -> None:
        """Say that something is missing, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def add(self, other: Plan) -> None:
        """Take over all that another plan says."""
        for tier, names in other._files.items():
            self._files.setdefault(tier, set()).update(names)
            self._rows[tier] = self._rows.get(tier, 0) + other._rows[tier]
        for warning in other.warnings:
            self.warn(warning)

    def lines(self) -> list[str]:
        """All of it."""
        tiers = [
            f"{tier}: {len(self._files[tier]):,} {'GPUs' if tier == 'hot' else 'files'}, {self._rows[tier]:,} rows"
            for tier in sorted(self._files)
            if self._files[tier]
        ]
        return tiers or ["nothing is stored in this range"]
