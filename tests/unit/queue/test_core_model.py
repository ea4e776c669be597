"""The core against a model that keeps one entry a message and does everything the slow way."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from telemetry.queue.core.clock import Instant
from telemetry.queue.core.delivery import State
from telemetry.queue.core.queue import QueueCore
from telemetry.queue.core.sessions import Handout, Session
from telemetry.queue.core.topics import TopicDefaults
from telemetry.queue.core.types import (
    AckEntry,
    AckStatus,
    Assigned,
    AtOffset,
    Mode,
    Outcome,
    PublishBatch,
    Revoked,
    Storage,
    SubscribeOptions,
    TopicConfig,
)

PARTITIONS = 2
ACK_WAIT_S = 10.0
MAX_DELIVER = 3
MAX_UNACKED = 12
BACKOFF_S = (2.0, 5.0)

Key = tuple[int, int]
"""A message: partition and offset."""


@dataclass
class Message:
    """What the model knows of one message."""

    state: str = "ready"
    attempts: int = 0
    lease: str = ""
    until_s: float = 0.0


@dataclass
class Lease:
    """A delivery as the model saw it go out."""

    session: Session
    partition: int
    base: int
    offsets: list[int]
    at_most_until_s: float | None = None
    """Until when extending may prolong it, once its partition was revoked."""


@dataclass
class Model:
    """One group on one topic."""

    messages: dict[Key, Message] = field(default_factory=dict)
    ends: list[int] = field(default_factory=lambda: [0] * PARTITIONS)
    leases: dict[str, Lease] = field(default_factory=dict)

    def of_lease(self, delivery_id: str) -> list[tuple[Key, Message]]:
        return [(key, message) for key, message in self.messages.items() if message.lease == delivery_id]


class QueueMachine(RuleBasedStateMachine):
    """Drives a core, and checks whatever it hands out."""

    @initialize(mode=st.sampled_from(Mode))
    def begin(self, mode: Mode) -> None:
        self.mode = mode
        self.now_s = 100.0
        self.model = Model()
        self.sessions: list[Session] = []
        self.core = QueueCore("nonce", TopicDefaults(Storage.MEMORY, {Storage.MEMORY: 1 << 30}))
        self.core.create_topic(TopicConfig("t", partitions=PARTITIONS), self.now)
        self.position = 0
        self.owner: dict[int, Session | None] = dict.fromkeys(range(PARTITIONS))
        self.highest: dict[int, int] = dict.fromkeys(range(PARTITIONS), -1)
        self.join(permits=5)

    @property
    def now(self) -> Instant:
        return Instant(self.now_s, int(self.now_s * 1e6))

    @rule(permits=st.integers(0, 10))
    def join(self, permits: int) -> None:
        if len(self.sessions) >= 4:
            return
        options = SubscribeOptions(
            ("t",),
            group="g",
            mode=self.mode,
            ack_wait_s=ACK_WAIT_S,
            max_deliver=MAX_DELIVER,
            max_unacked=MAX_UNACKED,
            backoff_s=BACKOFF_S,
        )
        assert self.core.check_subscription(options) == []
        session = self.core.subscribe(options, self.now)
        self.sessions.append(session)
        self.core.add_permits(session, permits, 0, self.now)
        self.after()

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), drained=st.booleans())
    def leave(self, data: st.DataObject, drained: bool) -> None:
        session = data.draw(st.sampled_from(self.sessions))
        self.take(session)
        self.sessions.remove(session)
        for delivery_id, lease in list(self.model.leases.items()):
            if lease.session is session:
                self.lose(delivery_id, "drained" if drained else "vanished")
        self.core.close(session, self.now, drained=drained)
        self.after()

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), permits=st.integers(1, 10))
    def permit(self, data: st.DataObject, permits: int) -> None:
        self.core.add_permits(data.draw(st.sampled_from(self.sessions)), permits, 0, self.now)
        self.after()

    @rule(partition=st.integers(0, PARTITIONS - 1), count=st.integers(1, 5), store=st.booleans())
    def publish(self, partition: int, count: int, store: bool) -> None:
        batch = PublishBatch("t", b"x" * count, count, partition=partition)
        target = self.core.target(batch)
        placed = self.core.place(target.partition, batch, self.position, self.now)
        self.position += 1
        assert placed.entry.base_offset == self.model.ends[partition]
        if not store:
            self.core.withdraw(placed)
            return
        for offset in range(self.model.ends[partition], self.model.ends[partition] + count):
            self.model.messages[partition, offset] = Message()
        self.model.ends[partition] += count
        self.core.confirm([placed], self.now)
        self.after()

    @precondition(lambda self: self.model.leases)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome), part=st.booleans(), delay=st.sampled_from([None, 0.0, 3.0]))
    def settle(self, data: st.DataObject, outcome: Outcome, part: bool, delay: float | None) -> None:
        delivery_id = data.draw(st.sampled_from(sorted(self.model.leases)))
        lease = self.model.leases[delivery_id]
        held = self.model.of_lease(delivery_id)
        run = None
        if part:
            first = data.draw(st.sampled_from(lease.offsets))
            last = first
            while last + 1 in lease.offsets and data.draw(st.booleans()):
                last += 1
            run = (first - lease.base, last + 1 - first)
            held = [(key, message) for key, message in held if first <= key[1] <= last]
            still_held = bool(held)
        else:
            still_held = True
        delay_s = delay if outcome in (Outcome.NACK, Outcome.EXTEND) else None
        (status,), _ = self.core.ack([AckEntry(delivery_id, outcome, run, delay_s)], self.now)
        if not still_held:
            assert status in (AckStatus.STALE, AckStatus.OK)
            self.after()
            return
        assert status is AckStatus.OK
        if outcome is Outcome.EXTEND:
            for _, message in self.model.of_lease(delivery_id):
                message.until_s = self.now_s + (ACK_WAIT_S if delay_s is None else delay_s)
                if lease.at_most_until_s is not None:
                    message.until_s = min(message.until_s, lease.at_most_until_s)
        for _, message in held if outcome is not Outcome.EXTEND else ():
            message.lease = ""
            if outcome is Outcome.ACK:
                message.state = "done"
            elif outcome is Outcome.TERMINATE or message.attempts >= MAX_DELIVER:
                message.state = "burying"
            else:
                self.wait(message, delay_s)
        if not self.model.of_lease(delivery_id):
            del self.model.leases[delivery_id]
        self.after()

    @rule(seconds=st.sampled_from([0.5, 2.0, 6.0, 11.0]))
    def pass_time(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while (due_s := self.core.next_tick_s()) is not None and due_s <= until_s:
            self.now_s = max(self.now_s, due_s)
            for delivery_id in list(self.model.leases):
                held = self.model.of_lease(delivery_id)
                if held and held[0][1].until_s <= self.now_s:
                    revoked = self.model.leases[delivery_id].at_most_until_s is not None
                    self.lose(delivery_id, "drained" if revoked else "expired")
            for message in self.model.messages.values():
                if message.state == "waiting" and message.until_s <= self.now_s:
                    message.state = "ready"
            self.core.tick(self.now)
            self.after()
        self.now_s = until_s

    @rule()
    def bury(self) -> None:
        burials, self.core.effects.burials = self.core.effects.burials, []
        for piece in burials:
            if piece.state is State.DROPPED:
                continue
            for first, end in piece.runs:
                for offset in range(first, end):
                    message = self.model.messages[piece.cursor.partition.number, offset]
                    assert message.state == "burying"
                    message.state = "done"
            self.core.buried(piece, self.now)
        self.after()

    @rule(partition=st.integers(0, PARTITIONS - 1), part=st.floats(0, 1))
    def purge(self, partition: int, part: float) -> None:
        offset = int(self.model.ends[partition] * part)
        self.core.purge(self.core.topics["t"].partitions[partition], offset, self.now)
        for (number, at), message in self.model.messages.items():
            if number == partition and at < offset:
                message.state, message.lease = "done", ""
        for delivery_id in [one for one in self.model.leases if not self.model.of_lease(one)]:
            del self.model.leases[delivery_id]
        self.after()

    @precondition(lambda self: not self.sessions)
    @rule(offset=st.integers(0, 20))
    def seek(self, offset: int) -> None:
        moved = self.core.seek_group("g", AtOffset(offset), None, None, self.now, force=False, dry_run=False)
        for position in moved:
            for (number, at), message in self.model.messages.items():
                if number == position.partition:
                    gone = at < self.core.topics["t"].partitions[number].start_offset
                    fresh = at >= position.acked_through and not gone
                    message.state, message.lease, message.attempts = "ready" if fresh else "done", "", 0
            self.highest[position.partition] = -1
        self.after()

    def wait(self, message: Message, delay_s: float | None) -> None:
        delay_s = BACKOFF_S[min(message.attempts, len(BACKOFF_S)) - 1] if delay_s is None else delay_s
        message.state = "waiting" if delay_s > 0 else "ready"
        message.until_s = self.now_s + delay_s

    def lose(self, delivery_id: str, how: str) -> None:
        """The lease has ended without an ack."""
        del self.model.leases[delivery_id]
        for _, message in self.model.of_lease(delivery_id):
            message.lease = ""
            if how == "drained":
                message.attempts -= 1
                message.state = "ready"
            elif message.attempts >= MAX_DELIVER:
                message.state = "burying"
            elif how == "expired":
                self.wait(message, None)
            else:
                message.state = "ready"

    def after(self) -> None:
        """Look at all that the core has handed out."""
        self.core.effects.woken.clear()
        while sum(self.take(session) for session in list(self.sessions)):
            pass

    def take(self, session: Session) -> bool:
        outgoing = self.core.take(session, self.now)
        for one in outgoing:
            match one:
                case Assigned(partitions):
                    for each in partitions:
                        self.owner[each.partition] = session
                        for delivery_id, lease in self.model.leases.items():
                            if lease.partition == each.partition and self.model.of_lease(delivery_id):
                                assert lease.session is session, "given to one while another still works on it"
                                lease.at_most_until_s = None
                case Revoked(partitions):
                    for each in partitions:
                        for delivery_id, lease in self.model.leases.items():
                            if lease.session is session and lease.partition == each.partition:
                                lease.at_most_until_s = until_s = self.now_s + ACK_WAIT_S
                                for _, message in self.model.of_lease(delivery_id):
                                    message.until_s = min(message.until_s, until_s)
                case Handout():
                    self.check(session, one)
        return bool(outgoing)

    def check(self, session: Session, handout: Handout) -> None:
        """A delivery holds messages that were ready, all of the same attempt, to whom and when it may."""
        number, base = handout.partition.number, handout.entry.base_offset
        runs = handout.due or ((0, handout.entry.messages),)
        offsets = [base + at for first, count in runs for at in range(first, first + count)]
        assert len(offsets) == handout.messages
        assert handout.delivery_id not in self.model.leases
        for offset in offsets:
            message = self.model.messages[number, offset]
            assert message.state == "ready", (number, offset, message)
            message.state, message.lease = "leased", handout.delivery_id
            message.attempts += 1
            message.until_s = self.now_s + ACK_WAIT_S
            assert message.attempts == handout.attempt <= MAX_DELIVER
        if self.mode is Mode.ORDERED:
            assert self.owner[number] is session
            for (partition, offset), message in self.model.messages.items():
                if partition == number and offset < offsets[0]:
                    assert message.state not in ("waiting", "ready"), "went out after one that awaits redelivery"
        self.model.leases[handout.delivery_id] = Lease(session, number, base, offsets)

    @invariant()
    def the_core_agrees(self) -> None:
        if not hasattr(self, "core") or "g" not in self.core.groups:
            return
        group = self.core.groups["g"]
        messages = self.model.messages
        assert all(session.permits_messages >= 0 for session in self.sessions)
        assert sum(session.unacked for session in self.sessions) == sum(m.state == "leased" for m in messages.values())
        assert group.unsettled >= sum(m.state in ("leased", "waiting", "burying") for m in messages.values())
        assert group.unsettled <= MAX_UNACKED
        for partition, cursor in group.cursors.items():
            done = [messages[partition.number, offset].state == "done" for offset in range(partition.visible_end)]
            through = done.index(False) if False in done else len(done)
            assert cursor.acked_through == through
            assert cursor.lag() == done.count(False)
            assert cursor.ready_count() == sum(
                message.state == "ready" for (number, _), message in messages.items() if number == partition.number
            )

    @invariant()
    def nothing_ready_is_held_back_from_a_member_with_room(self) -> None:
        if not hasattr(self, "core") or "g" not in self.core.groups:
            return
        group = self.core.groups["g"]
        if group.unsettled >= MAX_UNACKED or self.mode is Mode.ORDERED:
            return
        if any(session.permits_messages > 0 for session in self.sessions):
            assert not any(message.state == "ready" for message in self.model.messages.values())


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
