"""The queue's users: producers who resend until they are answered, and members who do what people do."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from telemetry.queue.core.errors import PreconditionError
from telemetry.queue.core.types import (
    AckEntry,
    AckStatus,
    Delivery,
    Outcome,
    Place,
    PublishBatch,
    SubscribeOptions,
    SubscriptionEvent,
)
from telemetry.v1 import queue_pb2
from tests.simulation.broker import Answer, Broker, ServerSide
from tests.simulation.ledger import Ledger, Sent, Violation
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import Link, Network
from tests.simulation.scenario import GroupPlan, Scenario

WINDOW: Final = 4
"""Batches that a producer has unanswered in a partition."""
PERMITS_MESSAGES: Final = 6
PERMITS_BYTES: Final = 600


class World(Protocol):
    """What clients need."""

    loop: SimulatedLoop
    rng: random.Random
    network: Network
    broker: Broker
    ledger: Ledger
    scenario: Scenario
    calm: bool

    def trace(self, *parts: object) -> None: ...


class Client:
    """Somebody with a connection who comes back when it breaks."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.link: Link | None = None

    def start(self) -> None:
        """Come."""
        self.world.loop.after(self.world.rng.random() * 0.2, self._connect)

    def vanish(self) -> None:
        """Lose the connection."""
        if self.link is not None:
            self.world.trace("cut", self.name)
            self.link.cut()

    def _connect(self) -> None:
        world = self.world
        if self.link is not None and not self.link.closed:
            return
        if world.broker.process is None:
            world.loop.after(0.05 + world.rng.random() * 0.1, self._connect)
            return
        self.link = world.network.connect(world.broker.process, self._lost)
        self.connected(self.link)

    def _lost(self) -> None:
        self.link = None
        self.disconnected()
        self.world.loop.after(0.01 + self.world.rng.random() * 0.2, self._connect)

    def connected(self, link: Link) -> None:
        """The connection is there."""

    def disconnected(self) -> None:
        """It is gone."""


class Lane:
    """What a producer sends to one partition, in order."""

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.next_sequence = 0
        self.unanswered: deque[tuple[int, Sent]] = deque()
        self.in_flight = 0
        self.stalled = False


class Producer(Client):
    """Sends batches with sequences, in order, and again until they are confirmed; begins a new epoch when it dies."""

    def __init__(self, world: World, name: str, *, idempotent: bool) -> None:
        super().__init__(world, name)
        self._idempotent = idempotent
        self._epoch = 1
        self._made = 0
        self._lanes = [
            Lane(topic.name, partition) for topic in world.scenario.topics for partition in range(topic.partitions)
        ]
        self._connection = 0

    def start(self) -> None:
        """Come, and begin to send."""
        super().start()
        self._next()

    @property
    def done(self) -> bool:
        """Whether all is confirmed."""
        return not any(lane.unanswered for lane in self._lanes)

    def die(self) -> None:
        """Forget what was not answered and begin again."""
        self.world.trace("dies", self.name)
        self._begin_epoch()
        if self.link is not None:
            self.link.cut()

    def _begin_epoch(self) -> None:
        self._epoch += 1
        for lane in self._lanes:
            lane.unanswered.clear()
            lane.next_sequence = 0
            lane.in_flight = 0
            lane.stalled = False
        self._connection += 1

    def _next(self) -> None:
        world = self.world
        if world.calm:
            return
        world.loop.after(world.rng.random() * 2 * world.scenario.publish_every_s, self._next)
        lane = world.rng.choice(self._lanes)
        if len(lane.unanswered) >= WINDOW:
            return
        sent = self._make(lane)
        world.ledger.send(sent)
        lane.unanswered.append((lane.next_sequence, sent))
        lane.next_sequence += len(sent.messages)
        if self.link is not None and not lane.stalled:
            self._send(lane, *lane.unanswered[-1])

    def _make(self, lane: Lane) -> Sent:
        rng = self.world.rng
        messages = []
        for _ in range(rng.randint(1, 4)):
            self._made += 1
            name = f"{self.name}#{self._made}"
            messages.append(name.ljust(rng.randint(1, self.world.scenario.message_bytes), ".").encode())
        batch = queue_pb2.MessageBatch(messages=[queue_pb2.Message(data=data) for data in messages])
        return Sent(lane.topic, lane.partition, batch.SerializeToString(), tuple(messages))

    def connected(self, link: Link) -> None:
        """Send again what was not answered."""
        self._connection += 1
        for lane in self._lanes:
            lane.in_flight = 0
            lane.stalled = False
            self._send_all(lane)

    def disconnected(self) -> None:
        """Whoever has no sequences cannot send again."""
        self._connection += 1
        if not self._idempotent:
            for lane in self._lanes:
                lane.unanswered.clear()

    def _send_all(self, lane: Lane) -> None:
        for sequence, sent in lane.unanswered:
            self._send(lane, sequence, sent)

    def _send(self, lane: Lane, sequence: int, sent: Sent) -> None:
        assert self.link is not None
        batch = PublishBatch(lane.topic, sent.batch, len(sent.messages), partition=lane.partition)
        if self._idempotent:
            batch = PublishBatch(
                lane.topic,
                sent.batch,
                len(sent.messages),
                partition=lane.partition,
                producer_id=self.name,
                producer_epoch=self._epoch,
                first_sequence=sequence,
            )
        lane.in_flight += 1
        connection = self._connection
        self.world.trace("send", sent, "to", lane.topic, lane.partition, "as", sequence)
        link = self.link

        def answered(answer: Answer) -> None:
            if connection == self._connection:
                self._answered(lane, sequence, sent, answer)

        link.to_server(self.world.broker.publish, link, batch, answered)
        if self._idempotent and not self.world.calm and self.world.rng.random() < 0.03:
            lane.in_flight += 1
            link.to_server(self.world.broker.publish, link, batch, answered)

    def _answered(self, lane: Lane, sequence: int, sent: Sent, answer: Answer) -> None:
        world = self.world
        lane.in_flight -= 1
        world.trace("answer", sent, answer)
        waiting = (sequence, sent) in lane.unanswered
        if not isinstance(answer, Exception) or not self._idempotent:
            if waiting:
                lane.unanswered.remove((sequence, sent))
        elif waiting:
            first = lane.unanswered[0][0] == sequence
            if isinstance(answer, PreconditionError) and first and not lane.stalled:
                if not world.ledger.damage:
                    world.loop.fail(Violation(f"{self.name} has sent all that it should, and is told: {answer}"))
                self._begin_epoch()
                return
            lane.stalled = True
        if lane.stalled and not lane.in_flight:
            world.loop.after(0.1 + world.rng.random() * 0.3, self._go_on, lane, self._connection)

    def _go_on(self, lane: Lane, connection: int) -> None:
        if connection == self._connection and self.link is not None and lane.stalled and not lane.in_flight:
            lane.stalled = False
            self._send_all(lane)


class Member(Client):
    """Is given messages and does something with them."""

    def __init__(self, world: World, plan: GroupPlan, name: str) -> None:
        super().__init__(world, name)
        self._plan = plan
        self._add_permits: ServerSide | None = None

    def leave(self) -> None:
        """Go, and come back after a while."""
        if self.link is not None:
            self.world.trace("leaves", self.name)
            self.link.leave()
            self._lost()

    def connected(self, link: Link) -> None:
        """Join."""
        plan = self._plan
        options = SubscribeOptions(
            plan.topics,
            group=plan.name,
            member=self.name,
            position=Place.LATEST if plan.from_latest else Place.EARLIEST,
            mode=plan.mode,
            ack_wait_s=plan.ack_wait_s,
            max_deliver=plan.max_deliver,
            backoff_s=plan.backoff_s,
            max_unacked=plan.max_unacked,
        )
        link.to_server(self.world.broker.subscribe, link, options, self._started, self._event)

    def disconnected(self) -> None:
        """What it has is somebody else's now."""
        self._add_permits = None

    def _started(self, add_permits: ServerSide) -> None:
        self._add_permits = add_permits
        self._permit(PERMITS_MESSAGES, PERMITS_BYTES if self._plan.max_deliver % 2 else 0)

    def _permit(self, messages: int, size: int) -> None:
        if self.link is not None and self._add_permits is not None:
            self.link.to_server(self._add_permits, messages, size if self._plan.max_deliver % 2 else 0)

    def _event(self, event: SubscriptionEvent) -> None:
        if not isinstance(event, Delivery):
            return
        rng, world = self.world.rng, self.world
        wait_s = self._plan.ack_wait_s
        id_ = event.delivery_id
        count = sum(size for _, size in event.due) if event.due else event.count
        world.loop.after(0.001 if world.calm else rng.random() * 0.2, self._permit, count, len(event.batch))
        ack = AckEntry(id_, Outcome.ACK)
        if world.calm or rng.random() < self.world.scenario.care:
            self._later(0.001 if world.calm else rng.random() * 0.3 * wait_s, ack)
            return
        first = event.due[0][0] if event.due else 0
        match rng.randrange(8):
            case 0:
                self._later(rng.random() * wait_s, AckEntry(id_, Outcome.NACK, delay_s=rng.choice((None, 0.0, 0.5))))
            case 1:
                self._later(rng.random() * wait_s, AckEntry(id_, Outcome.TERMINATE, reason="bad"))
            case 2:
                self._later(rng.random() * 0.5 * wait_s, AckEntry(id_, Outcome.ACK, (first, 1)))
                self._later(rng.random() * wait_s, AckEntry(id_, rng.choice((Outcome.ACK, Outcome.NACK))))
            case 3:
                self._later(rng.random() * wait_s, AckEntry(id_, Outcome.EXTEND, delay_s=wait_s))
                self._later(1.5 * wait_s * rng.random(), ack)
            case 4:
                self._later(wait_s * (0.9 + rng.random() * 0.3), ack)  # late, or nearly
            case 5:
                self._later(rng.random() * 0.3, ack)
                self._later(rng.random() * 2 * wait_s, ack)  # twice
            case 6:
                last = first + 1
                if event.count > last and not event.due:
                    entry = AckEntry(id_, Outcome.NACK, (last, 1), delay_s=0.2)
                    self._later(rng.random() * 0.5 * wait_s, entry, ack)
            case _:
                pass  # forgotten

    def _later(self, delay_s: float, *entries: AckEntry) -> None:
        self.world.loop.after(delay_s, self._ack, entries)

    def _ack(self, entries: Sequence[AckEntry]) -> None:
        """Ack, perhaps on another connection than the one that the delivery came on."""
        if self.link is not None:
            self.link.to_server(self.world.broker.ack, self.link, entries, self._acked(entries))

    def _acked(self, entries: Sequence[AckEntry]) -> Callable[[Sequence[AckStatus]], None]:
        def answered(statuses: Sequence[AckStatus]) -> None:
            for entry, status in zip(entries, statuses, strict=True):
                self.world.trace("acked", self.name, entry, status)

        return answered
