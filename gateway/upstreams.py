"""The services behind the gateway, and how calls to them are counted."""

from __future__ import annotations

from typing import Final

import grpc

from gateway.counters import UPSTREAM_CALLS
from telemetry.runtime.calls import DEADLINE_S, Upstream, UpstreamError
from telemetry.v1 import queue_admin_pb2, queue_admin_pb2_grpc


def count_call(service: str, code: str) -> None:
    """Count a call that has ended with this status."""
    UPSTREAM_CALLS.labels(service, code).inc()


class QueueClient(Upstream):
    """QueueAdminService. Every method raises :class:`UpstreamError`."""

    name = "queue"

    def __init__(self, address: str, deadline_s: float = DEADLINE_S) -> None:
        super().__init__(address, deadline_s, count_call)
        self._stub: Final[queue_admin_pb2_grpc.QueueAdminServiceAsyncStub] = queue_admin_pb2_grpc.QueueAdminServiceStub(
            self._channel
        )

    async def ensure_topic(self, topic: queue_admin_pb2.Topic) -> None:
        """Make a topic unless it is there."""
        try:
            await self._call(self._stub.CreateTopic, queue_admin_pb2.CreateTopicRequest(topic=topic))
        except UpstreamError as error:
            if error.code is not grpc.StatusCode.ALREADY_EXISTS:
                raise

    async def get_topic(self, name: str) -> queue_admin_pb2.Topic:
        """One topic."""
        return (await self._call(self._stub.GetTopic, queue_admin_pb2.GetTopicRequest(topic=name))).topic

    async def list_topics(self, request: queue_admin_pb2.ListTopicsRequest) -> queue_admin_pb2.ListTopicsResponse:
        """A page of topics."""
        return await self._call(self._stub.ListTopics, request)

    async def list_groups(self, request: queue_admin_pb2.ListGroupsRequest) -> queue_admin_pb2.ListGroupsResponse:
        """A page of groups."""
        return await self._call(self._stub.ListGroups, request)

    async def stats(self, deadline_s: float | None = None) -> queue_admin_pb2.QueueStats:
        """The queue's statistics."""
        return (await self._call(self._stub.GetStats, queue_admin_pb2.GetStatsRequest(), deadline_s)).stats
