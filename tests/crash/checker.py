"""Holds what publishers and subscribers saw against what the queue promises. Pure: ledgers in, breaches out.

Theory of operation. Everybody wrote down what they were about to do before they did it, and what they learned when they
learned it. So whatever the queue did lies between two lines, and each rule only calls a breach what no timing allows.
An outcome without an answer may have counted or not; so may one reported STALE because the queue itself went away in
between. A delivery can lie in a member's socket while the message goes elsewhere: where the order of two processes'
lines matters, `SLACK_S` is granted.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

from tests.crash.ledger import (
    ACK,
    NACK,
    OK,
    STALE,
    TERMINATE,
    Assigned,
    Confirmed,
    Delivered,
    Event,
    Refused,
    Revoked,
    Sent,
    Settled,
    Settling,
)

SLACK_S: Final = 2.0
"""How long a delivery may wait for its reader to write it down."""


class Breach(enum.Enum):
    """What the queue must not do."""

    LOST = "a confirmed message is not stored"
    MISPLACED = "a confirmed message is not where its receipt says"
    INVENTED = "a message that nobody sent"
    STORED_TWICE = "a message is stored more than once"
    HOLE = "offsets are not dense"
    MISORDERED_LOG = "messages of one publisher are stored out of order"
    REFUSED = "a publisher was refused"
    ALTERED = "an offset is delivered with another message than is stored there"
    SKIPPED = "a group has gone past a message that nobody settled"
    REPEATED = "a message is delivered after its outcome was confirmed"
    DUPLICATED = "a message is delivered twice without a reason"
    REORDERED = "an ORDERED group sees messages out of order"
    DEAD_LETTER_LOST = "a message that was given up is not in the dead-letter topic"
    DEAD_LETTER_WRONG = "a dead letter is not what it says it is"


class Violation(NamedTuple):
    """One breach, and where."""

    breach: Breach
    where: str

    def __str__(self) -> str:
        return f"{self.breach.value}: {self.where}"


@dataclass(frozen=True, slots=True)
class Life:
    """One process from its start to its end. ``ended`` is not later than its death, in monotonic seconds."""

    name: str
    ended: float
    events: Sequence[Event]


class Outage(NamedTuple):
    """The queue was away: from before it was killed until it was back."""

    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class GroupRules:
    """A group's settings."""

    ordered: bool
    max_deliver: int


class DeadLetter(NamedTuple):
    """What lies in the dead-letter topic."""

    id: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class History:
    """All that is known at the end, when the groups say that they have settled everything."""

    topic: str
    publishers: Sequence[Life]
    members: Mapping[str, Sequence[Life]]
    """The lives of each group's members."""
    groups: Mapping[str, GroupRules]
    outages: Sequence[Outage]
    stored: Mapping[int, Sequence[tuple[int, str]]]
    """What each partition holds: offset and id, in order."""
    dead_letters: Sequence[DeadLetter]


def check(history: History) -> list[Violation]:
    """All breaches; none means that every promise was kept."""
    found = [*_check_log(history)]
    for group in history.groups:
        found += _GroupCheck(history, group).run()
    return found


# The log


def _check_log(history: History) -> Iterator[Violation]:
    sent: dict[str, tuple[str, int, int]] = {}
    confirmed: dict[str, tuple[int, int | None]] = {}
    for life in history.publishers:
        for event in life.events:
            if isinstance(event, Sent):
                for at, name in enumerate(event.ids):
                    sent[name] = (event.lane, event.partition, event.first + at)
            elif isinstance(event, Confirmed):
                for at, name in enumerate(event.ids):
                    offset = None if event.base_offset is None else event.base_offset + at
                    earlier = confirmed.get(name, (event.partition, None))
                    if offset is None:
                        confirmed.setdefault(name, (event.partition, None))
                        continue
                    if earlier[1] is not None and earlier != (event.partition, offset):
                        yield Violation(Breach.MISPLACED, f"{name}: one receipt says {earlier}, another {offset}")
                    confirmed[name] = (event.partition, offset)
            elif isinstance(event, Refused):
                yield Violation(Breach.REFUSED, f"{life.name}: {event.reason}")

    places: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for partition, messages in history.stored.items():
        newest: dict[str, int] = {}
        for expected, (offset, _) in enumerate(messages):
            if offset != expected:
                yield Violation(Breach.HOLE, f"partition {partition} has offset {offset} where {expected} should be")
                break
        for offset, name in messages:
            places[name].append((partition, offset))
            lane, wanted, number = sent.get(name, ("", -1, -1))
            if wanted != partition:
                yield Violation(Breach.INVENTED, f"{name} is stored at {partition}/{offset}")
                continue
            if len(places[name]) == 1:
                if newest.get(lane, -1) > number:
                    yield Violation(Breach.MISORDERED_LOG, f"{name} is stored at {partition}/{offset}, too late")
                newest[lane] = max(number, newest.get(lane, -1))
    for name, where in places.items():
        if len(where) > 1:
            yield Violation(Breach.STORED_TWICE, f"{name} is stored at {where}")
    for name, (partition, receipt) in confirmed.items():
        if name not in places:
            yield Violation(Breach.LOST, f"{name}, confirmed as {partition}/{receipt}")
        elif receipt is not None and (partition, receipt) not in places[name]:
            yield Violation(Breach.MISPLACED, f"{name}, confirmed as {partition}/{receipt}, is at {places[name]}")


