"""What a publisher does when the queue cuts streams, is full, refuses, or does not answer: against a scripted queue."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import grpc
import pytest
from google.rpc import status_pb2

from telemetry.queue.client import (
    AccessDeniedError,
    ClientClosedError,
    DeliveryTimeoutError,
    InvalidRequestError,
    OutgoingMessage,
    Publisher,
    QueueClientError,
    Receipt,
    SequenceGapError,
    partition_of_key,
)
from telemetry.queue.core.errors import FullError, InvalidArgumentError, PreconditionError
from telemetry.queue.core.producers import Duplicate, Producers
from telemetry.runtime.status import to_status
from telemetry.v1 import queue_admin_pb2, queue_pb2

CUT_BEFORE_STORING, CUT_BEFORE_ANSWERING, SILENCE = "cut before storing", "cut before answering", "silence"
Fault: TypeAlias = str | status_pb2.Status | grpc.StatusCode | None

Requests = AsyncIterator[queue_pb2.PublishRequest]
Context = grpc.aio.ServicerContext[queue_pb2.PublishRequest, queue_pb2.PublishResponse]
AdminContext = grpc.aio.ServicerContext[object, object]


class ScriptedQueue:
    """Stores what is published with the engine's own memory of producers; fails as `faults` say, a request each."""

    def __init__(self) -> None:
        self.faults: deque[Fault] = deque()
        self.topics: dict[str, int] = {}
        self.stored: dict[int, list[bytes]] = {}
        self.requests: list[queue_pb2.PublishRequest] = []
        self.streams = 0
        self.producers: dict[int, Producers] = {}
        self.arrived = asyncio.Event()
        self.answering = asyncio.Event()
        self.answering.set()

    async def Publish(self, requests: Requests, context: Context) -> AsyncIterator[queue_pb2.PublishResponse]:  # noqa: N802
        self.streams += 1
        async for request in requests:
            self.requests.append(request)
            self.arrived.set()
            await self.answering.wait()
            fault = self.faults.popleft() if self.faults else None
            if isinstance(fault, grpc.StatusCode):
                await context.abort(fault, "as the test wants it")
            if fault == CUT_BEFORE_STORING:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
            if isinstance(fault, status_pb2.Status):
                yield queue_pb2.PublishResponse(request_id=request.request_id, error=fault)
                continue
            response = self._store(request)
            if fault == CUT_BEFORE_ANSWERING:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
            if fault != SILENCE:
                yield response

    def _store(self, request: queue_pb2.PublishRequest) -> queue_pb2.PublishResponse:
        stored = self.stored.setdefault(request.partition, [])
        producers = self.producers.setdefault(request.partition, Producers())
        response = queue_pb2.PublishResponse(request_id=request.request_id)
        producer = request.producer_id, request.producer_epoch, request.first_sequence, len(request.batch.messages)
        try:
            verdict = producers.check(*producer)
        except PreconditionError as error:
            response.error.CopyFrom(to_status(error))
            return response
        response.receipt.partition = request.partition
        if isinstance(verdict, Duplicate):
            response.receipt.duplicate = True
            if verdict.base_offset is not None:
                response.receipt.base_offset = verdict.base_offset
            return response
        producers.store(*producer, base_offset=len(stored), time_us=0)
        response.receipt.base_offset = len(stored)
        stored.extend(message.data for message in request.batch.messages)
        return response

    async def GetTopic(  # noqa: N802
        self, request: queue_admin_pb2.GetTopicRequest, context: AdminContext
    ) -> queue_admin_pb2.GetTopicResponse:
        if request.topic not in self.topics:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no topic {request.topic}")
        topic = queue_admin_pb2.Topic(name=request.topic, partitions=self.topics[request.topic])
        return queue_admin_pb2.GetTopicResponse(topic=topic)

    async def CreateTopic(  # noqa: N802
        self, request: queue_admin_pb2.CreateTopicRequest, context: AdminContext
    ) -> queue_admin_pb2.CreateTopicResponse:
        if request.topic.name in self.topics:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "there is one")
        self.topics[request.topic.name] = request.topic.partitions or 1
        return queue_admin_pb2.CreateTopicResponse(topic=request.topic)

    async def DescribeProducer(  # noqa: N802
        self, request: queue_admin_pb2.DescribeProducerRequest, context: AdminContext
    ) -> queue_admin_pb2.DescribeProducerResponse:
        response = queue_admin_pb2.DescribeProducerResponse()
        for partition, producers in self.producers.items():
            if (state := producers.get(request.producer_id)) is not None:
                response.positions.add(
                    partition=partition, producer_epoch=state.epoch, last_sequence=state.last_sequence
                )
        return response

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        publish = grpc.stream_stream_rpc_method_handler(
            self.Publish, queue_pb2.PublishRequest.FromString, queue_pb2.PublishResponse.SerializeToString
        )
        admin: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "GetTopic": grpc.unary_unary_rpc_method_handler(
                self.GetTopic,
                queue_admin_pb2.GetTopicRequest.FromString,
                queue_admin_pb2.GetTopicResponse.SerializeToString,
            ),
            "CreateTopic": grpc.unary_unary_rpc_method_handler(
                self.CreateTopic,
                queue_admin_pb2.CreateTopicRequest.FromString,
                queue_admin_pb2.CreateTopicResponse.SerializeToString,
            ),
            "DescribeProducer": grpc.unary_unary_rpc_method_handler(
                self.DescribeProducer,
                queue_admin_pb2.DescribeProducerRequest.FromString,
                queue_admin_pb2.DescribeProducerResponse.SerializeToString,
            ),
        }
        return (
            grpc.method_handlers_generic_handler("telemetry.v1.QueueService", {"Publish": publish}),
            grpc.method_handlers_generic_handler("telemetry.v1.QueueAdminService", admin),
        )


