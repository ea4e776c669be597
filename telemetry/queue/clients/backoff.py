"""How long to wait before the next try."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

FIRST_S: Final = 0.1
"""The longest wait before the second try, in seconds."""
LONGEST_S: Final = 5.0
"""The longest wait of all, in seconds."""


class Backoff:
    """Waits that double up to a limit. Half of each is chance, so that clients do not come back all at once."""

    def __init__(
        self, first_s: float = FIRST_S, longest_s: float = LONGEST_S, chance: Callable[[], float] = random.random
    ) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._chance = chance
        self._next_s = first_s

    def next_s(self) -> float:
        """The next wait, in seconds."""
        wait_s = self._next_s
        self._next_s = min(2 * wait_s, self._longest_s)
        return wait_s * (0.5 + 0.5 * self._chance())

    def reset(self) -> None:
        """Start again from the shortest: a try has succeeded."""
        self._next_s = self._first_s
