"""Who owns which partition of an ORDERED group, and how a partition goes from one owner to the next.

A member that stays gives a partition up in two steps, so that what it is working on is done once and by one: it is told
that the partition is revoked and is handed nothing more of it, and the next owner gets the partition when all that the
first had been sent is settled. That may take as long as an ack wait, however often leases are extended; then what is
left goes on as well. A member that leaves gives up everything at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from telemetry.queue.core.assignment import assign
from telemetry.queue.core.delivery import Piece
from telemetry.queue.core.partition import Partition
from telemetry.queue.core.sessions import Session
from telemetry.queue.core.types import Assigned, Revoked, TopicPartition


@dataclass(slots=True)
class Handover:
    """A partition that was revoked from ``session`` and waits for what that still has of it."""

    session: Session
    pieces: dict[Piece, None]
    until_s: float


class Ownership:
    """The owners of a group's partitions. It tells members what is theirs; pieces are the group's business."""

    __slots__ = ("_handovers", "_owners")

    def __init__(self) -> None:
        self._owners: dict[Partition, Session] = {}
        self._handovers: dict[Partition, Handover] = {}

    def taker(self, partition: Partition) -> Session | None:
        """Whom messages may be handed to: nobody while the partition is between two owners."""
        return None if partition in self._handovers else self._owners.get(partition)

    def holder(self, partition: Partition) -> Session | None:
        """Who may have messages of it: its owner, or whoever it was revoked from."""
        handover = self._handovers.get(partition)
        return handover.session if handover is not None else self._owners.get(partition)

    def until_s(self, partition: Partition) -> float | None:
        """Until when leases may run that whoever the partition was revoked from has; ``None`` for any others."""
        handover = self._handovers.get(partition)
        return handover.until_s if handover is not None else None

    def share(self, partitions: Sequence[Partition], members: Sequence[Session], until_s: float) -> list[Piece]:
        """Share the partitions out again; those given up are to change hands by ``until_s``.

        Returns the pieces of revoked partitions that their members still have, sent or not.
        """
        owners = assign(partitions, members, self._owners)
        given: dict[Session, list[Partition]] = {}
        taken: dict[Session, list[Partition]] = {}
        held: list[Piece] = []
        for partition in {**self._owners, **owners}:
            before, after = self._owners.get(partition), owners.get(partition)
            if before is after:
                continue
            if before is not None and partition in before.partitions:
                del before.partitions[partition]
                taken.setdefault(before, []).append(partition)
                pieces = {piece: None for piece in before.pieces if piece.cursor.partition is partition}
                held.extend(pieces)
                if pieces:
                    self._handovers[partition] = Handover(before, pieces, until_s)
            if after is not None and self._may_have(after, partition):
                given.setdefault(after, []).append(partition)
        self._owners = owners
        for session, gone in taken.items():
            if not session.closed:
                session.tell(Revoked(_names(gone)))
        for session, new in given.items():
            _give(session, new)
        return held

    def let_go(self, piece: Piece) -> None:
        """A member does not have the piece any more. If it was the last of a revoked partition, the next owner's turn
        has come."""
        partition = piece.cursor.partition
        handover = self._handovers.get(partition)
        if handover is None:
            return
        handover.pieces.pop(piece, None)
        if not handover.pieces:
            del self._handovers[partition]
            if (owner := self._owners.get(partition)) is not None:
                _give(owner, [partition])

    def remove(self, partition: Partition) -> None:
        """The partition is not the group's any more; :meth:`share` will tell its owner."""
        self._handovers.pop(partition, None)

    def _may_have(self, session: Session, partition: Partition) -> bool:
        handover = self._handovers.get(partition)
        if handover is not None and handover.session is session:
            # It comes back to whom it was taken from, and who has not let go of it yet.
            del self._handovers[partition]
            return True
        return handover is None


def _give(session: Session, partitions: Iterable[Partition]) -> None:
    session.partitions.update(dict.fromkeys(partitions))
    session.tell(Assigned(_names(partitions)))


def _names(partitions: Iterable[Partition]) -> tuple[TopicPartition, ...]:
    return tuple(TopicPartition(partition.topic.name, partition.number) for partition in partitions)
