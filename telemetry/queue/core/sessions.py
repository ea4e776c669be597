"""One subscriber's session: its permits, what waits to be sent to it, and what it has not settled."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from telemetry.queue.core.batches import Entry
from telemetry.queue.core.delivery import Piece, State
from telemetry.queue.core.effects import Effects
from telemetry.queue.core.names import matches
from telemetry.queue.core.partition import Partition
from telemetry.queue.core.types import Assigned, Gap, Revoked

if TYPE_CHECKING:
    from telemetry.queue.core.groups import GroupState

OUTBOX_BYTES_MAX: Final = 4 << 20
"""What waits to be sent to one session, in bytes of batches; a batch more than that is still let in."""


class Handout(NamedTuple):
    """Messages on their way to a session. The batch's bytes are read when they are sent."""

    partition: Partition
    entry: Entry
    due: tuple[tuple[int, int], ...]
    messages: int
    delivery_id: str = ""
    attempt: int = 0
    piece: Piece | None = None

    def is_current(self) -> bool:
        """Whether the lease that it was handed out under still holds."""
        piece = self.piece
        return piece is None or (piece.state is State.LEASED and piece.delivery_id == self.delivery_id)


Outgoing = Handout | Assigned | Revoked | Gap


class Session:
    """A subscription as long as it is connected."""

    def __init__(
        self,
        session_id: str,
        member: str,
        peer: str,
        patterns: tuple[str, ...],
        joined_us: int,
        effects: Effects,
        group: GroupState | None = None,
    ) -> None:
        self.session_id = session_id
        self.member = member
        self.peer = peer
        self.patterns = patterns
        self.joined_us = joined_us
        self.group = group
        self.closed = False
        self.closed_reason = ""
        self.stopped = False
        self.permits_messages = 0
        self.permits_bytes: int | None = None
        self.unacked = 0
        self.pieces: dict[Piece, None] = {}
        self.partitions: dict[Partition, None] = {}
        self._effects = effects
        self._outbox: deque[Outgoing] = deque()
        self._outbox_bytes = 0
        self._permits_bytes_most = 0

    def wants(self, topic: str) -> bool:
        """Whether it subscribes to the topic."""
        return any(matches(pattern, topic) for pattern in self.patterns)

    # Permits

    def add_permits(self, messages: int, size: int) -> None:
        """Allow more. Bytes are not limited until some are given."""
        self.permits_messages += messages
        if size:
            self.permits_bytes = (self.permits_bytes or 0) + size
            self._permits_bytes_most = max(self._permits_bytes_most, self.permits_bytes)

    def room(self, size: int) -> int:
        """How many messages of a batch of ``size`` bytes may go to it now."""
        if self.closed or self.permits_messages <= 0 or self._outbox_bytes >= OUTBOX_BYTES_MAX:
            return 0
        if self.permits_bytes is not None and size > self.permits_bytes:
            # What is larger than all that it may have is sent alone, or it would never be sent.
            alone = not self.unacked if self.group is not None else size > self._permits_bytes_most
            if self.permits_bytes <= 0 or not alone:
                return 0
        return self.permits_messages

    @property
    def exhausted(self) -> bool:
        """Whether it can be sent nothing more, has been sent all there was, and has settled that."""
        spent = self.permits_messages <= 0 or (self.permits_bytes is not None and self.permits_bytes <= 0)
        return spent and not self._outbox and not self.unacked

    # What is to be sent

    def hand(self, handout: Handout) -> None:
        """Put messages in the outbox, at the expense of its permits."""
        self.permits_messages -= handout.messages
        if self.permits_bytes is not None:
            self.permits_bytes -= handout.entry.size
        self._outbox_bytes += handout.entry.size
        self._post(handout)

    def tell(self, event: Assigned | Revoked | Gap) -> None:
        """Put an event in the outbox."""
        self._post(event)

    def take(self, size: int) -> list[Outgoing]:
        """Take what is to be sent, oldest first, until it holds ``size`` bytes.

        A lease that was lost while its messages waited here was never seen by the subscriber: its permits return.
        """
        taken: list[Outgoing] = []
        while self._outbox and size > 0:
            outgoing = self._outbox.popleft()
            if isinstance(outgoing, Handout):
                self._outbox_bytes -= outgoing.entry.size
                if not outgoing.is_current():
                    self.refund(outgoing)
                    continue
                size -= outgoing.entry.size
            taken.append(outgoing)
        return taken

    def put_back(self, taken: Sequence[Outgoing]) -> None:
        """Put what was taken and not sent back where it was."""
        if not self.closed:
            self._outbox.extendleft(reversed(taken))
            self._outbox_bytes += sum(one.entry.size for one in taken if isinstance(one, Handout))
            self._effects.woken[self] = None

    def refund(self, handout: Handout) -> None:
        """Give back the permits that messages cost which were not sent."""
        self.permits_messages += handout.messages
        if self.permits_bytes is not None:
            self.permits_bytes += handout.entry.size

    def unsent(self) -> dict[Piece, None]:
        """The pieces that it was given and that were not sent to it."""
        return {
            outgoing.piece: None
            for outgoing in self._outbox
            if isinstance(outgoing, Handout) and outgoing.piece is not None and outgoing.is_current()
        }

    def stop(self) -> None:
        """Take back its permits and what waits to be sent to it."""
        self.stopped = True
        self.permits_messages = 0
        self._outbox = deque(outgoing for outgoing in self._outbox if not isinstance(outgoing, Handout))
        self._outbox_bytes = 0
        self._effects.woken[self] = None

    def close(self, reason: str) -> None:
        """Send nothing more. ``reason`` is empty when the subscriber left of its own accord."""
        self.closed = True
        self.closed_reason = reason
        self._outbox.clear()
        self._outbox_bytes = 0
        self._effects.woken[self] = None

    def _post(self, outgoing: Outgoing) -> None:
        self._outbox.append(outgoing)
        self._effects.woken[self] = None
