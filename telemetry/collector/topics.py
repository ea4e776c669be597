"""The topics that a collector needs: made when they are not there, and told from earlier ones of the same name."""

from __future__ import annotations

from functools import partial
from typing import Final

import grpc

from telemetry import topics
from telemetry.queue.clients.asking import CALL_TIMEOUT_S, ask
from telemetry.runtime.channel import open_channel
from telemetry.runtime.credentials import Credentials
from telemetry.v1 import queue_admin_pb2, queue_admin_pb2_grpc

TOPICS: Final = (topics.DATA, topics.QUARANTINE, topics.LIVE)


class Topics:
    """Asks the queue's admin service. Calls are tried again until the queue answers.

    Every method raises QueueClientError when it refuses.
    """

    def __init__(self, address: str, credentials: Credentials | None = None) -> None:
        """Ask the queue at ``address``."""
        self._channel = open_channel(address, credentials)
        self._admin = queue_admin_pb2_grpc.QueueAdminServiceStub(self._channel)

    @property
    def is_connected(self) -> bool:
        """Whether the queue can be reached, as far as the connection knows."""
        return self._channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY

    async def ensure(self) -> None:
        """Make the topics that are not there."""
        for topic in TOPICS:
            await ask(partial(self._create, topic), None)

    async def created_us(self, topic: str) -> int:
        """When a topic was made, in microseconds since 1970; 0 when there is none."""
        request = queue_admin_pb2.GetTopicRequest(topic=topic)

        async def get() -> int:
            try:
                answer = await self._admin.GetTopic(request, timeout=CALL_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND:
                    return 0
                raise
            return answer.topic.create_time.ToMicroseconds()

        return await ask(get, None)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def _create(self, topic: queue_admin_pb2.Topic) -> None:
        try:
            await self._admin.CreateTopic(queue_admin_pb2.CreateTopicRequest(topic=topic), timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise
