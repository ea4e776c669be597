"""Which batch goes out when: the rules of the outbox, and a model of a queue that fails in every way."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.queue.clients.batches import Batch
from telemetry.queue.clients.errors import (
    DeliveryTimeoutError,
    InvalidRequestError,
    ProducerFencedError,
    QueueClientError,
    QueueFullError,
    QueueUnavailableError,
    SequenceGapError,
)
from telemetry.queue.clients.outbox import Outbox, Send
from telemetry.queue.core.errors import PreconditionError
from telemetry.queue.core.producers import Duplicate, Producers
from telemetry.queue.core.types import Receipt

Outcomes = dict[bytes, Receipt | QueueClientError]


def outbox(timeout_s: float | None = None, epoch: int = 0) -> Outbox:
    box = Outbox(timeout_s, on_settled=lambda batch: None)
    box.open_topic("t", epoch, {})
    return box


def batch(
    outcomes: Outcomes, name: bytes, *, partition: int = 0, count: int = 1, at: float = 0.0, sequence: int | None = None
) -> Batch:
    def done(outcome: Receipt | QueueClientError) -> None:
        assert name not in outcomes, "settled twice"
        outcomes[name] = outcome

    return Batch("t", partition, name, count, len(name), at, (done,), sequence)


def take(box: Outbox, now: float = 0.0) -> list[Send]:
    sends = []
    while (send := box.next_send(now)) is not None:
        sends.append(send)
    return sends


def names(sends: list[Send]) -> list[bytes]:
    return [send.batch.encoded for send in sends]


def test_the_first_batch_of_a_partition_goes_alone_and_the_rest_follow_its_receipt() -> None:
    outcomes: Outcomes = {}
    box = outbox()
    for name in (b"a", b"b", b"c"):
        box.add(batch(outcomes, name, count=10))
    (first,) = take(box)
    assert names([first]) == [b"a"]
    box.answer(first.request_id, Receipt(0, 0), 0.0)
    rest = take(box)
    assert names(rest) == [b"b", b"c"]
    assert [send.first_sequence for send in rest] == [10, 20]
    assert outcomes == {b"a": Receipt(0, 0)}


def test_partitions_do_not_wait_for_each_other() -> None:
    outcomes: Outcomes = {}
    box = outbox()
    for partition in range(3):
        box.add(batch(outcomes, b"%d" % partition, partition=partition))
    assert sorted(names(take(box))) == [b"0", b"1", b"2"]


def flowing(outcomes: Outcomes) -> Outbox:
    box = outbox()
    box.add(batch(outcomes, b"first"))
    box.answer(take(box)[0].request_id, Receipt(0, 0), 0.0)
    return box


def test_a_broken_stream_sends_all_unanswered_again_with_the_same_sequences_and_the_first_alone() -> None:
    outcomes: Outcomes = {}
    box = flowing(outcomes)
    for name in (b"a", b"b"):
        box.add(batch(outcomes, name))
    before = take(box)
    box.take_back_all()
    (alone,) = take(box)
    assert (alone.batch, alone.first_sequence, alone.epoch) == (before[0].batch, 1, 0)
    assert alone.request_id != before[0].request_id
    box.answer(alone.request_id, Receipt(0, 1), 0.0)
    assert [(send.batch.encoded, send.first_sequence) for send in take(box)] == [(b"b", 2)]


def test_an_answer_to_a_send_that_was_taken_back_is_not_looked_at() -> None:
    outcomes: Outcomes = {}
    box = outbox()
    box.add(batch(outcomes, b"a"))
    (old,) = take(box)
    box.take_back_all()
    box.answer(old.request_id, InvalidRequestError("late"), 0.0)
    assert outcomes == {}


def test_a_full_queue_gets_everything_again_in_order_after_the_time_it_asked_for() -> None:
    outcomes: Outcomes = {}
    box = flowing(outcomes)
    for name in (b"a", b"b"):
        box.add(batch(outcomes, name))
    first, second = take(box)
    box.answer(first.request_id, QueueFullError("full", retry_after_s=3.0), 10.0)
    box.answer(second.request_id, SequenceGapError("gap"), 10.0)
    assert take(box, 12.9) == []
    assert box.next_retry_at() == 13.0
    (again,) = take(box, 13.0)
    assert (again.batch.encoded, again.first_sequence, again.epoch) == (b"a", 1, 0)
    assert outcomes.keys() == {b"first"}


def test_a_refused_batch_fails_alone_and_those_behind_it_go_on_in_the_next_epoch() -> None:
    outcomes: Outcomes = {}
    box = flowing(outcomes)
    for name in (b"bad", b"good"):
        box.add(batch(outcomes, name))
    bad, good = take(box)
    box.answer(bad.request_id, InvalidRequestError("too large"), 0.0)
    box.answer(good.request_id, SequenceGapError("gap"), 0.0)
    (again,) = take(box)
    assert (again.batch.encoded, again.first_sequence, again.epoch) == (b"good", 2, 1)
    assert isinstance(outcomes[b"bad"], InvalidRequestError)
    assert b"good" not in outcomes


def test_a_gap_of_our_own_counting_is_healed_by_the_next_epoch_but_only_once() -> None:
    outcomes: Outcomes = {}
    box = flowing(outcomes)
    box.add(batch(outcomes, b"a"))
    (send,) = take(box)
    box.answer(send.request_id, SequenceGapError("the server lost something"), 0.0)
    (again,) = take(box)
    assert again.epoch == 1
    box.answer(again.request_id, SequenceGapError("still"), 0.0)
    assert isinstance(outcomes[b"a"], SequenceGapError)


@pytest.mark.parametrize("refusal", [SequenceGapError("gap"), InvalidRequestError("too large")])
def test_a_caller_that_counts_can_go_back_to_what_was_not_stored(refusal: QueueClientError) -> None:
    outcomes: Outcomes = {}
    box = flowing(outcomes)
    for name, sequence in ((b"7", 7), (b"8", 8)):
        box.add(batch(outcomes, name, sequence=sequence))
    first, second = take(box)
    box.add(batch(outcomes, b"9", sequence=9))
    box.answer(first.request_id, refusal, 0.0)
    box.answer(second.request_id, SequenceGapError("gap"), 0.0)
    assert outcomes[b"7"] is refusal
    assert isinstance(outcomes[b"8"], SequenceGapError)
    assert isinstance(outcomes[b"9"], SequenceGapError)
    box.add(batch(outcomes, b"1", sequence=1))
    (send,) = take(box)
    assert (send.first_sequence, send.epoch) == (1, 0)


def test_a_fenced_producer_fails_everything_now_and_later() -> None:
    outcomes: Outcomes = {}
    box = flowing(outcomes)
    for name in (b"a", b"b"):
        box.add(batch(outcomes, name))
    box.answer(take(box)[0].request_id, ProducerFencedError("a newer one is at work"), 0.0)
    box.add(batch(outcomes, b"c"))
    assert all(isinstance(outcomes[name], ProducerFencedError) for name in (b"a", b"b", b"c"))
    assert take(box) == []


def test_what_waits_for_too_long_fails_with_the_last_reason() -> None:
    outcomes: Outcomes = {}
    box = outbox(timeout_s=5.0)
    box.add(batch(outcomes, b"a", at=0.0))
    box.answer(take(box)[0].request_id, QueueFullError("topic t is full", retry_after_s=60.0), 1.0)
    assert box.next_expiry_at() == 5.0
    assert not box.expire(4.9)
    assert not box.expire(5.0)
    error = outcomes[b"a"]
    assert isinstance(error, DeliveryTimeoutError)
    assert "topic t is full" in error.message


def test_an_expired_batch_that_was_in_flight_says_that_the_stream_is_stuck() -> None:
    outcomes: Outcomes = {}
    box = outbox(timeout_s=5.0)
    box.add(batch(outcomes, b"a", at=0.0))
    take(box)
    assert box.expire(5.0)
    assert box.next_expiry_at() is None


def test_answers_out_of_order_mean_that_the_stream_cannot_be_trusted() -> None:
    outcomes: Outcomes = {}
    box = flowing(outcomes)
    for name in (b"a", b"b"):
        box.add(batch(outcomes, name))
    _, second = take(box)
    with pytest.raises(QueueUnavailableError):
        box.answer(second.request_id, Receipt(0, 2), 0.0)


@dataclass
class ModelQueue:
    """One partition as the contract describes it, with the engine's own memory of producers."""

    refused: set[bytes]
    producers: Producers = field(default_factory=Producers)
    stored: list[bytes] = field(default_factory=list)

    def publish(self, send: Send) -> Receipt | QueueClientError:
        count = send.batch.count
        if send.batch.encoded in self.refused:
            return InvalidRequestError("bad")
        try:
            verdict = self.producers.check("p", send.epoch, send.first_sequence, count)
        except PreconditionError as error:
            kind = SequenceGapError if error.field == "first_sequence" else ProducerFencedError
            return kind(error.message, field=error.field)
        if isinstance(verdict, Duplicate):
            return Receipt(0, verdict.base_offset, duplicate=True)
        self.producers.store("p", send.epoch, send.first_sequence, count, len(self.stored), 0)
        self.stored.append(send.batch.encoded)
        return Receipt(0, len(self.stored) - 1)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_whatever_fails_each_confirmed_batch_is_stored_once_and_in_order(seed: int, batches: int) -> None:
    chance = random.Random(seed)
    outcomes: Outcomes = {}
    box = outbox()
    everything = [b"%04d" % number for number in range(batches)]
    queue = ModelQueue(refused={name for name in everything if chance.random() < 0.1})
    coming = deque(everything)
    wire: deque[Send] = deque()
    stragglers: deque[Send] = deque()  # of streams that the client has given up, not yet read by the queue
    answers: deque[tuple[str, Receipt | QueueClientError]] = deque()
    for now in range(100_000):
        if len(outcomes) == batches:
            break
        calm = now > 500
        if coming and (calm or chance.random() < 0.5):
            box.add(batch(outcomes, coming.popleft(), count=chance.randint(1, 3)))
        wire.extend(take(box, now))
        event = "serve" if calm else chance.choice(["serve", "serve", "serve", "full", "break", "straggler"])
        if event == "serve" and wire:
            send = wire.popleft()
            answers.append((send.request_id, queue.publish(send)))
        elif event == "full" and wire:
            answers.append((wire.popleft().request_id, QueueFullError("full", retry_after_s=2.0)))
        elif event == "straggler" and stragglers:
            queue.publish(stragglers.popleft())
        elif event == "break":
            stragglers.extend(wire)
            wire.clear()
            answers.clear()
            box.take_back_all()
        while answers and (calm or chance.random() < 0.6):
            box.answer(*answers.popleft(), now)
    for name in everything:
        assert isinstance(outcomes[name], InvalidRequestError if name in queue.refused else Receipt)
    assert queue.stored == [name for name in everything if name not in queue.refused]


def test_a_queue_that_forgets_the_producer_loses_nothing() -> None:
    outcomes: Outcomes = {}
    box = flowing(outcomes)
    queue = ModelQueue(refused=set())
    for name in (b"a", b"b", b"c"):
        box.add(batch(outcomes, name))
    wire = deque(take(box))
    wire.popleft()  # the stream breaks after the queue has read the first and forgotten everything
    box.take_back_all()
    while len(outcomes) < 4:
        for send in take(box):
            box.answer(send.request_id, queue.publish(send), 0.0)
    assert queue.stored == [b"a", b"b", b"c"]