@asynccontextmanager
async def serving(queue: ScriptedQueue, address: str = "127.0.0.1:0") -> AsyncIterator[str]:
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers(queue.handlers())
    host = address.rpartition(":")[0]
    port = server.add_insecure_port(address)
    await server.start()
    try:
        yield f"{host}:{port}"
    finally:
        await server.stop(None)


def numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


async def publish_in_order(publisher: Publisher, data: list[bytes]) -> list[Receipt]:
    """Each as a request of its own, many in flight."""
    return await asyncio.gather(
        *[publisher.publish_batch("t", [OutgoingMessage(one)], partition=0) for one in data],
    )


@pytest.mark.parametrize("cut", [CUT_BEFORE_STORING, CUT_BEFORE_ANSWERING])
@pytest.mark.parametrize("good", [0, 1, 5])
async def test_a_cut_stream_loses_nothing_and_stores_nothing_twice(cut: str, good: int) -> None:
    queue = ScriptedQueue()
    queue.faults.extend([None] * good + [cut])
    async with serving(queue) as address, Publisher(address) as publisher:
        receipts = await publish_in_order(publisher, numbers(10))
    assert queue.stored[0] == numbers(10)
    assert [receipt.base_offset for receipt in receipts] == list(range(10))
    assert receipts[good].duplicate == (cut == CUT_BEFORE_ANSWERING)
    assert queue.streams == 2


@pytest.mark.parametrize("good", [0, 3])
async def test_a_full_queue_gets_everything_later_and_in_order(good: int) -> None:
    queue = ScriptedQueue()
    full = to_status(FullError("topic t is full", retry_after_s=0.02))
    queue.faults.extend([None] * good + [full, None, full])
    async with serving(queue) as address, Publisher(address) as publisher:
        await publish_in_order(publisher, numbers(10))
    assert queue.stored[0] == numbers(10)
    assert queue.streams == 1


async def test_a_refused_batch_fails_alone_and_the_rest_is_stored_in_order() -> None:
    queue = ScriptedQueue()
    queue.faults.extend([None, None, to_status(InvalidArgumentError("too large", field="batch"))])
    async with serving(queue) as address, Publisher(address) as publisher:
        tasks = [
            asyncio.create_task(publisher.publish_batch("t", [OutgoingMessage(one)], partition=0))
            for one in numbers(10)
        ]
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes.pop(2), InvalidRequestError)
    assert all(isinstance(outcome, Receipt) for outcome in outcomes)
    assert queue.stored[0] == [one for one in numbers(10) if one != b"2"]


async def test_a_message_is_not_confirmed_before_its_batch_is() -> None:
    queue = ScriptedQueue()
    queue.answering.clear()
    async with serving(queue) as address, Publisher(address, linger_s=0) as publisher:
        task = asyncio.create_task(publisher.publish("t", b"a"))
        await queue.arrived.wait()
        assert not task.done()
        queue.answering.set()
        assert await task == Receipt(0, 0)


async def test_messages_of_concurrent_calls_share_requests() -> None:
    queue = ScriptedQueue()
    async with serving(queue) as address, Publisher(address, batch_messages=50) as publisher:
        receipts = await asyncio.gather(*[publisher.publish("t", one) for one in numbers(200)])
    assert [receipt.base_offset for receipt in receipts] == list(range(200))
    assert queue.stored[0] == numbers(200)
    assert len(queue.requests) < 50  # how many messages gather depends on how fast the others are answered


