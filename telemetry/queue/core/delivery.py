"""The life of a delivery: one table of states and events, and the messages that go through it.

Theory of operation. A group sees the messages of a partition in pieces. A piece is one stored batch, or the part of it
that shares a fate in this group; partial acks and permits smaller than a batch split it. A piece begins when it is
first handed out, and is in one state at a time. `TABLE` holds every move there is; an event that it does not list for
a state changes nothing. Only this module sets a piece's state.

    READY     may be handed out again now
    LEASED    a member has it, under a delivery id, until its lease runs out
    WAITING   is to be delivered again, after a delay
    BURYING   is being copied to the dead-letter topic; not settled until the copy is durable
    ACKED     settled: acked by a member
    BURIED    settled: a durable copy is in the dead-letter topic
    DROPPED   settled: purged, passed by a seek, or no longer stored
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from telemetry.queue.core.batches import Entry
from telemetry.queue.core.runs import Run, RunSet, count, head, intersect, subtract

if TYPE_CHECKING:
    from telemetry.queue.core.cursor import Cursor
    from telemetry.queue.core.sessions import Session


class State(enum.Enum):
    """Where a piece stands."""

    READY = "ready"
    LEASED = "leased"
    WAITING = "waiting"
    BURYING = "burying"
    ACKED = "acked"
    BURIED = "buried"
    DROPPED = "dropped"


class Event(enum.Enum):
    """What happens to a piece."""

    DELIVER = "deliver"
    """It is handed to a member."""
    ACK = "ack"
    """The member is done."""
    NACK = "nack"
    """The member is not done, or its lease has run out."""
    EXTEND = "extend"
    """The member needs longer."""
    RELEASE = "release"
    """The member left, or the partition went to another."""
    BURY = "bury"
    """The member says that it cannot ever be done, or the attempts are used up."""
    DELAY_OVER = "delay over"
    """The delay before the next attempt has passed."""
    COPIED = "copied"
    """The copy in the dead-letter topic is durable."""
    DROP = "drop"
    """The messages are to go: a purge, a seek, retention, damage."""


TABLE: Final[Mapping[State, Mapping[Event, State]]] = MappingProxyType(
    {
        State.READY: {
            Event.DELIVER: State.LEASED,
            Event.BURY: State.BURYING,
            Event.DROP: State.DROPPED,
        },
        State.LEASED: {
            Event.ACK: State.ACKED,
            Event.NACK: State.WAITING,
            Event.EXTEND: State.LEASED,
            Event.RELEASE: State.READY,
            Event.BURY: State.BURYING,
            Event.DROP: State.DROPPED,
        },
        State.WAITING: {
            Event.DELAY_OVER: State.READY,
            Event.DROP: State.DROPPED,
        },
        State.BURYING: {
            Event.COPIED: State.BURIED,
            Event.DROP: State.DROPPED,
        },
        State.ACKED: {},
        State.BURIED: {},
        State.DROPPED: {},
    }
)

SETTLED: Final = frozenset(state for state, moves in TABLE.items() if not moves)
"""The states that a piece never leaves."""


class Piece:
    """Messages of one stored batch that share a fate in one group."""

    __slots__ = (
        "acked",
        "attempts",
        "count",
        "cursor",
        "deadline_s",
        "delivery_id",
        "entry",
        "first_time_us",
        "handed",
        "last_time_us",
        "reason",
        "runs",
        "session",
        "state",
        "timer",
    )

    def __init__(self, cursor: Cursor, entry: Entry, runs: tuple[Run, ...]) -> None:
        self.cursor = cursor
        self.entry = entry
        self.runs = runs
        self.count = count(runs)
        self.state = State.READY
        self.attempts = 0
        self.first_time_us = 0
        self.last_time_us = 0
        self.reason = ""
        # While it is leased: to whom, as which delivery, which messages that delivery had, and which of them are acked.
        self.session: Session | None = None
        self.delivery_id = ""
        self.handed: tuple[Run, ...] = ()
        self.acked = RunSet()
        self.deadline_s = 0.0
        # What tells the timer that was last set for it from those set before.
        self.timer = 0

    def apply(self, event: Event) -> bool:
        """Move as ``TABLE`` says. Returns whether the event is legal; when it is not, nothing has changed."""
        state = TABLE[self.state].get(event)
        if state is None:
            return False
        self.state = state
        return True

    @property
    def first_offset(self) -> int:
        """The first message it holds."""
        return self.runs[0][0]

    def split(self, first: int, end: int) -> Piece | None:
        """Take what lies in ``[first, end)`` out into a piece of its own; ``None`` when there is nothing of it here.

        Returns this very piece when all of it lies there.
        """
        inside = intersect(self.runs, first, end)
        if not inside:
            return None
        if count(inside) == self.count:
            return self
        part = Piece(self.cursor, self.entry, inside)
        part.state, part.attempts, part.reason = self.state, self.attempts, self.reason
        part.first_time_us, part.last_time_us = self.first_time_us, self.last_time_us
        self.runs = subtract(self.runs, first, end)
        self.count -= part.count
        return part

    def split_head(self, size: int) -> Piece:
        """Take the first ``size`` messages out into a piece of their own, or return this one when it has no more."""
        if size >= self.count:
            return self
        part = self.split(self.runs[0][0], head(self.runs, size)[-1][1])
        assert part is not None
        return part

    def due(self) -> tuple[tuple[int, int], ...]:
        """Its messages as ``(first, count)`` within the batch; empty when that is all of the batch."""
        if self.count == self.entry.messages:
            return ()
        base = self.entry.base_offset
        return tuple((first - base, end - first) for first, end in self.runs)
