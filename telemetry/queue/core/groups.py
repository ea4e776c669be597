"""A subscription group: its members, its cursors, and what happens to the messages between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from telemetry.queue.core.clock import Instant
from telemetry.queue.core.cursor import Cursor
from telemetry.queue.core.delivery import Event, Piece, State
from telemetry.queue.core.effects import Effects
from telemetry.queue.core.leases import Leases
from telemetry.queue.core.names import dead_letter_topic_of, matches
from telemetry.queue.core.ownership import Ownership
from telemetry.queue.core.partition import Partition
from telemetry.queue.core.rates import Meter
from telemetry.queue.core.runs import RunSet, count, intersect
from telemetry.queue.core.sessions import Handout, Session
from telemetry.queue.core.timers import Timers
from telemetry.queue.core.types import (
    DURATION_S_MAX,
    AckEntry,
    AckStatus,
    GroupSettings,
    Mode,
    Outcome,
)


class GroupState:
    """A group. Its settings are fixed; members come and go."""

    def __init__(self, name: str, settings: GroupSettings, leases: Leases, timers: Timers, effects: Effects) -> None:
        self.name = name
        self.settings = settings
        self.sessions: dict[str, Session] = {}
        self.cursors: dict[Partition, Cursor] = {}
        self.unsettled = 0
        self.delivered, self.acked = Meter(), Meter()
        self.redelivered = 0
        self.dead_lettered = 0
        self._leases = leases
        self._timers = timers
        self._effects = effects
        self._turns: deque[Session] = deque()
        self._active: dict[Cursor, None] = {}
        self._ownership = Ownership()

    def subscribes_to(self, topic: str) -> bool:
        """Whether the topic's messages are the group's."""
        return topic != self.settings.dead_letter_topic and any(matches(p, topic) for p in self.settings.topics)

    def dead_letter_topic(self, topic: str) -> str:
        """Where messages of ``topic`` go that it gives up."""
        return self.settings.dead_letter_topic or dead_letter_topic_of(topic)

    # Members

    def join(self, session: Session, now: Instant) -> None:
        """Take in a member."""
        self.sessions[session.member] = session
        self._turns.append(session)
        self.rebalance(now)
        self.dispatch(now)

    def leave(self, session: Session, now: Instant, *, drained: bool, reason: str = "") -> None:
        """Let a member go. What it has not settled is ready at once, as another attempt unless ``drained``."""
        if session.closed:
            return
        unsent = session.unsent()
        session.close(reason)
        del self.sessions[session.member]
        self._turns.remove(session)
        for piece in sorted(session.pieces, key=lambda piece: piece.first_offset):
            self._release(piece, spare_attempt=drained or piece in unsent)
        self.rebalance(now)
        self.dispatch(now)

    def stop_delivering(self, session: Session, now: Instant) -> None:
        """Hand a member nothing more. What was not sent to it yet is ready at once, as the same attempt."""
        unsent = session.unsent()
        session.stop()
        for piece in sorted(unsent, key=lambda piece: piece.first_offset):
            self._release(piece, spare_attempt=True)
        self.dispatch(now)

    def rebalance(self, now: Instant) -> None:
        """ORDERED: share the partitions out again."""
        if self.settings.mode is not Mode.ORDERED:
            return
        until_s = now.monotonic_s + self.settings.ack_wait_s
        held = self._ownership.share(list(self.cursors), list(self.sessions.values()), until_s)
        unsent = {piece for session in {piece.session for piece in held} if session for piece in session.unsent()}
        for piece in held:
            # The member did nothing wrong: what it was not sent goes to the next owner as the same attempt.
            if piece in unsent:
                self._release(piece, spare_attempt=True)
            else:
                self._set_deadline(piece, piece.deadline_s)

    # Cursors

    def add_cursor(self, cursor: Cursor) -> None:
        """Take in a partition."""
        self.cursors[cursor.partition] = cursor
        cursor.partition.cursors.append(cursor)
        self.activate(cursor)

    def remove_cursor(self, cursor: Cursor) -> None:
        """Let a partition go, and drop what of it is under way."""
        self._ownership.remove(cursor.partition)
        self.drop(cursor)
        self._active.pop(cursor, None)
        del self.cursors[cursor.partition]
        cursor.partition.cursors.remove(cursor)

    def activate(self, cursor: Cursor) -> None:
        """Note that there may be something to hand out."""
        self._active[cursor] = None

    def drop(self, cursor: Cursor) -> None:
        """Forget all that is under way of the partition. Leases on it are lost."""
        for piece in list(cursor.pieces):
            self._unlease(piece)
            self._leases.end(piece)
            cursor.pieces.pop(piece, None)
            piece.apply(Event.DROP)
            self.unsettled -= piece.count

    def drop_range(self, cursor: Cursor, first: int, end: int) -> None:
        """Forget what is under way of ``[first, end)``. A lease on more than that goes on with the rest."""
        # A message that waits may have held up those behind it.
        self.activate(cursor)
        for piece in list(cursor.pieces):
            part = piece.split(first, end)
            if part is piece:
                self._unlease(piece)
                self._leases.end(piece)
                cursor.pieces.pop(piece, None)
            elif part is not None and piece.state is State.LEASED:
                self._count_unacked(piece, -part.count)
            elif part is not None and piece.state is not State.BURYING:
                cursor.push(piece)  # its first offset may have changed
            if part is not None:
                part.apply(Event.DROP)
                self.unsettled -= part.count

    # Handing out

    def dispatch(self, now: Instant, cursors: Iterable[Cursor] | None = None) -> None:
        """Hand out what there is, a batch of each partition in turn, as far as members have room."""
        if not self.sessions:
            return
        queue = deque(self._active if cursors is None else cursors)
        while queue:
            cursor = queue.popleft()
            if self._hand_out(cursor, now):
                queue.append(cursor)

    def _hand_out(self, cursor: Cursor, now: Instant) -> bool:
        top = cursor.peek()
        if top is None:
            self._active.pop(cursor, None)
            return False
        entry, piece = top
        session, room = self._taker(cursor, entry.size)
        if session is None:
            return False
        if piece is None:
            left = self.settings.max_unacked - self.unsettled
            if left <= 0:
                return False
            room = min(room, left)
        piece_taken = cursor.take(entry, piece, room)
        if piece is None:
            self.unsettled += piece_taken.count
            self._effects.handed[cursor] = None
        if piece_taken.attempts >= self.settings.max_deliver:
            # Only what was handed out before the queue was started can have used up its attempts and come here.
            piece_taken.first_time_us = piece_taken.first_time_us or now.wall_us
            piece_taken.last_time_us = piece_taken.last_time_us or now.wall_us
            self._bury(piece_taken, f"delivered {piece_taken.attempts} times, the queue stopped meanwhile")
        else:
            self._lease(piece_taken, session, now)
        return True

    def _taker(self, cursor: Cursor, size: int) -> tuple[Session | None, int]:
        if self.settings.mode is Mode.ORDERED:
            owner = self._ownership.taker(cursor.partition)
            room = owner.room(size) if owner is not None else 0
            return (owner, room) if room else (None, 0)
        for _ in range(len(self._turns)):
            session = self._turns[0]
            self._turns.rotate(-1)
            if room := session.room(size):
                return session, room
        return None, 0

    def _lease(self, piece: Piece, session: Session, now: Instant) -> None:
        piece.apply(Event.DELIVER)
        piece.attempts += 1
        piece.first_time_us = piece.first_time_us or now.wall_us
        piece.last_time_us = now.wall_us
        piece.session, piece.handed = session, piece.runs
        piece.acked = RunSet()
        delivery_id = self._leases.issue(piece)
        self._set_deadline(piece, now.monotonic_s + self.settings.ack_wait_s)
        session.pieces[piece] = None
        session.unacked += piece.count
        self.delivered.add(piece.count, now.monotonic_s)
        if piece.attempts > 1:
            self.redelivered += piece.count
            self._effects.tried[piece] = None
        session.hand(
            Handout(piece.cursor.partition, piece.entry, piece.due(), piece.count, delivery_id, piece.attempts, piece)
        )

    # What becomes of a delivery

    def settle(self, piece: Piece, entry: AckEntry, now: Instant) -> tuple[AckStatus, Piece | None]:
        """Apply an ack to a leased piece. Returns its status, and the piece that is on its way to the dead letters."""
        base = piece.entry.base_offset
        first, end = base, piece.entry.end_offset
        if entry.run is not None:
            first, end = base + entry.run[0], base + entry.run[0] + entry.run[1]
            asked = intersect(piece.handed, first, end)
            if entry.run[0] < 0 or entry.run[1] < 1 or count(asked) != entry.run[1]:
                return AckStatus.UNKNOWN, None
            if not intersect(piece.runs, first, end):
                done = entry.outcome is Outcome.ACK and not piece.acked.missing(first, end)
                return (AckStatus.OK if done else AckStatus.STALE), None
        if entry.outcome is Outcome.EXTEND:
            wait = self.settings.ack_wait_s if entry.delay_s is None else entry.delay_s
            piece.apply(Event.EXTEND)
            self._set_deadline(piece, now.monotonic_s + min(wait, DURATION_S_MAX))
            return AckStatus.OK, None
        part = self._part(piece, first, end)
        match entry.outcome:
            case Outcome.ACK:
                for run in part.runs:
                    piece.acked.add(*run)
                part.apply(Event.ACK)
                self.acked.add(part.count, now.monotonic_s)
                self._leases.end(part, remember=True)
                self._finish(part)
            case Outcome.NACK:
                self._give_back(part, now, entry.delay_s, entry.reason or "nacked")
            case Outcome.TERMINATE:
                self._bury(part, entry.reason or "terminated")
                return AckStatus.OK, part
        return AckStatus.OK, part if part.state is State.BURYING else None

    def time_up(self, piece: Piece, now: Instant) -> None:
        """The piece's timer has run out: its lease, or its delay."""
        if piece.state is State.LEASED and self._ownership.until_s(piece.cursor.partition) is not None:
            # Its partition was revoked, and the next owner has waited for long enough.
            self._release(piece, spare_attempt=True)
        elif piece.state is State.LEASED:
            self._unlease(piece)
            self._give_back(piece, now, None, f"not settled within {self.settings.ack_wait_s:g} s")
        elif piece.apply(Event.DELAY_OVER):
            self._refile(piece)

    def buried(self, piece: Piece, now: Instant) -> None:
        """The piece's copy in the dead-letter topic is durable."""
        if piece.apply(Event.COPIED):
            self.dead_lettered += piece.count
            self._finish(piece)
            self.dispatch(now)

    def _part(self, piece: Piece, first: int, end: int) -> Piece:
        """What of a leased piece lies in ``[first, end)``, taken out of the lease. All of it keeps its delivery id."""
        part = piece.split(first, end)
        assert part is not None
        if part is piece:
            self._unlease(piece)
        else:
            piece.cursor.pieces[part] = None
            self._count_unacked(piece, -part.count)
        return part

    def _give_back(self, piece: Piece, now: Instant, delay_s: float | None, reason: str) -> None:
        """A piece that is not done: to be delivered again after a delay, or given up."""
        piece.reason = reason
        if piece.attempts >= self.settings.max_deliver:
            self._bury(piece, f"delivered {piece.attempts} times, {reason}")
            return
        self._leases.end(piece)
        self._effects.tried[piece] = None
        piece.apply(Event.NACK)
        self._recall(piece.cursor, piece.first_offset)
        if delay_s is None:
            steps = self.settings.backoff_s
            delay_s = steps[min(piece.attempts, len(steps)) - 1] if steps else 0.0
        if delay_s <= 0:
            piece.apply(Event.DELAY_OVER)
            self._refile(piece)
        else:
            self._timers.set(piece, now.monotonic_s + min(delay_s, DURATION_S_MAX))
            piece.cursor.push(piece)

    def _recall(self, cursor: Cursor, offset: int) -> None:
        """ORDERED: what lies behind a message that is to come again, and was not sent yet, must not overtake it."""
        holder = self._ownership.holder(cursor.partition)
        for piece in holder.unsent() if holder is not None else ():
            if piece.cursor is cursor and piece.first_offset > offset:
                self._release(piece, spare_attempt=True)

    def _release(self, piece: Piece, *, spare_attempt: bool) -> None:
        """A piece whose member has left."""
        self._unlease(piece)
        if not spare_attempt and piece.attempts >= self.settings.max_deliver:
            self._bury(piece, f"delivered {piece.attempts} times, its member left")
            return
        self._leases.end(piece)
        piece.apply(Event.RELEASE)
        if not spare_attempt or piece.attempts > 1:
            self._effects.tried[piece] = None
        if spare_attempt:
            piece.attempts -= 1
        self._refile(piece)

    def _bury(self, piece: Piece, reason: str) -> None:
        piece.reason = reason
        piece.apply(Event.BURY)
        self._leases.end(piece, remember=True)
        self._effects.tried[piece] = None
        self._effects.burials.append(piece)

    def _unlease(self, piece: Piece) -> None:
        """Take a piece from its member, if it has one."""
        if piece.session is not None:
            piece.session.pieces.pop(piece, None)
            self._count_unacked(piece, -piece.count)
            piece.session = None
            self._ownership.let_go(piece)
        self._timers.cancel(piece)

    def _finish(self, piece: Piece) -> None:
        piece.cursor.settle(piece.runs)
        piece.cursor.pieces.pop(piece, None)
        self.unsettled -= piece.count
        self._effects.moved[piece.cursor] = None

    def _refile(self, piece: Piece) -> None:
        piece.cursor.push(piece)
        self.activate(piece.cursor)

    def _set_deadline(self, piece: Piece, when_s: float) -> None:
        until_s = self._ownership.until_s(piece.cursor.partition)
        piece.deadline_s = when_s if until_s is None else min(when_s, until_s)
        self._timers.set(piece, piece.deadline_s)

    def _count_unacked(self, piece: Piece, change: int) -> None:
        assert piece.session is not None
        piece.session.unacked += change
        self._effects.woken[piece.session] = None
