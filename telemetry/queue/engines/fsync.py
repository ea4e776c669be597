"""When the disk engine waits for the disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class FsyncPolicy:
    """How often the log is synced: before every answer (0), at most this often (seconds), or never (``None``).

    Whatever the policy, what was confirmed survives the end of the process. Only with 0 does it survive a power cut.
    """

    every_s: float | None

    @classmethod
    def parse(cls, text: str) -> FsyncPolicy:
        """Read ``always``, ``interval:MS`` or ``never``.

        Raises:
            ValueError: if it is none of them.
        """
        kind, _, interval = text.partition(":")
        if kind == "always" and not interval:
            return ALWAYS
        if kind == "never" and not interval:
            return NEVER
        if kind == "interval" and interval.isdecimal() and 0 < int(interval) <= 60_000:
            return cls(int(interval) / 1000)
        raise ValueError(f"fsync must be always, interval:MS (1 to 60000 milliseconds) or never, not {text!r}")

    def __str__(self) -> str:
        if self.every_s is None:
            return "never"
        return f"interval:{self.every_s * 1000:.0f}" if self.every_s else "always"


ALWAYS: Final = FsyncPolicy(0.0)
NEVER: Final = FsyncPolicy(None)
