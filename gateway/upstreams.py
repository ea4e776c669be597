"""The services behind the gateway, and how calls to them are counted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Final, TypeVar

import grpc

from gateway.counters import UPSTREAM_CALLS
from telemetry.runtime.calls import DEADLINE_S, Upstream, UpstreamError
from telemetry.runtime.credentials import Credentials
from telemetry.runtime.request_ids import request_metadata
from telemetry.v1 import queue_admin_pb2, queue_admin_pb2_grpc

PAGE_SIZE: Final = 1000
"""Topics or groups asked for at a time."""

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


def count_call(service: str, code: str) -> None:
    """Count a call that has ended with this status."""
    UPSTREAM_CALLS.labels(service, code).inc()


class QueueClient(Upstream):
    """QueueAdminService. Every method raises :class:`UpstreamError`."""

    name = "queue"

    def __init__(self, address: str, deadline_s: float = DEADLINE_S, credentials: Credentials | None = None) -> None:
        super().__init__(address, deadline_s, count_call, credentials)
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

    async def create_topic(self, topic: queue_admin_pb2.Topic) -> queue_admin_pb2.Topic:
        """Make a topic; returns it with the defaults filled in."""
        return (await self._call(self._stub.CreateTopic, queue_admin_pb2.CreateTopicRequest(topic=topic))).topic

    async def update_topic(self, topic: queue_admin_pb2.Topic) -> queue_admin_pb2.Topic:
        """Replace a topic's retention and limits; returns it as it is now."""
        return (await self._call(self._stub.UpdateTopic, queue_admin_pb2.UpdateTopicRequest(topic=topic))).topic

    async def delete_topic(self, name: str) -> None:
        """Remove a topic, its messages and its groups' positions."""
        await self._call(self._stub.DeleteTopic, queue_admin_pb2.DeleteTopicRequest(topic=name))

    async def purge_topic(self, request: queue_admin_pb2.PurgeTopicRequest) -> int:
        """Drop a topic's messages; returns how many went."""
        return (await self._call(self._stub.PurgeTopic, request)).messages

    async def get_group(self, name: str) -> queue_admin_pb2.Group:
        """One group."""
        return (await self._call(self._stub.GetGroup, queue_admin_pb2.GetGroupRequest(group=name))).group

    async def delete_group(self, name: str, *, force: bool) -> None:
        """Remove a group; with ``force`` its members are disconnected."""
        await self._call(self._stub.DeleteGroup, queue_admin_pb2.DeleteGroupRequest(group=name, force=force))

    async def seek_group(self, request: queue_admin_pb2.SeekGroupRequest) -> list[queue_admin_pb2.GroupPosition]:
        """Move a group; returns the positions that moved, as they are now, or would be after a dry run."""
        return list((await self._call(self._stub.SeekGroup, request)).positions)

    async def all_topics(self) -> list[queue_admin_pb2.Topic]:
        """Every topic, by name."""
        found: list[queue_admin_pb2.Topic] = []
        token = ""
        while True:
            page = await self.list_topics(queue_admin_pb2.ListTopicsRequest(page_size=PAGE_SIZE, page_token=token))
            found += page.topics
            token = page.next_page_token
            if not token:
                return found

    async def all_groups(self) -> list[queue_admin_pb2.Group]:
        """Every group, by name."""
        found: list[queue_admin_pb2.Group] = []
        token = ""
        while True:
            page = await self.list_groups(queue_admin_pb2.ListGroupsRequest(page_size=PAGE_SIZE, page_token=token))
            found += page.groups
            token = page.next_page_token
            if not token:
                return found

    def browse(self, request: queue_admin_pb2.BrowseRequest) -> AsyncGenerator[queue_admin_pb2.BrowseResponse]:
        """Read batches without consuming them; all within one deadline."""
        return self._responses(lambda: self._stub.Browse(request, timeout=self.deadline_s, metadata=request_metadata()))

    def replay(
        self, request: queue_admin_pb2.ReplayDeadLettersRequest
    ) -> AsyncGenerator[queue_admin_pb2.ReplayDeadLettersResponse]:
        """Publish dead letters back to where they came from, however long it takes; closing stops it."""
        return self._responses(lambda: self._stub.ReplayDeadLetters(request, metadata=request_metadata()))

    def discard(
        self, request: queue_admin_pb2.DiscardDeadLettersRequest
    ) -> AsyncGenerator[queue_admin_pb2.DiscardDeadLettersResponse]:
        """Drop dead letters, however long it takes; closing stops it."""
        return self._responses(lambda: self._stub.DiscardDeadLetters(request, metadata=request_metadata()))

    async def _responses(
        self, begin: Callable[[], grpc.aio.UnaryStreamCall[_Request, _Response]]
    ) -> AsyncGenerator[_Response]:
        """The responses of a call as they come; closing cancels it. It begins when the first is asked for."""
        call = begin()
        try:
            async for response in call:
                yield response
        except grpc.aio.AioRpcError as error:
            raise self._failed(error) from None
        finally:
            call.cancel()
        self.observe(self.name, grpc.StatusCode.OK.name)
