"""The time, as the core is told it: it has no clock of its own."""

from __future__ import annotations

from typing import NamedTuple


class Instant(NamedTuple):
    """One moment on two clocks: waits are measured on the first, which never jumps; messages carry the second."""

    monotonic_s: float
    """Seconds since some start."""
    wall_us: int
    """Microseconds since 1970, UTC."""