async def test_messages_gather_while_earlier_ones_are_not_confirmed() -> None:
    queue = ScriptedQueue()
    queue.answering.clear()
    async with serving(queue) as address, Publisher(address, linger_s=60.0) as publisher:
        first = asyncio.create_task(publisher.publish("t", b"first"))
        await queue.arrived.wait()
        others = [asyncio.create_task(publisher.publish("t", one)) for one in numbers(20)]
        queue.answering.set()
        await asyncio.gather(first, *others)
    assert queue.stored[0] == [b"first", *numbers(20)]
    assert len(queue.requests) == 2


async def test_no_more_bytes_are_on_the_way_than_the_window_allows() -> None:
    queue = ScriptedQueue()
    queue.answering.clear()
    done: list[Receipt | QueueClientError] = []
    async with serving(queue) as address, Publisher(address, linger_s=0, window_bytes=10_000) as publisher:
        sending = [asyncio.create_task(publisher.send("t", b"x" * 4000, on_done=done.append)) for number in range(5)]
        await queue.arrived.wait()
        await asyncio.wait(sending[:2])
        assert [task.done() for task in sending] == [True, True, False, False, False]
        queue.answering.set()
        await asyncio.gather(*sending)
        await publisher.flush()
    assert len(done) == len(queue.stored[0]) == 5


async def test_a_message_larger_than_the_window_goes_alone() -> None:
    queue = ScriptedQueue()
    async with serving(queue) as address, Publisher(address, window_bytes=100) as publisher:
        assert await publisher.publish("t", b"x" * 1000) == Receipt(0, 0)


async def test_a_message_that_no_request_can_hold_is_refused_at_once() -> None:
    async with Publisher("127.0.0.1:1") as publisher:
        with pytest.raises(InvalidRequestError):
            await publisher.publish("t", b"x" * (9 << 20))
        with pytest.raises(InvalidRequestError):
            await publisher.publish_batch("t", [OutgoingMessage(b"x" * (5 << 20))] * 2, partition=0)
        with pytest.raises(InvalidRequestError):
            await publisher.publish_batch("t", [], partition=0)


async def test_an_answer_that_never_comes_is_a_timeout_and_a_new_stream() -> None:
    queue = ScriptedQueue()
    queue.faults.append(SILENCE)
    async with serving(queue) as address, Publisher(address, linger_s=0, delivery_timeout_s=0.3) as publisher:
        with pytest.raises(DeliveryTimeoutError):
            await publisher.publish("t", b"a")
        assert (await publisher.publish("t", b"b")).base_offset == 1
    assert queue.stored[0] == [b"a", b"b"]
    assert queue.streams == 2


async def test_waiting_for_room_is_bounded_too() -> None:
    queue = ScriptedQueue()
    queue.answering.clear()
    async with serving(queue) as address, Publisher(address, window_bytes=100, delivery_timeout_s=0.3) as publisher:
        first = asyncio.create_task(publisher.publish("t", b"x" * 80))
        await queue.arrived.wait()
        with pytest.raises(DeliveryTimeoutError):
            await asyncio.gather(*[publisher.publish("t", b"x" * 80) for _ in range(4)])
        with pytest.raises(DeliveryTimeoutError):
            await first
        queue.answering.set()


async def test_a_publisher_waits_for_a_queue_that_is_not_there_yet() -> None:
    queue = ScriptedQueue()
    async with serving(queue) as address:
        pass
    async with Publisher(address) as publisher:
        task = asyncio.create_task(publisher.publish("t", b"a"))
        await asyncio.sleep(0)
        async with serving(queue, address):
            assert await task == Receipt(0, 0)


async def test_a_topic_that_the_queue_forgot_is_made_again() -> None:
    queue = ScriptedQueue()
    async with serving(queue) as address, Publisher(address) as publisher:
        assert await publisher.ensure_topic("t", partitions=8) == 8
        await publisher.publish("t", b"a", ordering_key="gpu-1")
        queue.topics.clear()
        queue.faults.append(CUT_BEFORE_STORING)
        await publisher.publish("t", b"b", ordering_key="gpu-1")
        assert queue.topics == {"t": 8}
    assert queue.stored == {partition_of_key("gpu-1", 8): [b"a", b"b"]}


async def test_a_topic_that_is_there_keeps_its_partitions() -> None:
    queue = ScriptedQueue()
    queue.topics["t"] = 3
    async with serving(queue) as address, Publisher(address) as publisher:
        assert await publisher.ensure_topic("t", partitions=8) == 3
        assert await publisher.partitions("t") == 3
        assert await publisher.partitions("another") == 1


async def test_credentials_that_are_not_accepted_fail_what_waits_and_not_what_comes_later() -> None:
    queue = ScriptedQueue()
    queue.faults.append(grpc.StatusCode.UNAUTHENTICATED)
    async with serving(queue) as address, Publisher(address) as publisher:
        with pytest.raises(AccessDeniedError):
            await publisher.publish("t", b"a")
        assert await publisher.publish("t", b"b") == Receipt(0, 0)


