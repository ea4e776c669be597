"""What a publisher asks of the admin service: topics, their partitions, and how far a producer has come."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import grpc

from telemetry.queue.clients.asking import CALL_TIMEOUT_S, ask
from telemetry.queue.clients.errors import QueueNotFoundError, error_from_rpc
from telemetry.v1 import queue_admin_pb2, queue_admin_pb2_grpc

Storage = Literal["disk", "memory"]
"""Where a topic's messages are kept."""

_STORAGE: Final = {
    None: queue_admin_pb2.TOPIC_STORAGE_UNSPECIFIED,
    "disk": queue_admin_pb2.TOPIC_STORAGE_DISK,
    "memory": queue_admin_pb2.TOPIC_STORAGE_MEMORY,
}


class ProducerPosition(NamedTuple):
    """How far a producer has come in a partition."""

    epoch: int
    last_sequence: int


def topic_of(name: str, partitions: int, storage: Storage | None) -> queue_admin_pb2.Topic:
    """A topic with the server's defaults for what is not said."""
    return queue_admin_pb2.Topic(name=name, partitions=partitions, storage=_STORAGE[storage])


class Topics:
    """Topics as this client knows them. Calls are tried again while the queue is away."""

    def __init__(self, channel: grpc.aio.Channel, timeout_s: float | None) -> None:
        """Ask over ``channel``; give up after ``timeout_s``, or never."""
        self._admin = queue_admin_pb2_grpc.QueueAdminServiceStub(channel)
        self._timeout_s = timeout_s
        self._partitions: dict[str, int] = {}
        self._ensured: dict[str, queue_admin_pb2.Topic] = {}

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has. One that is not there is made with the server's defaults."""
        if topic not in self._partitions:
            request = queue_admin_pb2.GetTopicRequest(topic=topic)
            try:
                answer = await ask(lambda: self._admin.GetTopic(request, timeout=CALL_TIMEOUT_S), self._timeout_s)
                self._partitions[topic] = answer.topic.partitions
            except QueueNotFoundError:
                return await self.ensure(queue_admin_pb2.Topic(name=topic))
        return self._partitions[topic]

    async def ensure(self, topic: queue_admin_pb2.Topic) -> int:
        """Make a topic unless it is there; returns the partitions that it has, which may be other than asked for."""
        await ask(lambda: self._create(topic), self._timeout_s)
        self._ensured[topic.name] = topic
        self._partitions.pop(topic.name, None)
        return await self.partitions(topic.name)

    async def restore(self) -> None:
        """After the queue was away: make again what was made here, in case that it kept nothing. One attempt."""
        self._partitions.clear()
        for topic in self._ensured.values():
            try:
                await self._create(topic)
            except grpc.aio.AioRpcError as error:
                raise error_from_rpc(error) from None

    async def positions(self, topic: str, producer_id: str) -> dict[int, ProducerPosition]:
        """Where a producer stands in each partition that it has published to; nothing for one not known."""
        request = queue_admin_pb2.DescribeProducerRequest(topic=topic, producer_id=producer_id)
        try:
            answer = await ask(lambda: self._admin.DescribeProducer(request, timeout=CALL_TIMEOUT_S), self._timeout_s)
        except QueueNotFoundError:
            return {}
        return {
            position.partition: ProducerPosition(position.producer_epoch, position.last_sequence)
            for position in answer.positions
        }

    async def _create(self, topic: queue_admin_pb2.Topic) -> None:
        try:
            await self._admin.CreateTopic(queue_admin_pb2.CreateTopicRequest(topic=topic), timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise
