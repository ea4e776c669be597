"""What waits in a session's outbox, and what becomes of it when it cannot be sent."""

from __future__ import annotations

from telemetry.queue.core.clock import Instant
from telemetry.queue.core.queue import QueueCore
from telemetry.queue.core.sessions import OUTBOX_BYTES_MAX, Handout, Session
from telemetry.queue.core.topics import TopicDefaults
from telemetry.queue.core.types import PublishBatch, Storage, SubscribeOptions, TopicConfig

START = Instant(100.0, 1_000_000)


def later(seconds: float) -> Instant:
    return Instant(START.monotonic_s + seconds, START.wall_us + int(seconds * 1e6))


def queue_of(messages: int, size: int = 10) -> QueueCore:
    core = QueueCore("nonce", TopicDefaults(Storage.MEMORY, {Storage.MEMORY: 1 << 40}))
    core.create_topic(TopicConfig("t"), START)
    for position in range(messages):
        target = core.target(batch := PublishBatch("t", bytes(size), 1))
        core.confirm([core.place(target.partition, batch, position, START)], START)
    return core


def member(core: QueueCore, permits: int) -> Session:
    session = core.subscribe(SubscribeOptions(("t",), group="g", ack_wait_s=30.0), START)
    core.add_permits(session, permits, 0, START)
    return session


def offsets(outgoing: object) -> list[tuple[int, int]]:
    """Offset and attempt of each handout."""
    assert isinstance(outgoing, list)
    return [(one.entry.base_offset, one.attempt) for one in outgoing if isinstance(one, Handout)]


def test_a_lease_that_ran_out_before_it_was_sent_gives_its_permits_back() -> None:
    core = queue_of(1)
    session = member(core, permits=1)
    core.tick(later(30))
    assert offsets(core.take(session, later(30))) == [(0, 2)]
    assert session.permits_messages == 0


def test_what_could_not_be_sent_is_sent_next() -> None:
    core = queue_of(3)
    session = member(core, permits=3)
    taken = core.take(session, START)
    core.put_back(session, taken, START)
    assert core.take(session, START) == taken


def test_what_could_not_be_sent_goes_elsewhere_once_the_session_has_stopped() -> None:
    core = queue_of(3)
    session = member(core, permits=3)
    taken = core.take(session, START)
    core.stop_delivering(session, START)
    core.put_back(session, taken, START)
    assert session.exhausted
    assert offsets(core.take(member(core, permits=9), START)) == [(0, 1), (1, 1), (2, 1)]


def test_an_outbox_holds_no_more_than_its_bound_and_others_take_the_rest() -> None:
    core = queue_of(8, size=OUTBOX_BYTES_MAX // 2)
    slow, fast = member(core, permits=100), member(core, permits=100)
    assert len(offsets(core.take(fast, START))) == 2
    assert len(offsets(core.take(fast, START))) == 2
    assert len(offsets(core.take(fast, START))) == 2
    assert offsets(core.take(fast, START)) == []
    assert len(offsets(core.take(slow, START))) == 2
