"""What a client asks of the queue and how long it goes on: a fake channel of grpcio-testing, a fake clock."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import grpc
import pytest

from telemetry.queue.clients.backoff import FIRST_S, LONGEST_S
from telemetry.queue.clients.errors import InvalidRequestError, QueueUnavailableError
from telemetry.queue.clients.topics import ProducerPosition, Topics
from telemetry.v1 import queue_admin_pb2
from tests.unit.queue_client.fake_channel import FakeQueue, run_without_waiting


def topic_of(partitions: int) -> queue_admin_pb2.GetTopicResponse:
    return queue_admin_pb2.GetTopicResponse(topic=queue_admin_pb2.Topic(name="t", partitions=partitions))


def test_a_topic_is_asked_for_once_and_made_when_it_is_not_there() -> None:
    async def main(queue: FakeQueue) -> None:
        topics = Topics(queue.channel, timeout_s=30.0)
        asked = asyncio.create_task(topics.partitions("t"))
        assert (await queue.answer("GetTopic", grpc.StatusCode.NOT_FOUND)).topic == "t"
        made = await queue.answer("CreateTopic", queue_admin_pb2.CreateTopicResponse())
        assert (made.topic.name, made.topic.partitions) == ("t", 0)
        await queue.answer("GetTopic", topic_of(4))
        assert await asked == 4
        assert await topics.partitions("t") == 4

    run_without_waiting(main)


def test_a_topic_that_somebody_else_has_made_meanwhile_is_taken_as_it_is() -> None:
    async def main(queue: FakeQueue) -> None:
        ensured = asyncio.create_task(Topics(queue.channel, timeout_s=30.0).ensure(queue_admin_pb2.Topic(name="t")))
        await queue.answer("CreateTopic", grpc.StatusCode.ALREADY_EXISTS)
        await queue.answer("GetTopic", topic_of(8))
        assert await ensured == 8

    run_without_waiting(main)


def test_a_queue_that_is_away_is_asked_again_ever_more_seldom_until_the_time_is_up() -> None:
    async def main(queue: FakeQueue) -> None:
        now = asyncio.get_running_loop().time
        asked = asyncio.create_task(Topics(queue.channel, timeout_s=60.0).partitions("t"))
        asked.add_done_callback(lambda _: None)
        times = []
        while True:
            answering = asyncio.create_task(queue.answer("GetTopic", grpc.StatusCode.UNAVAILABLE))
            await asyncio.wait((asked, answering), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                answering.cancel()
                break
            times.append(now())
        with pytest.raises(QueueUnavailableError, match="as the test wants it"):
            await asked
        assert now() == pytest.approx(60.0)
        waits = [after - before for before, after in pairwise(times)]
        for number, wait_s in enumerate(waits):
            most = min(FIRST_S * 2**number, LONGEST_S)
            assert most / 2 <= wait_s <= most + 1e-6
        assert len(waits) > 10

    run_without_waiting(main)


def test_what_is_refused_is_not_asked_again() -> None:
    async def main(queue: FakeQueue) -> None:
        asked = asyncio.create_task(Topics(queue.channel, timeout_s=30.0).partitions("T!"))
        await queue.answer("GetTopic", grpc.StatusCode.INVALID_ARGUMENT)
        with pytest.raises(InvalidRequestError):
            await asked
        assert asyncio.get_running_loop().time() == 0.0

    run_without_waiting(main)


def test_a_producer_that_the_queue_does_not_know_stands_nowhere() -> None:
    async def main(queue: FakeQueue) -> None:
        topics = Topics(queue.channel, timeout_s=None)
        asked = asyncio.create_task(topics.positions("t", "p"))
        await queue.answer("DescribeProducer", grpc.StatusCode.NOT_FOUND)
        assert await asked == {}
        position = queue_admin_pb2.ProducerPosition(partition=2, producer_epoch=3, last_sequence=4)
        asked = asyncio.create_task(topics.positions("t", "p"))
        await queue.answer("DescribeProducer", queue_admin_pb2.DescribeProducerResponse(positions=[position]))
        assert await asked == {2: ProducerPosition(3, 4)}

    run_without_waiting(main)
