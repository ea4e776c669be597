"""What the core asks of whoever drives it: gathered while a call runs, taken after it.

Sets are kept as keys of dictionaries, here and in the rest of the core, so that the same calls in the same order do
the same thing in the same order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from telemetry.queue.core.batches import Block
    from telemetry.queue.core.cursor import Cursor
    from telemetry.queue.core.delivery import Piece
    from telemetry.queue.core.partition import Partition
    from telemetry.queue.core.sessions import Session


class Trim(NamedTuple):
    """Batches of a partition that are no longer needed, and may be taken out of the log."""

    partition: Partition
    blocks: list[Block]


class Effects:
    """What is to be done. Each part is emptied by whoever does it."""

    def __init__(self) -> None:
        self.woken: dict[Session, None] = {}
        """Sessions that have something to send, or were closed."""
        self.burials: list[Piece] = []
        """Pieces to copy to their dead-letter topic."""
        self.moved: dict[Cursor, None] = {}
        """Cursors to store."""
        self.handed: dict[Cursor, None] = {}
        """Cursors from which messages went out for the first time, to be stored before long."""
        self.tried: dict[Piece, None] = {}
        """Pieces whose number of attempts is to be stored before long."""
        self.forgotten: dict[Cursor, None] = {}
        """Cursors of which no attempts count any more that were stored."""
        self.trims: list[Trim] = []
        """Batches to take out of the log."""