async def test_closing_sends_what_lingers() -> None:
    queue = ScriptedQueue()
    done: list[Receipt | QueueClientError] = []
    async with serving(queue) as address, Publisher(address, linger_s=3600) as publisher:
        await publisher.send("t", b"a", on_done=done.append)
    assert done == [Receipt(0, 0)]


async def test_flush_waits_for_what_was_accepted_before() -> None:
    queue = ScriptedQueue()
    done: list[Receipt | QueueClientError] = []
    async with serving(queue) as address, Publisher(address, linger_s=3600) as publisher:
        sending = [asyncio.create_task(publisher.send("t", one, on_done=done.append)) for one in numbers(3)]
        await asyncio.sleep(0)
        await publisher.flush()
        assert done == [Receipt(0, 0), Receipt(0, 1), Receipt(0, 2)]
        await asyncio.gather(*sending)
        await publisher.flush()


async def test_closing_fails_what_cannot_be_confirmed_in_time() -> None:
    queue = ScriptedQueue()
    queue.answering.clear()
    async with serving(queue) as address:
        publisher = Publisher(address, linger_s=0)
        await publisher.start()
        task = asyncio.create_task(publisher.publish("t", b"a"))
        await queue.arrived.wait()
        await publisher.aclose(timeout_s=0.01)
        with pytest.raises(ClientClosedError):
            await task
        with pytest.raises(ClientClosedError):
            await publisher.publish("t", b"b")
        await publisher.aclose()
        queue.answering.set()


async def test_a_caller_that_gives_up_disturbs_nobody() -> None:
    queue = ScriptedQueue()
    queue.answering.clear()
    async with serving(queue) as address, Publisher(address) as publisher:
        tasks = [asyncio.create_task(publisher.publish("t", one)) for one in numbers(3)]
        await queue.arrived.wait()
        tasks[1].cancel()
        queue.answering.set()
        assert await tasks[0] == Receipt(0, 0)
        assert await tasks[2] == Receipt(0, 2)


async def test_a_restarted_producer_goes_on_in_a_newer_epoch() -> None:
    queue = ScriptedQueue()
    async with serving(queue) as address:
        for _ in range(3):
            async with Publisher(address, producer_id="p") as publisher:
                await publish_in_order(publisher, numbers(2))
    assert queue.stored[0] == numbers(2) * 3
    assert [request.producer_epoch for request in queue.requests] == [0, 0, 1, 1, 2, 2]


async def test_the_same_epoch_again_goes_on_after_the_last_sequence() -> None:
    queue = ScriptedQueue()
    async with serving(queue) as address:
        for _ in range(2):
            async with Publisher(address, producer_id="p", producer_epoch=7) as publisher:
                await publish_in_order(publisher, numbers(2))
                positions = await publisher.positions("t")
    assert queue.stored[0] == numbers(2) * 2
    assert positions == {0: (7, 3)}


async def test_a_producer_that_counts_itself_is_told_of_duplicates_and_gaps() -> None:
    queue = ScriptedQueue()
    async with serving(queue) as address, Publisher(address, producer_id="p", producer_epoch=1) as publisher:

        async def publish(data: bytes, sequence: int) -> Receipt:
            return await publisher.publish_batch("t", [OutgoingMessage(data)], partition=0, first_sequence=sequence)

        assert await publish(b"10", 10) == Receipt(0, 0)
        assert await publish(b"11", 11) == Receipt(0, 1)
        assert await publish(b"10", 10) == Receipt(0, 0, duplicate=True)
        with pytest.raises(SequenceGapError):
            await publish(b"13", 13)
        assert await publisher.positions("t") == {0: (1, 11)}
        assert await publish(b"12", 12) == Receipt(0, 2)
    assert queue.stored[0] == [b"10", b"11", b"12"]


async def test_a_batch_and_messages_before_it_keep_their_order() -> None:
    queue = ScriptedQueue()
    async with serving(queue) as address, Publisher(address, linger_s=3600) as publisher:
        await publisher.send("t", b"a")
        await publisher.publish_batch("t", [OutgoingMessage(b"b", {"k": "v"}, "key")], partition=0)
    assert queue.stored[0] == [b"a", b"b"]
    (message,) = queue.requests[1].batch.messages
    assert (dict(message.attributes), message.ordering_key) == ({"k": "v"}, "key")


@pytest.mark.parametrize(
    "wrong",
    [{"batch_messages": 0}, {"batch_bytes": 9 << 20}, {"producer_epoch": 3}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_bad_settings_are_named(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Publisher("127.0.0.1:1", **wrong)  # type: ignore[arg-type]