# The groups


@dataclass(slots=True, eq=False)
class _Delivery:
    life: Life
    event: Delivered
    turn: tuple[int, float]
    """ORDERED: which of its life's turns as the partition's owner it belongs to, and when that began."""
    settling: Settling | None = None
    settled: Settled | None = None

    @property
    def final(self) -> bool:
        """Whether the outcome was final and confirmed."""
        return (
            self.settling is not None
            and self.settling.outcome in (ACK, TERMINATE)
            and self.settled is not None
            and self.settled.status == OK
        )


@dataclass(slots=True)
class _Partition:
    deliveries: list[_Delivery] = field(default_factory=list)
    by_offset: dict[int, list[_Delivery]] = field(default_factory=lambda: defaultdict(list))


class _GroupCheck:
    def __init__(self, history: History, group: str) -> None:
        self._history = history
        self._group = group
        self._rules = history.groups[group]
        self._lives = history.members.get(group, ())
        self._partitions: dict[int, _Partition] = defaultdict(_Partition)
        for delivery in sorted(_deliveries(self._lives), key=lambda one: one.event.at):
            partition = self._partitions[delivery.event.partition]
            partition.deliveries.append(delivery)
            for offset in delivery.event.offsets:
                partition.by_offset[offset].append(delivery)
        self._buried: dict[tuple[int, int], list[DeadLetter]] = defaultdict(list)
        for letter in history.dead_letters:
            attributes = letter.attributes
            if attributes.get("dead-letter-group") == group:
                place = attributes.get("dead-letter-partition", ""), attributes.get("dead-letter-offset", "")
                if all(part.isdecimal() for part in place):
                    self._buried[int(place[0]), int(place[1])].append(letter)

    def run(self) -> Iterator[Violation]:
        for number, messages in self._history.stored.items():
            partition = self._partitions[number]
            for offset, name in messages:
                yield from self._check_message(number, offset, name, partition.by_offset.get(offset, []))
            beyond = [offset for offset in partition.by_offset if offset >= len(messages)]
            if beyond:
                yield self._violation(Breach.INVENTED, number, min(beyond), "nothing is stored there")
            if self._rules.ordered:
                yield from self._check_order(number, partition)
        for number in self._partitions:
            if number not in self._history.stored:
                yield self._violation(Breach.INVENTED, number, 0, "there is no such partition")
        yield from self._check_letters()

    # One message

    def _check_message(
        self, partition: int, offset: int, name: str, deliveries: Sequence[_Delivery]
    ) -> Iterator[Violation]:
        for delivery in deliveries:
            was = delivery.event.ids[delivery.event.offsets.index(offset)]
            if was != name:
                yield self._violation(Breach.ALTERED, partition, offset, f"{was} was delivered, {name} is stored")
        buried = bool(self._buried.get((partition, offset)))
        if not buried and not any(self._may_be_acked(one) for one in deliveries):
            outcomes = {one.settling.outcome for one in deliveries if one.settling is not None}
            breach = Breach.DEAD_LETTER_LOST if outcomes & {NACK, TERMINATE} else Breach.SKIPPED
            yield self._violation(breach, partition, offset, f"{name}, delivered {len(deliveries)} times")
        finals = [one for one in deliveries if one.final]
        if len(finals) > 1:
            yield self._violation(Breach.REPEATED, partition, offset, f"{name} was settled {len(finals)} times")
        elif finals:
            (final,) = finals
            assert final.settled is not None
            assert final.settling is not None
            late = [one for one in deliveries if one.event.at > final.settled.at + SLACK_S]
            if late:
                yield self._violation(Breach.REPEATED, partition, offset, f"{name} came again to {late[0].life.name}")
            if buried and final.settling.outcome == ACK:
                yield self._violation(Breach.DEAD_LETTER_WRONG, partition, offset, f"{name} was acked and buried")
        for before, after in pairwise(deliveries):
            if not self._may_repeat(before, after):
                yield self._violation(
                    Breach.DUPLICATED,
                    partition,
                    offset,
                    f"{name} went to {before.life.name} and {after.event.at - before.event.at:.3f} s later to "
                    f"{after.life.name}",
                )

    def _may_be_acked(self, delivery: _Delivery) -> bool:
        if delivery.settling is None or delivery.settling.outcome != ACK:
            return False
        settled = delivery.settled
        if settled is None or settled.status == OK:
            return True
        return settled.status == STALE and self._was_away(delivery.settling.at, settled.at)

    def _may_repeat(self, before: _Delivery, after: _Delivery) -> bool:
        since, until = before.event.at - SLACK_S, after.event.at
        if self._was_away(since, until) or before.life.ended <= until:
            return True
        if before.settling is not None and before.settling.outcome == NACK and before.settling.at <= until:
            return True
        moved = (after.life, after.turn) != (before.life, before.turn)
        return self._rules.ordered and moved and since <= after.turn[1] <= until

    def _was_away(self, since: float, until: float) -> bool:
        return any(outage.began <= until and since <= outage.ended for outage in self._history.outages)

    # Order

    def _check_order(self, number: int, partition: _Partition) -> Iterator[Violation]:
        settlings = sorted(
            (one.settling.at, offset)
            for one in partition.deliveries
            if one.settling is not None and one.settling.outcome != NACK
            for offset in one.event.offsets
        )
        settled_at: dict[int, float] = {}
        for at, offset in settlings:
            settled_at.setdefault(offset, at)
        never = float("inf")
        following: dict[tuple[int, int], int] = {}
        # Where everything below has been settled by then; it moves forward as the deliveries are walked in time.
        settled_below = 0
        for delivery in partition.deliveries:
            event = delivery.event
            while settled_at.get(settled_below, never) <= event.at:
                settled_below += 1
            turn = id(delivery.life), delivery.turn[0]
            expected = following.get(turn)
            if expected is None and event.offsets[0] > settled_below:
                yield self._violation(
                    Breach.REORDERED, number, event.offsets[0], f"delivered before {settled_below} was settled"
                )
            elif expected is not None and event.offsets[0] != expected:
                yield self._violation(Breach.REORDERED, number, event.offsets[0], f"delivered where {expected} was due")
            if list(event.offsets) != list(range(event.offsets[0], event.offsets[-1] + 1)):
                yield self._violation(Breach.REORDERED, number, event.offsets[0], "offsets within a delivery")
            following[turn] = event.offsets[-1] + 1

    # Dead letters

    def _check_letters(self) -> Iterator[Violation]:
        for (partition, offset), letters in self._buried.items():
            messages = self._history.stored.get(partition, ())
            name = messages[offset][1] if offset < len(messages) else "nothing"
            deliveries = self._partitions[partition].by_offset.get(offset, [])
            terminated = any(one.settling is not None and one.settling.outcome == TERMINATE for one in deliveries)
            for letter in letters:
                attributes = letter.attributes
                attempts = int(attributes.get("dead-letter-attempts", "0"))
                wrong = ""
                if letter.id != name:
                    wrong = f"holds {letter.id}, but {name} is stored there"
                elif attributes.get("dead-letter-topic-origin") != self._history.topic:
                    wrong = "names another topic"
                elif attempts < (1 if terminated else self._rules.max_deliver):
                    wrong = f"was given up after {attempts} attempts"
                elif not attributes.get("dead-letter-reason"):
                    wrong = "has no reason"
                elif not deliveries:
                    wrong = "was never delivered"
                if wrong:
                    yield self._violation(Breach.DEAD_LETTER_WRONG, partition, offset, wrong)

    def _violation(self, breach: Breach, partition: int, offset: int, what: str) -> Violation:
        return Violation(breach, f"group {self._group}, {partition}/{offset}: {what}")


def _deliveries(lives: Sequence[Life]) -> Iterator[_Delivery]:
    for life in lives:
        deliveries: dict[int, _Delivery] = {}
        turns: dict[int, tuple[int, float]] = defaultdict(lambda: (0, 0.0))
        for event in life.events:
            if isinstance(event, Delivered):
                deliveries[event.number] = _Delivery(life, event, turns[event.partition])
            elif isinstance(event, Settling):
                deliveries[event.number].settling = event
            elif isinstance(event, Settled):
                deliveries[event.number].settled = event
            elif isinstance(event, Assigned | Revoked):
                for partition in event.partitions:
                    turns[partition] = (turns[partition][0] + 1, event.at)
        yield from deliveries.values()
