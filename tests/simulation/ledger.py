"""What the queue has promised so far, kept outside of it in the most naive way, and held against what it does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from telemetry.queue.core.cursor import Cursor
from telemetry.queue.core.partition import Partition
from telemetry.queue.core.queue import QueueCore
from telemetry.queue.core.types import (
    AckEntry,
    AckStatus,
    Assigned,
    Delivery,
    GroupSettings,
    Mode,
    Outcome,
    Receipt,
    Revoked,
    StoredBatch,
    SubscriptionEvent,
    TopicPartition,
)
from telemetry.queue.engines import dead_letters
from telemetry.v1 import queue_pb2

EPSILON_S: Final = 1e-6


class Violation(AssertionError):  # noqa: N818  (it is what everybody calls it)
    """A promise is broken."""


class Spot(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


@dataclass(slots=True, eq=False)
class Sent:
    """A batch that a producer has sent, and all that was seen of it."""

    topic: str
    partition: int | None
    batch: bytes
    messages: tuple[bytes, ...]
    base: int | None = None
    confirmed: bool = False
    may_be_lost: bool = False

    def __str__(self) -> str:
        return self.messages[0].decode().rstrip(".")


@dataclass(slots=True, eq=False)
class Handed:
    """A delivery that was sent to a member."""

    nonce: str
    number: int
    group: GroupLedger
    viewer: Viewer
    spot: Spot
    base: int
    offsets: frozenset[int]
    deadline_s: float
    moves: int
    """How often the group had been moved before."""
    rank: int
    """How many deliveries there had been, this one included."""


@dataclass(slots=True, eq=False)
class Viewer:
    """A session as its subscriber sees it."""

    session_id: str
    group: GroupLedger
    permits_messages: int = 0
    permits_bytes: int | None = None
    closed: bool = False
    owned: dict[Spot, int] = field(default_factory=dict)
    """What it was told is its own, and how many deliveries anybody had been sent before."""
    seen: dict[Spot, set[int]] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class GroupLedger:
    """What is known of a group."""

    name: str
    settings: GroupSettings
    explained: dict[Spot, set[int]] = field(default_factory=dict)
    """Offsets that have a reason to be settled: an ack that was taken, a place to begin at, a seek."""
    acked: dict[Spot, dict[int, tuple[str, int]]] = field(default_factory=dict)
    """Offsets that must not come again, with the delivery before which it is too late to say so."""
    terminated: set[tuple[Spot, int]] = field(default_factory=set)
    latest: dict[tuple[Spot, int], int] = field(default_factory=dict)
    """The newest delivery of an offset in this life of the queue."""
    viewers: list[Viewer] = field(default_factory=list)
    """Its sessions in this life of the queue."""
    moves: int = 0


Standing = tuple[int, tuple[tuple[int, int], ...]]


def standing(cursor: Cursor) -> Standing:
    """Where a cursor is."""
    return cursor.acked_through, tuple(cursor.settled)


def _is_settled(offset: int, at: Standing) -> bool:
    return offset < at[0] or any(first <= offset < end for first, end in at[1])


class Ledger:
    """Takes note of everything, and raises :class:`Violation` at the first broken promise."""

    def __init__(self) -> None:
        self.sent: dict[bytes, Sent] = {}
        self.groups: dict[str, GroupLedger] = {}
        self.damage = False
        """Whether bits were flipped: then offsets may be missing and producers may find gaps."""
        self.dead_letters_damaged = False
        self.deliveries = self.confirmations = self.acks = 0
        self._by_message: dict[bytes, tuple[Sent, int]] = {}
        self._placed: dict[Spot, dict[int, Sent]] = {}
        self._purged: dict[Spot, int] = {}
        self._handed: dict[str, Handed] = {}
        self._copies: dict[str, dict[Spot, set[int]]] = {}

    # Publishing

    def send(self, sent: Sent) -> None:
        """A producer is about to send this for the first time."""
        self.sent[sent.batch] = sent
        for number, message in enumerate(sent.messages):
            self._by_message[message] = sent, number

    def confirm(self, sent: Sent, receipt: Receipt) -> None:
        """The queue says that it is stored."""
        self.confirmations += 1
        if receipt.base_offset is not None:
            self._place(sent, Spot(sent.topic, receipt.partition), receipt.base_offset)
        sent.confirmed = not sent.may_be_lost

    def _place(self, sent: Sent, spot: Spot, base: int) -> None:
        if sent.topic != spot.topic or sent.partition not in (None, spot.partition):
            raise Violation(f"{sent} was sent to {sent.topic}/{sent.partition} and is in {spot}")
        sent.partition = spot.partition
        if sent.base == base:
            return
        if sent.base is not None and not sent.may_be_lost:  # else nobody can know any more that it was sent before
            raise Violation(f"{sent} is stored twice in {spot}: at {sent.base} and at {base}")
        placed = self._placed.setdefault(spot, {})
        for offset in range(base, base + len(sent.messages)):
            if (other := placed.get(offset)) is not None:
                raise Violation(f"offset {offset} of {spot} was {other} and now is {sent}")
            placed[offset] = sent
        sent.base = base

    def lose(self, sent: Sent, *, torn: bool) -> None:
        """Its record was damaged. ``torn`` says that this looks like a torn tail, of which offsets are used again."""
        self.damage = sent.may_be_lost = True
        sent.confirmed = False
        if torn and sent.base is not None and sent.partition is not None:
            placed = self._placed[Spot(sent.topic, sent.partition)]
            for offset in range(sent.base, sent.base + len(sent.messages)):
                del placed[offset]
            sent.base = None

    def _observe(self, spot: Spot, base: int, batch: bytes) -> Sent:
        sent = self.sent.get(batch)
        if sent is None:
            raise Violation(f"{spot} has at {base} what nobody sent: {batch!r}")
        self._place(sent, spot, base)
        return sent

    # Delivering

    def start_life(self) -> None:
        """The queue starts again: deliveries of before are void."""
        for group in self.groups.values():
            group.latest.clear()
            group.viewers.clear()

    def open(self, session_id: str, name: str, settings: GroupSettings) -> Viewer:
        """A member of a group has a session."""
        group = self.groups.setdefault(name, GroupLedger(name, settings))
        if group.settings != settings:
            raise Violation(f"group {name} had {group.settings} and now has {settings}")
        group.viewers.append(viewer := Viewer(session_id, group))
        return viewer

    def events(self, viewer: Viewer, events: Sequence[SubscriptionEvent], now_s: float) -> None:
        """This is sent to a member."""
        for event in events:
            match event:
                case Assigned(partitions):
                    viewer.owned.update(dict.fromkeys(_spots(partitions), self.deliveries))
                case Revoked(partitions):
                    for spot in _spots(partitions):
                        viewer.owned.pop(spot, None)
                case Delivery():
                    self._deliver(viewer, event, now_s)

    def _deliver(self, viewer: Viewer, delivery: Delivery, now_s: float) -> None:
        group, spot = viewer.group, Spot(delivery.topic, delivery.partition)
        where = f"group {group.name} in {spot}: delivery {delivery.delivery_id}"
        self.deliveries += 1
        self._observe(spot, delivery.base_offset, delivery.batch)
        runs = delivery.due or ((0, delivery.count),)
        offsets = frozenset(delivery.base_offset + at for first, count in runs for at in range(first, first + count))
        nonce, _, number_text = delivery.delivery_id.rpartition("-")
        number = int(number_text, 16)
        if not 1 <= delivery.attempt <= group.settings.max_deliver:
            raise Violation(f"{where} is attempt {delivery.attempt} of {group.settings.max_deliver}")
        viewer.permits_messages -= len(offsets)
        if viewer.permits_messages < 0:
            raise Violation(f"{where} exceeds the permits by {-viewer.permits_messages} messages")
        if viewer.permits_bytes is not None:
            if viewer.permits_bytes <= 0:
                raise Violation(f"{where} came though all bytes were used up")
            viewer.permits_bytes -= len(delivery.batch)
        acked = group.acked.get(spot, {})
        for offset in offsets:
            if (when := acked.get(offset)) is not None and (when[0] != nonce or number > when[1]):
                raise Violation(f"{where} brings {offset} again, which was acked")
            group.latest[spot, offset] = max(number, group.latest.get((spot, offset), 0))
        if group.settings.mode is Mode.ORDERED:
            seen = viewer.seen.setdefault(spot, set())
            if spot not in viewer.owned:
                raise Violation(f"{where} went to one who does not own the partition")
            fresh = offsets - seen
            if fresh and seen and min(fresh) < max(seen):
                raise Violation(f"{where} brings {min(fresh)} for the first time, after {max(seen)}")
            seen |= offsets
        self._handed[delivery.delivery_id] = Handed(
            nonce,
            number,
            group,
            viewer,
            spot,
            delivery.base_offset,
            offsets,
            now_s + group.settings.ack_wait_s,
            group.moves,
            self.deliveries,
        )

    # Settling

    def watched(self, core: QueueCore, entries: Iterable[AckEntry]) -> dict[Spot, Cursor]:
        """The cursors that these acks may move."""
        cursors: dict[Spot, Cursor] = {}
        for entry in entries:
            if (handed := self._handed.get(entry.delivery_id)) is not None:
                topic, group = core.topics.get(handed.spot.topic), core.groups.get(handed.group.name)
                if topic is not None and group is not None:
                    cursor = group.cursors.get(topic.partitions[handed.spot.partition])
                    if cursor is not None:
                        cursors[handed.spot] = cursor
        return cursors

    def take_acks(
        self,
        entries: Sequence[AckEntry],
        statuses: Sequence[AckStatus],
        moved: dict[Spot, tuple[Standing, Standing]],
        now_s: float,
        nonce: str,
        issued: int,
    ) -> None:
        """The core has taken acks, which moved cursors like this."""
        claims: dict[Spot, list[tuple[Handed, frozenset[int]]]] = {}
        for entry, status in zip(entries, statuses, strict=True):
            handed = self._handed.get(entry.delivery_id)
            if handed is None or handed.nonce != nonce:
                if status is not AckStatus.UNKNOWN:
                    raise Violation(f"{entry} is of another life and was answered {status}")
                continue
            if status is not AckStatus.OK:
                continue
            offsets = _asked(handed, entry)
            late = now_s > handed.deadline_s + EPSILON_S or handed.viewer.closed
            match entry.outcome:
                case Outcome.ACK:
                    claims.setdefault(handed.spot, []).append((handed, offsets))
                case Outcome.TERMINATE:
                    pass
                case _ if late:
                    raise Violation(f"{entry} came too late and was accepted")
                case Outcome.EXTEND:
                    wait_s = entry.delay_s if entry.delay_s is not None else handed.group.settings.ack_wait_s
                    handed.deadline_s = now_s + wait_s
                case Outcome.NACK:
                    pass
        for spot, (before, after) in moved.items():
            fresh: set[int] = set()
            for handed, offsets in claims.get(spot, ()):
                mine = {one for one in offsets if _is_settled(one, after) and not _is_settled(one, before)} - fresh
                others = (one for one in handed.group.viewers if one is not handed.viewer and not one.closed)
                if mine and any(one.owned.get(spot, -1) >= handed.rank for one in others):
                    raise Violation(f"{spot} went to another owner while delivery {handed.number} was not settled")
                if mine and (now_s > handed.deadline_s + EPSILON_S or handed.viewer.closed):
                    raise Violation(f"an ack of delivery {handed.number} in {spot} came too late and was accepted")
                for offset in mine:
                    if handed.group.latest[spot, offset] > handed.number:
                        raise Violation(f"{offset} of {spot} was acked under a delivery that is not its last")
                    handed.group.acked.setdefault(spot, {})[offset] = nonce, issued
                fresh |= mine
                handed.group.explained.setdefault(spot, set()).update(mine)
                self.acks += len(mine)
            if _size(after) - _size(before) != len(fresh):
                raise Violation(f"acks in {spot} settled {_size(after) - _size(before)} messages, not {len(fresh)}")

    def forget_acks(self, entries: Iterable[AckEntry]) -> None:
        """The queue ended, or refused, before it said that these are durable: they may come again."""
        for entry in entries:
            if (handed := self._handed.get(entry.delivery_id)) is not None and entry.outcome is Outcome.ACK:
                acked = handed.group.acked.get(handed.spot, {})
                for offset in _asked(handed, entry):
                    acked.pop(offset, None)

    def answer_acks(self, entries: Sequence[AckEntry], statuses: Sequence[AckStatus]) -> None:
        """The queue says that what these settled is durable."""
        for entry, status in zip(entries, statuses, strict=True):
            handed = self._handed.get(entry.delivery_id)
            if handed is None or status is not AckStatus.OK or handed.moves != handed.group.moves:
                continue
            if entry.outcome is Outcome.TERMINATE:
                latest = handed.group.latest
                offsets = (one for one in _asked(handed, entry) if latest.get((handed.spot, one)) == handed.number)
                handed.group.terminated.update((handed.spot, offset) for offset in offsets)

    def begin_at(self, name: str, settings: GroupSettings, spot: Spot, offset: int) -> None:
        """A group begins, or is moved, to where all below is done and all above is not."""
        group = self.groups.setdefault(name, GroupLedger(name, settings))
        group.explained.setdefault(spot, set()).update(range(offset))
        group.acked.pop(spot, None)
        group.moves += 1
        group.terminated = {one for one in group.terminated if one[0] != spot}

    def purge(self, spot: Spot, offset: int) -> None:
        """What lies below may be gone."""
        self._purged[spot] = max(offset, self._purged.get(spot, 0))

    # What there is

    def copies(self, batch: bytes) -> None:
        """These lie in a dead-letter topic."""
        for message in queue_pb2.MessageBatch.FromString(batch).messages:
            origin = message.attributes
            spot = Spot(origin[dead_letters.ORIGIN_TOPIC], int(origin[dead_letters.ORIGIN_PARTITION]))
            offset = int(origin[dead_letters.ORIGIN_OFFSET])
            sent = self._placed.get(spot, {}).get(offset)
            if sent is None and (known := self._by_message.get(message.data)) is not None:
                # It used up its attempts in lives that ended before a delivery or a receipt got through.
                sent = known[0]
                self._place(sent, spot, offset - known[1])
            if sent is None or sent.base is None or message.data != sent.messages[offset - sent.base]:
                if not self.damage:
                    raise Violation(f"a dead letter says that it is {offset} of {spot}, which was {sent}")
            else:
                self._copies.setdefault(origin[dead_letters.GROUP], {}).setdefault(spot, set()).add(offset)

    def unexplained(self, core: QueueCore) -> list[str]:
        """What is settled in groups for no reason that is known; it has to be among the dead letters."""
        found: list[str] = []
        for name, group in core.groups.items():
            known = self.groups.get(name)
            for partition, cursor in group.cursors.items():
                spot = Spot(partition.topic.name, partition.number)
                explained = known.explained.get(spot, set()) if known is not None else set()
                copies = self._copies.get(name, {}).get(spot, set())
                at = standing(cursor)
                first = max(partition.start_offset, self._purged.get(spot, 0))
                settled = set(range(first, at[0])).union(*(range(max(a, first), b) for a, b in at[1]))
                for offset in sorted(settled - explained - copies):
                    sent = self._placed.get(spot, {}).get(offset)
                    if not self._may_be_lost(spot, offset):
                        found.append(f"{offset} of {spot} ({sent}) is settled in group {name}, and nobody did it")
        if self.dead_letters_damaged:
            return []
        for name, known in self.groups.items():
            copied = self._copies.get(name, {})
            found += [
                f"{offset} of {spot} was terminated in group {name} and is no dead letter"
                for spot, offset in sorted(known.terminated)
                if offset not in copied.get(spot, set())
                and offset >= self._purged.get(spot, 0)
                and not self._may_be_lost(spot, offset)
            ]
        return found

    def _may_be_lost(self, spot: Spot, offset: int) -> bool:
        sent = self._placed.get(spot, {}).get(offset)
        return self.damage and (sent is None or sent.may_be_lost)

    def missing(self, core: QueueCore) -> list[str]:
        """What was confirmed and is not there, though nobody has let it go."""
        found: list[str] = []
        there = {
            Spot(topic.name, partition.number): {entry.base_offset: entry.messages for entry in partition.index}
            for topic in core.topics.values()
            for partition in topic.partitions
        }
        for sent in self.sent.values():
            if not sent.confirmed or sent.base is None or sent.partition is None:
                continue
            spot = Spot(sent.topic, sent.partition)
            if spot not in there:
                found.append(f"{spot} is gone, and {sent} with it")
            elif there[spot].get(sent.base) != len(sent.messages):
                found += self._dropped(sent, sent.base, core.topics[sent.topic].partitions[sent.partition])
        return found

    def _dropped(self, sent: Sent, base: int, partition: Partition) -> list[str]:
        """Why a batch should not have been dropped."""
        spot = Spot(sent.topic, partition.number)
        groups = [cursor.group.name for cursor in partition.cursors]
        for offset in range(max(base, self._purged.get(spot, 0)), base + len(sent.messages)):
            if offset >= partition.start_offset:
                return [f"{sent} was confirmed at {base} of {spot} and is not there"]
            for name in groups:
                copies = self._copies.get(name, {}).get(spot, set())
                explained = self.groups[name].explained.get(spot, set()) | copies
                if offset not in explained and not self.dead_letters_damaged:
                    return [f"{offset} of {spot} ({sent}) was dropped before group {name} had settled it"]
            if not groups:
                return [f"{offset} of {spot} ({sent}) was dropped, though nobody had read it"]
        return []

    def check_stored(self, spot: Spot, start_offset: int, stored: Sequence[StoredBatch]) -> None:
        """All batches of a partition, in order, are what was sent, once each, without holes."""
        expected = start_offset
        for one in stored:
            if one.base_offset != expected and not self.damage:
                raise Violation(f"{spot} has nothing from {expected} to {one.base_offset}")
            expected = one.base_offset + one.count
            if one.base_offset == start_offset and one.batch not in self.sent:
                self._check_rest(spot, one)  # a purge may have cut its head off
            else:
                self._observe(spot, one.base_offset, one.batch)

    def _check_rest(self, spot: Spot, one: StoredBatch) -> None:
        messages = [message.data for message in queue_pb2.MessageBatch.FromString(one.batch).messages]
        sent, at = self._by_message.get(messages[0], (None, 0))
        if sent is None or list(sent.messages[at:]) != messages:
            raise Violation(f"{spot} has at {one.base_offset} what nobody sent: {messages}")
        self._place(sent, spot, one.base_offset - at)


def _spots(partitions: Iterable[TopicPartition]) -> set[Spot]:
    return {Spot(one.topic, one.partition) for one in partitions}


def _asked(handed: Handed, entry: AckEntry) -> frozenset[int]:
    if entry.run is None:
        return handed.offsets
    first = handed.base + entry.run[0]
    return handed.offsets & frozenset(range(first, first + entry.run[1]))


def _size(at: Standing) -> int:
    return at[0] + sum(end - first for first, end in at[1])
