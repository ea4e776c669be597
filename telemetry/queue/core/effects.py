"""What the core asks of whoever drives it: gathered while a call runs, taken after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from telemetry.queue.core.batches import Entry
    from telemetry.queue.core.cursor import Cursor
    from telemetry.queue.core.delivery import Piece
    from telemetry.queue.core.partition import Partition
    from telemetry.queue.core.sessions import Session


class Trim(NamedTuple):
    """Batches of a partition that are no longer needed, and may be taken out of the log."""

    partition: Partition
    entries: list[Entry]


class Effects:
    """What is to be done. Each part is emptied by whoever does it."""

    def __init__(self) -> None:
        self.woken: set[Session] = set()
        """Sessions that have something to send, or were closed."""
        self.burials: list[Piece] = []
        """Pieces to copy to their dead-letter topic."""
        self.moved: set[Cursor] = set()
        """Cursors to store."""
        self.trims: list[Trim] = []
        """Batches to take out of the log."""
