"""What a subscriber does with leases, permits, outcomes and sessions that end: against a scripted queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from telemetry.queue.client import (
    AckStatus,
    AtOffset,
    AtTime,
    MissedMessages,
    PartitionsAssigned,
    PartitionsRevoked,
    Place,
    PreconditionFailedError,
    ReceivedDelivery,
    Subscriber,
    TopicPartition,
)
from telemetry.v1 import queue_pb2

SubscribeContext = grpc.aio.ServicerContext[queue_pb2.SubscribeRequest, queue_pb2.SubscribeResponse]
AckContext = grpc.aio.ServicerContext[queue_pb2.AckRequest, queue_pb2.AckResponse]
P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


class ScriptedSession:
    """One Subscribe stream, as the test drives it."""

    def __init__(self, start: queue_pb2.SubscribeStart) -> None:
        self.start = start
        self.flows: asyncio.Queue[queue_pb2.SubscribeFlow] = asyncio.Queue()
        self.out: asyncio.Queue[queue_pb2.SubscribeResponse | grpc.StatusCode] = asyncio.Queue()
        self.over = asyncio.Event()

    def deliver(self, delivery_id: str, count: int = 1, *, partition: int = 0, offset: int = 0) -> None:
        batch = queue_pb2.MessageBatch(messages=[queue_pb2.Message(data=b"%d" % number) for number in range(count)])
        delivery = queue_pb2.Delivery(
            delivery_id=delivery_id, topic="t", partition=partition, base_offset=offset, attempt=1, batch=batch
        )
        self.out.put_nowait(queue_pb2.SubscribeResponse(delivery=delivery))

    def assign(self, *partitions: int) -> None:
        assigned = queue_pb2.PartitionsAssigned(partitions=_wire(partitions))
        self.out.put_nowait(queue_pb2.SubscribeResponse(assigned=assigned))

    def revoke(self, *partitions: int) -> None:
        revoked = queue_pb2.PartitionsRevoked(partitions=_wire(partitions))
        self.out.put_nowait(queue_pb2.SubscribeResponse(revoked=revoked))

    def gap(self, missed: int) -> None:
        gap = queue_pb2.SubscribeGap(topic="t", partition=0, missed=missed)
        self.out.put_nowait(queue_pb2.SubscribeResponse(gap=gap))

    def drain(self) -> None:
        self.out.put_nowait(queue_pb2.SubscribeResponse(drain=queue_pb2.SubscribeDrain()))

    def cut(self, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> None:
        self.out.put_nowait(code)


def _wire(partitions: tuple[int, ...]) -> list[queue_pb2.TopicPartition]:
    return [queue_pb2.TopicPartition(topic="t", partition=partition) for partition in partitions]


class ScriptedQueue:
    """Takes subscriptions up as `sessions`, and answers acks as `statuses` say (OK unless said) once `answering`."""

    def __init__(self, ack_wait_s: float = 30.0) -> None:
        self.ack_wait = Duration()
        self.ack_wait.FromMilliseconds(int(ack_wait_s * 1000))
        self.sessions: asyncio.Queue[ScriptedSession] = asyncio.Queue()
        self.acks: list[queue_pb2.AckRequest] = []
        self.acked: asyncio.Queue[queue_pb2.AckEntry] = asyncio.Queue()
        self.statuses: dict[str, queue_pb2.AckStatus.ValueType] = {}
        self.answering = asyncio.Event()
        self.answering.set()

    async def subscribe(
        self, requests: AsyncIterator[queue_pb2.SubscribeRequest], context: SubscribeContext
    ) -> AsyncIterator[queue_pb2.SubscribeResponse]:
        session = ScriptedSession((await anext(requests)).start)

        async def read() -> None:
            async for request in requests:
                session.flows.put_nowait(request.flow)

        reader = asyncio.create_task(read())
        self.sessions.put_nowait(session)
        try:
            yield queue_pb2.SubscribeResponse(started=queue_pb2.SubscribeStarted(ack_wait=self.ack_wait))
            while True:
                response = await session.out.get()
                if isinstance(response, grpc.StatusCode):
                    await context.abort(response, "as the test wants it")
                yield response
        finally:
            reader.cancel()
            session.over.set()

    async def ack(
        self, requests: AsyncIterator[queue_pb2.AckRequest], context: AckContext
    ) -> AsyncIterator[queue_pb2.AckResponse]:
        async for request in requests:
            self.acks.append(request)
            for entry in request.entries:
                self.acked.put_nowait(entry)
            await self.answering.wait()
            response = queue_pb2.AckResponse(request_id=request.request_id)
            for entry in request.entries:
                status = self.statuses.get(entry.delivery_id, queue_pb2.ACK_STATUS_OK)
                response.results.add(delivery_id=entry.delivery_id, status=status)
            yield response


@asynccontextmanager
async def serving(queue: ScriptedQueue) -> AsyncIterator[str]:
    server = grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Subscribe": grpc.stream_stream_rpc_method_handler(
            queue.subscribe, queue_pb2.SubscribeRequest.FromString, queue_pb2.SubscribeResponse.SerializeToString
        ),
        "Ack": grpc.stream_stream_rpc_method_handler(
            queue.ack, queue_pb2.AckRequest.FromString, queue_pb2.AckResponse.SerializeToString
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("telemetry.v1.QueueService", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def next_delivery(subscriber: Subscriber) -> ReceivedDelivery:
    event = await anext(subscriber)
    assert isinstance(event, ReceivedDelivery)
    return event


async def test_the_start_says_what_was_asked_for() -> None:
    queue = ScriptedQueue()
    async with serving(queue) as address:
        subscriber = Subscriber(
            address, ["t", "u.>"], "g", "m", "ordered", AtOffset(7), 5.0, 3, permits_messages=10, permits_bytes=1000
        )
        async with subscriber:
            await subscriber.wait_started()
            start = (await queue.sessions.get()).start
    assert (list(start.topics), start.group, start.member, start.max_deliver) == (["t", "u.>"], "g", "m", 3)
    assert (start.mode, start.position.offset) == (queue_pb2.SUBSCRIPTION_MODE_ORDERED, 7)
    assert (start.ack_wait.seconds, start.flow.messages, start.flow.bytes) == (5, 10, 1000)


@pytest.mark.parametrize(
    ("position", "wire"),
    [
        (Place.EARLIEST, queue_pb2.StartPosition(earliest=True)),
        (Place.LATEST, queue_pb2.StartPosition(latest=True)),
        (AtTime(1_500_000), queue_pb2.StartPosition(time=Timestamp(seconds=1, nanos=500_000_000))),
    ],
    ids=["earliest", "latest", "time"],
)
async def test_a_position_travels_as_it_was_given(position: Place | AtTime, wire: queue_pb2.StartPosition) -> None:
    queue = ScriptedQueue()
    async with serving(queue) as address, Subscriber(address, ["t"], "g", position=position):
        assert (await queue.sessions.get()).start.position == wire


async def test_an_ack_returns_when_the_queue_has_answered() -> None:
    queue = ScriptedQueue()
    queue.answering.clear()
    async with serving(queue) as address, Subscriber(address, ["t"], "g") as subscriber:
        session = await queue.sessions.get()
        session.deliver("d", count=2, offset=40)
        delivery = await next_delivery(subscriber)
        assert (delivery.topic, delivery.partition, delivery.attempt, list(delivery.offsets)) == ("t", 0, 1, [40, 41])
        task = asyncio.create_task(delivery.ack())
        assert (await queue.acked.get()).outcome == queue_pb2.ACK_OUTCOME_ACK
        assert not task.done()
        queue.answering.set()
        assert await task is AckStatus.OK
        assert await delivery.nack() is AckStatus.OK, "only the first outcome counts"
    assert len(queue.acks) == 1


async def test_nack_and_terminate_carry_delay_and_reason() -> None:
    queue = ScriptedQueue()
    async with serving(queue) as address, Subscriber(address, ["t"], "g") as subscriber:
        session = await queue.sessions.get()
        session.deliver("a")
        session.deliver("b")
        await (await next_delivery(subscriber)).nack(1.5, "busy")
        await (await next_delivery(subscriber)).terminate("broken")
    nack, terminate = queue.acked.get_nowait(), queue.acked.get_nowait()
    assert (nack.outcome, nack.delay.ToMilliseconds(), nack.reason) == (queue_pb2.ACK_OUTCOME_NACK, 1500, "busy")
    assert (terminate.outcome, terminate.reason) == (queue_pb2.ACK_OUTCOME_TERMINATE, "broken")


async def test_many_acks_travel_in_one_request() -> None:
    queue = ScriptedQueue()
    async with serving(queue) as address, Subscriber(address, ["t"], "g") as subscriber:
        session = await queue.sessions.get()
        for number in range(100):
            session.deliver(str(number))
        deliveries = [await next_delivery(subscriber) for _ in range(100)]
        assert await subscriber.ack_many(deliveries) == [AckStatus.OK] * 100
    assert len(queue.acks) == 1


async def test_a_late_ack_is_stale_and_counted() -> None:
    queue = ScriptedQueue()
    queue.statuses["d"] = queue_pb2.ACK_STATUS_STALE
    async with serving(queue) as address, Subscriber(address, ["t"], "g") as subscriber:
        session = await queue.sessions.get()
        session.deliver("d")
        assert await (await next_delivery(subscriber)).ack() is AckStatus.STALE
        assert subscriber.stale == 1


async def test_leases_are_extended_until_the_delivery_is_settled() -> None:
    queue = ScriptedQueue(ack_wait_s=0.15)
    async with serving(queue) as address, Subscriber(address, ["t"], "g") as subscriber:
        session = await queue.sessions.get()
        session.deliver("a")  # handed out and unsettled
        session.deliver("b")  # not even handed out
        delivery = await next_delivery(subscriber)
        extended = [await queue.acked.get() for _ in range(6)]
        assert {entry.delivery_id for entry in extended} == {"a", "b"}
        assert {entry.outcome for entry in extended} == {queue_pb2.ACK_OUTCOME_EXTEND}
        await delivery.ack()
        while (await queue.acked.get()).outcome != queue_pb2.ACK_OUTCOME_ACK:
            pass
        assert [(await queue.acked.get()).delivery_id for _ in range(3)] == ["b"] * 3


async def test_a_lease_that_is_lost_is_not_extended_any_more() -> None:
    queue = ScriptedQueue(ack_wait_s=0.15)
    queue.statuses["a"] = queue_pb2.ACK_STATUS_STALE
    async with serving(queue) as address, Subscriber(address, ["t"], "g") as subscriber:
        session = await queue.sessions.get()
        session.deliver("a")
        session.deliver("b")
        await next_delivery(subscriber)
        # Extensions that are on their way when the first is refused still come.
        only_b = 0
        while only_b < 5:
            only_b = only_b + 1 if (await queue.acked.get()).delivery_id == "b" else 0


async def test_permits_come_back_when_deliveries_are_settled() -> None:
    queue = ScriptedQueue()
    async with serving(queue) as address, Subscriber(address, ["t"], "g", permits_messages=10) as subscriber:
        session = await queue.sessions.get()
        session.deliver("a", count=3)
        session.deliver("b", count=4)
        first, second = await next_delivery(subscriber), await next_delivery(subscriber)
        assert session.flows.empty()
        await subscriber.ack_many([first, second])
        flow = await session.flows.get()
        assert (flow.messages, flow.bytes) == (7, first.batch_bytes + second.batch_bytes)


async def test_a_session_that_breaks_makes_its_deliveries_stale_and_a_new_one_takes_over() -> None:
    queue = ScriptedQueue()
    queue.answering.clear()
    async with serving(queue) as address, Subscriber(address, ["t"], "g") as subscriber:
        session = await queue.sessions.get()
        session.deliver("acked, not answered")
        session.deliver("not settled")
        session.deliver("not handed out")
        first, second = await next_delivery(subscriber), await next_delivery(subscriber)
        acking = asyncio.create_task(first.ack())
        await queue.acked.get()
        session.cut()
        assert await acking is AckStatus.STALE
        session = await queue.sessions.get()
        session.deliver("new")
        assert (await next_delivery(subscriber)).delivery_id == "new"
        assert await second.ack() is AckStatus.STALE
        assert subscriber.stale == 2
        queue.answering.set()


async def test_partitions_come_and_go_in_order_with_their_deliveries() -> None:
    queue = ScriptedQueue()
    async with serving(queue) as address, Subscriber(address, ["t"], "g", mode="ordered") as subscriber:
        session = await queue.sessions.get()
        session.assign(0, 1)
        session.deliver("a", partition=0)
        assert await anext(subscriber) == PartitionsAssigned((P0, P1))
        held = await next_delivery(subscriber)
        session.deliver("b", partition=0)
        session.deliver("c", partition=1)
        session.revoke(0)
        assert [(await next_delivery(subscriber)).delivery_id for _ in range(2)] == ["b", "c"]
        assert await anext(subscriber) == PartitionsRevoked((P0,))
        assert await held.ack() is AckStatus.OK, "what it has of it is still its own to settle"
        assert not held.lost
        session.deliver("d", partition=1)
        lost = await next_delivery(subscriber)
        session.cut()
        assert await anext(subscriber) == PartitionsRevoked((P1,))
        assert lost.lost
        assert await lost.ack() is AckStatus.STALE
        (await queue.sessions.get()).assign(1)
        assert await anext(subscriber) == PartitionsAssigned((P1,))


async def test_a_draining_queue_gets_the_last_outcomes_before_the_subscriber_goes() -> None:
    queue = ScriptedQueue()
    async with serving(queue) as address, Subscriber(address, ["t"], "g") as subscriber:
        session = await queue.sessions.get()
        session.deliver("a")
        session.deliver("b")
        session.drain()
        first = await next_delivery(subscriber)
        assert await first.ack() is AckStatus.OK
        assert not session.over.is_set()
        assert await (await next_delivery(subscriber)).ack() is AckStatus.OK
        await session.over.wait()
        await queue.sessions.get()


async def test_a_refused_subscription_is_told_to_whoever_waits() -> None:
    queue = ScriptedQueue()
    async with serving(queue) as address, Subscriber(address, ["t"], "g") as subscriber:
        session = await queue.sessions.get()
        session.cut(grpc.StatusCode.FAILED_PRECONDITION)
        with pytest.raises(PreconditionFailedError):
            await anext(subscriber)
        with pytest.raises(PreconditionFailedError):
            await subscriber.wait_started()


async def test_an_ephemeral_subscriber_gets_permits_as_it_reads_and_settles_nothing() -> None:
    queue = ScriptedQueue()
    async with serving(queue) as address, Subscriber(address, ["t"], permits_messages=10) as subscriber:
        session = await queue.sessions.get()
        session.deliver("", count=4)
        session.deliver("", count=5, offset=4)
        session.gap(6)
        delivery = await next_delivery(subscriber)
        assert (await session.flows.get()).messages == 4
        assert await delivery.ack() is AckStatus.UNKNOWN
        await next_delivery(subscriber)
        assert await anext(subscriber) == MissedMessages("t", 0, 6)
    assert queue.acks == []


async def test_an_ephemeral_subscriber_that_reconnects_goes_on_with_what_is_new_and_tells_what_it_missed() -> None:
    queue = ScriptedQueue()
    async with serving(queue) as address, Subscriber(address, ["t"], position=Place.EARLIEST) as subscriber:
        session = await queue.sessions.get()
        assert session.start.position.earliest
        session.deliver("", count=4)
        await next_delivery(subscriber)
        session.cut()
        session = await queue.sessions.get()
        assert session.start.position.latest
        session.deliver("", offset=10)
        assert await anext(subscriber) == MissedMessages("t", 0, 6)
        assert (await next_delivery(subscriber)).base_offset == 10


async def test_closing_waits_for_acks_on_their_way_and_ends_the_iteration() -> None:
    queue = ScriptedQueue()
    queue.answering.clear()
    async with serving(queue) as address:
        subscriber = Subscriber(address, ["t"], "g")
        await subscriber.start()
        session = await queue.sessions.get()
        session.deliver("a")
        delivery = await next_delivery(subscriber)
        reading = asyncio.create_task(anext(subscriber, None))
        acking = asyncio.create_task(delivery.ack())
        await queue.acked.get()
        closing = asyncio.create_task(subscriber.aclose())
        assert await reading is None
        assert not closing.done()
        queue.answering.set()
        await closing
        assert await acking is AckStatus.OK
        assert [event async for event in subscriber] == []
        await subscriber.aclose()


async def test_closing_does_not_wait_for_a_queue_that_is_not_there() -> None:
    async with Subscriber("127.0.0.1:1", ["t"], "g"):
        pass


@pytest.mark.parametrize("wrong", ["permits_messages", "permits_bytes"])
def test_bad_settings_are_named(wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        Subscriber("127.0.0.1:1", ["t"], **{wrong: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "delivers", "soon"),
    [
        (grpc.StatusCode.UNAVAILABLE, True, True),
        (grpc.StatusCode.UNAVAILABLE, False, False),
        (grpc.StatusCode.ABORTED, True, False),
    ],
    ids=["a queue that restarts", "a queue that lets go at once", "a member of the same name"],
)
async def test_a_session_that_did_something_is_followed_by_the_next_soon_unless_another_member_ended_it(
    code: grpc.StatusCode, delivers: bool, soon: bool, caplog: pytest.LogCaptureFixture
) -> None:
    queue = ScriptedQueue()
    async with serving(queue) as address, Subscriber(address, ["t"], "g") as subscriber:
        for number in range(4):
            session = await queue.sessions.get()
            if delivers:
                session.deliver(f"d{number}")
                await next_delivery(subscriber)
            session.cut(code)
        await queue.sessions.get()
    waits = [getattr(record, "retry_s", 0.0) for record in caplog.records if record.message == "not subscribed"]
    assert len(waits) == 4
    assert (max(waits) <= 0.1) is soon, waits
