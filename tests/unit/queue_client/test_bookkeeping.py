"""The small pure parts of the client: leases, permits, acks, the inbox, the window, backoff, errors."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from google.rpc import code_pb2, status_pb2

from telemetry.queue import wire_pb2
from telemetry.queue.clients.acks import ENTRIES_MAX, REQUESTS_MAX, Acks
from telemetry.queue.clients.backoff import Backoff
from telemetry.queue.clients.errors import (
    AccessDeniedError,
    InvalidRequestError,
    PreconditionFailedError,
    ProducerFencedError,
    QueueClientError,
    QueueFullError,
    QueueUnavailableError,
    RefusedError,
    SequenceGapError,
    error_from_rpc,
    error_from_status,
)
from telemetry.queue.clients.events import (
    MissedMessages,
    PartitionsAssigned,
    PartitionsRevoked,
    ReceivedDelivery,
    Settlement,
)
from telemetry.queue.clients.inbox import Inbox
from telemetry.queue.clients.leases import LEASE_S_MAX, Leases
from telemetry.queue.clients.permits import FLOW_MESSAGES_MAX, Permits
from telemetry.queue.clients.window import ByteWindow
from telemetry.queue.core.errors import FullError, InvalidArgumentError, PreconditionError
from telemetry.queue.core.types import AckStatus, Outcome, TopicPartition
from telemetry.runtime.status import CodedError, to_status
from telemetry.v1 import queue_pb2


def test_a_lease_is_extended_every_third_of_the_ack_wait_until_it_is_settled() -> None:
    leases = Leases(ack_wait_s=30.0)
    leases.add("a", now=0.0)
    leases.add("b", now=4.0)
    assert leases.next_due_at() == 10.0
    assert leases.take_due(9.9) == []
    assert leases.take_due(10.0) == ["a"]
    assert leases.take_due(14.0) == ["b"]
    leases.discard("a")
    assert leases.take_due(100.0) == ["b"]


def test_a_lease_is_not_extended_for_ever() -> None:
    leases = Leases(ack_wait_s=30.0)
    leases.add("a", now=0.0)
    assert leases.take_due(LEASE_S_MAX - 1) == ["a"]
    assert leases.take_due(LEASE_S_MAX + 10) == []
    assert leases.next_due_at() is None


def test_a_lease_without_length_does_not_keep_the_client_busy() -> None:
    leases = Leases(ack_wait_s=0.0)
    leases.add("a", now=0.0)
    assert leases.take_due(1.0) == ["a"]
    assert leases.take_due(1.0) == []


def test_permits_come_back_together() -> None:
    permits = Permits(messages=100, size=1000)
    assert not permits.waiting
    permits.give_back(20, 100)
    assert (permits.waiting, permits.urgent) == (True, False)
    permits.give_back(10, 100)
    assert permits.urgent
    assert permits.take() == queue_pb2.SubscribeFlow(messages=30, bytes=200)
    assert not permits.waiting


def test_no_request_gives_more_permits_than_one_may() -> None:
    permits = Permits(messages=10, size=10)
    permits.give_back(FLOW_MESSAGES_MAX + 5, 7)
    assert permits.take() == queue_pb2.SubscribeFlow(messages=FLOW_MESSAGES_MAX, bytes=7)
    assert permits.take() == queue_pb2.SubscribeFlow(messages=5)


def ack(acks: Acks, name: str, outcomes: dict[str, AckStatus | QueueClientError]) -> None:
    acks.add(name, Settlement(Outcome.ACK), lambda outcome: outcomes.__setitem__(name, outcome))


def answer(request: queue_pb2.AckRequest, status: queue_pb2.AckStatus.ValueType) -> queue_pb2.AckResponse:
    results = [queue_pb2.AckResult(delivery_id=entry.delivery_id, status=status) for entry in request.entries]
    return queue_pb2.AckResponse(request_id=request.request_id, results=results)


def test_acks_share_requests_up_to_the_limit_and_are_answered_in_order() -> None:
    acks, outcomes = Acks(), dict[str, AckStatus | QueueClientError]()
    for number in range(ENTRIES_MAX + 1):
        ack(acks, str(number), outcomes)
    first, second = acks.take(0.0), acks.take(0.0)
    assert first is not None
    assert second is not None
    assert (len(first.entries), len(second.entries)) == (ENTRIES_MAX, 1)
    acks.answer(answer(first, queue_pb2.ACK_STATUS_OK))
    acks.answer(answer(second, queue_pb2.ACK_STATUS_STALE))
    assert (outcomes["0"], outcomes[str(ENTRIES_MAX)]) == (AckStatus.OK, AckStatus.STALE)


def test_the_number_of_unanswered_ack_requests_is_bounded() -> None:
    acks, outcomes = Acks(), dict[str, AckStatus | QueueClientError]()
    for number in range(REQUESTS_MAX):
        ack(acks, str(number), outcomes)
        assert acks.take(float(number)) is not None
    ack(acks, "one more", outcomes)
    assert acks.take(99.0) is None
    assert acks.oldest_at() == 0.0


def test_an_entry_says_what_and_when_and_why() -> None:
    acks = Acks()
    acks.add("d", Settlement(Outcome.NACK, 1.5, "busy"), lambda outcome: None)
    acks.add("e", Settlement(Outcome.ACK), lambda outcome: None)
    request = acks.take(0.0)
    assert request is not None
    assert request.entries[0].delay.ToMilliseconds() == 1500
    assert request.entries[0].reason == "busy"
    assert not request.entries[1].HasField("delay")


def test_acks_of_a_session_that_is_over_are_stale() -> None:
    acks, outcomes = Acks(), dict[str, AckStatus | QueueClientError]()
    ack(acks, "in flight", outcomes)
    acks.take(0.0)
    ack(acks, "waiting", outcomes)
    acks.abandon()
    assert outcomes == {"in flight": AckStatus.STALE, "waiting": AckStatus.STALE}


def test_an_ack_request_that_is_refused_fails_its_entries() -> None:
    acks, outcomes = Acks(), dict[str, AckStatus | QueueClientError]()
    ack(acks, "a", outcomes)
    request = acks.take(0.0)
    assert request is not None
    error = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="bad")
    acks.answer(queue_pb2.AckResponse(request_id=request.request_id, error=error))
    assert isinstance(outcomes["a"], InvalidRequestError)


@pytest.mark.parametrize("spoil", ["request", "results"])
def test_an_answer_that_does_not_fit_ends_the_session(spoil: str) -> None:
    acks, outcomes = Acks(), dict[str, AckStatus | QueueClientError]()
    ack(acks, "a", outcomes)
    request = acks.take(0.0)
    assert request is not None
    response = answer(request, queue_pb2.ACK_STATUS_OK)
    if spoil == "request":
        response.request_id = "another"
    else:
        del response.results[:]
    with pytest.raises(QueueUnavailableError):
        acks.answer(response)
    acks.abandon()
    assert outcomes == {"a": AckStatus.STALE}


def delivery(offset: int, partition: int = 0, due: tuple[tuple[int, int], ...] = ()) -> ReceivedDelivery:
    batch = queue_pb2.MessageBatch(messages=[queue_pb2.Message(data=b"%d" % number) for number in range(10)])
    wire = wire_pb2.Delivery(
        delivery_id=f"{partition}/{offset}",
        topic="t",
        partition=partition,
        base_offset=offset,
        batch=batch.SerializeToString(),
        due=[queue_pb2.MessageRange(first=first, count=count) for first, count in due],
    )

    def settle(delivery: ReceivedDelivery, settlement: Settlement) -> asyncio.Future[AckStatus]:
        raise NotImplementedError

    return ReceivedDelivery(wire, settle)


def test_a_delivery_hands_out_only_the_messages_that_are_due() -> None:
    some = delivery(100, due=((1, 2), (7, 1)))
    assert [message.data for message in some.messages] == [b"1", b"2", b"7"]
    assert list(some.offsets) == [101, 102, 107]
    everything = delivery(100)
    assert [message.data for message in everything.messages] == [b"%d" % number for number in range(10)]
    assert list(everything.offsets) == list(range(100, 110))


async def test_bad_outcomes_are_refused_before_they_are_sent() -> None:
    with pytest.raises(ValueError, match="delay_s"):
        await delivery(0).nack(delay_s=-1)
    with pytest.raises(ValueError, match="reason"):
        await delivery(0).terminate("x" * 1025)


P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


def test_a_session_that_ends_revokes_what_the_reader_believes_to_hold() -> None:
    inbox = Inbox(ephemeral=False)
    inbox.put(PartitionsAssigned((P1, P0)))
    inbox.take()
    inbox.put(PartitionsRevoked((P1,)))
    inbox.put(delivery(0))
    inbox.end_session()
    inbox.end_session()  # and the next one before the reader has come round
    assert [inbox.take(), inbox.take()] == [PartitionsRevoked((P0, P1)), None]
    inbox.end_session()
    assert inbox.take() is None


def test_an_ephemeral_reader_learns_what_passed_by_between_two_sessions() -> None:
    inbox = Inbox(ephemeral=True)
    inbox.put(delivery(0))
    inbox.take()
    inbox.put(delivery(10))  # received and not handed out: it is missed too
    inbox.end_session()
    later = delivery(50)
    inbox.put(MissedMessages("t", 0, 5))  # counted from when it was back
    inbox.put(later)
    assert [inbox.take(), inbox.take(), inbox.take()] == [MissedMessages("t", 0, 40), later, None]


async def test_a_window_lets_in_what_has_room_and_something_too_large_alone() -> None:
    window = ByteWindow(100)
    await window.enter(60)
    waiter = asyncio.create_task(window.enter(500))
    await asyncio.sleep(0)
    assert not waiter.done()
    window.leave(60)
    await waiter
    assert window.used == 500


def test_waits_double_up_to_a_limit_and_start_again() -> None:
    backoff = Backoff(first_s=1.0, longest_s=5.0, chance=lambda: 1.0)
    assert [backoff.next_s() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    backoff.reset()
    assert backoff.next_s() == 1.0
    assert Backoff(first_s=1.0, chance=lambda: 0.0).next_s() == 0.5


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (InvalidArgumentError("no", field="topic"), InvalidRequestError),
        (PreconditionError("no", field="first_sequence"), SequenceGapError),
        (PreconditionError("no", field="producer_epoch"), ProducerFencedError),
        (PreconditionError("no", field="mode"), PreconditionFailedError),
        (FullError("no", retry_after_s=1.5), QueueFullError),
    ],
)
def test_what_the_queue_refuses_arrives_as_it_was(refusal: CodedError, kind: type[QueueClientError]) -> None:
    error = error_from_status(to_status(refusal))
    assert type(error) is kind
    assert (error.code, error.message, error.field, error.retry_after_s) == (
        refusal.code,
        refusal.message,
        refusal.field,
        refusal.retry_after_s,
    )


def test_a_status_that_nobody_foresaw_keeps_its_name() -> None:
    error = error_from_status(status_pb2.Status(code=code_pb2.DATA_LOSS, message="no"))
    assert (type(error), error.code) == (RefusedError, "DATA_LOSS")


def test_a_failed_call_without_details_is_told_by_its_code() -> None:
    empty = grpc.aio.Metadata()
    error = error_from_rpc(grpc.aio.AioRpcError(grpc.StatusCode.UNAUTHENTICATED, empty, empty, "who are you?"))
    assert (type(error), error.code, error.message) == (AccessDeniedError, "UNAUTHENTICATED", "who are you?")
