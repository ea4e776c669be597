"""QueueAdminService: topics, groups, reading without consuming, dead letters, statistics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc

from telemetry.queue import wire_pb2
from telemetry.queue.core.errors import ClosedError
from telemetry.queue.core.names import matches
from telemetry.queue.core.types import Place
from telemetry.queue.engines.engine import QueueEngine
from telemetry.queue.services.dead_letters import DeadLetters
from telemetry.queue.services.encode import group_message, group_positions, timestamp, topic_message
from telemetry.queue.services.open_streams import GOING_AWAY, OpenStreams
from telemetry.queue.services.rights import is_guarded, may, may_see, require, require_role, require_sight
from telemetry.queue.stats import ServerStats, stats_message
from telemetry.queue.validation.admin import chosen_letters, page_of, topic_config
from telemetry.queue.validation.fields import (
    NAME_BYTES_MAX,
    duration_s,
    group_name,
    invalid,
    position,
    text,
    topic_name,
)
from telemetry.runtime.tokens import Right, Role
from telemetry.v1 import queue_admin_pb2
from telemetry.v1.queue_admin_pb2_grpc import QueueAdminServiceServicer

BROWSE_MESSAGES_DEFAULT: Final = 100
BROWSE_MESSAGES_MAX: Final = 10_000
REPLAYS_PER_SECOND_DEFAULT: Final = 100
WATCH_INTERVAL_S_DEFAULT: Final = 1.0
WATCH_INTERVAL_S_MIN: Final = 0.1

Context = grpc.aio.ServicerContext[Any, Any]


class AdminService(QueueAdminServiceServicer):
    """Serves `telemetry.v1.QueueAdminService` from an engine. The methods are named as the RPCs."""

    # ruff: noqa: N802 - names and meaning are the contract's

    def __init__(self, engine: QueueEngine, stats: Callable[[], Awaitable[ServerStats]]) -> None:
        self._engine = engine
        self._stats = stats
        self._dead_letters = DeadLetters(engine)
        self.watches = OpenStreams()

    async def CreateTopic(
        self, request: queue_admin_pb2.CreateTopicRequest, context: Context
    ) -> queue_admin_pb2.CreateTopicResponse:
        config = topic_config(request.topic)
        if not may(config.name, Right.PUBLISH, Right.ADMIN):
            # Whoever only reads may ask for a topic that is there, and is told so.
            require_sight(config.name)
            if all(each.config.name != config.name for each in await self._engine.list_topics()):
                require(Right.ADMIN, config.name)
        topic = await self._engine.create_topic(config)
        return queue_admin_pb2.CreateTopicResponse(topic=topic_message(topic))

    async def GetTopic(
        self, request: queue_admin_pb2.GetTopicRequest, context: Context
    ) -> queue_admin_pb2.GetTopicResponse:
        name = topic_name(request.topic, "topic")
        require_sight(name)
        topic = await self._engine.get_topic(name)
        return queue_admin_pb2.GetTopicResponse(topic=topic_message(topic))

    async def ListTopics(
        self, request: queue_admin_pb2.ListTopicsRequest, context: Context
    ) -> queue_admin_pb2.ListTopicsResponse:
        topics = {topic.config.name: topic for topic in await self._engine.list_topics() if may_see(topic.config.name)}
        names, token = page_of(sorted(topics), request.page_size, request.page_token)
        return queue_admin_pb2.ListTopicsResponse(
            topics=[topic_message(topics[name]) for name in names], next_page_token=token
        )

    async def UpdateTopic(
        self, request: queue_admin_pb2.UpdateTopicRequest, context: Context
    ) -> queue_admin_pb2.UpdateTopicResponse:
        config = topic_config(request.topic)
        require(Right.ADMIN, config.name)
        topic = await self._engine.update_topic(config)
        return queue_admin_pb2.UpdateTopicResponse(topic=topic_message(topic))

    async def DeleteTopic(
        self, request: queue_admin_pb2.DeleteTopicRequest, context: Context
    ) -> queue_admin_pb2.DeleteTopicResponse:
        name = topic_name(request.topic, "topic")
        require(Right.ADMIN, name)
        await self._engine.delete_topic(name)
        return queue_admin_pb2.DeleteTopicResponse()

    async def ListGroups(
        self, request: queue_admin_pb2.ListGroupsRequest, context: Context
    ) -> queue_admin_pb2.ListGroupsResponse:
        require_role(Role.VIEW)
        groups = {group.name: group for group in await self._engine.list_groups()}
        if request.topic:
            topic = topic_name(request.topic, "topic")
            groups = {
                name: group
                for name, group in groups.items()
                if any(matches(pattern, topic) for pattern in group.settings.topics)
            }
        names, token = page_of(sorted(groups), request.page_size, request.page_token)
        return queue_admin_pb2.ListGroupsResponse(
            groups=[group_message(groups[name]) for name in names], next_page_token=token
        )

    async def GetGroup(
        self, request: queue_admin_pb2.GetGroupRequest, context: Context
    ) -> queue_admin_pb2.GetGroupResponse:
        require_role(Role.VIEW)
        group = await self._engine.get_group(group_name(request.group))
        return queue_admin_pb2.GetGroupResponse(group=group_message(group))

    async def DeleteGroup(
        self, request: queue_admin_pb2.DeleteGroupRequest, context: Context
    ) -> queue_admin_pb2.DeleteGroupResponse:
        group = group_name(request.group)
        await self._require_group(group)
        await self._engine.delete_group(group, force=request.force)
        return queue_admin_pb2.DeleteGroupResponse()

    async def SeekGroup(
        self, request: queue_admin_pb2.SeekGroupRequest, context: Context
    ) -> queue_admin_pb2.SeekGroupResponse:
        group = group_name(request.group)
        topic = topic_name(request.topic, "topic") if request.topic else None
        partition = request.partition if request.HasField("partition") else None
        if partition is not None and topic is None:
            invalid("topic", "is required with partition")
        to = position(request.position, "position")
        if to is None:
            invalid("position", "is required")
        await self._require_group(group)
        moved = await self._engine.seek_group(
            group, to, topic=topic, partition=partition, force=request.force, dry_run=request.dry_run
        )
        return queue_admin_pb2.SeekGroupResponse(positions=group_positions(moved))

    async def PurgeTopic(
        self, request: queue_admin_pb2.PurgeTopicRequest, context: Context
    ) -> queue_admin_pb2.PurgeTopicResponse:
        name = topic_name(request.topic, "topic")
        require(Right.ADMIN, name)
        dropped = await self._engine.purge_topic(
            name,
            request.partition if request.HasField("partition") else None,
            request.before_offset if request.HasField("before_offset") else None,
        )
        return queue_admin_pb2.PurgeTopicResponse(messages=dropped)

    async def Browse(  # type: ignore[override]  # the response's twin, whose batch is bytes
        self, request: queue_admin_pb2.BrowseRequest, context: Context
    ) -> AsyncIterator[wire_pb2.BrowseResponse]:
        name = topic_name(request.topic, "topic")
        require(Right.SUBSCRIBE, name)
        batches = self._engine.browse(
            name,
            request.partition if request.HasField("partition") else None,
            position(request.position, "position") or Place.EARLIEST,
            min(request.max_messages or BROWSE_MESSAGES_DEFAULT, BROWSE_MESSAGES_MAX),
        )
        async for each in batches:
            yield wire_pb2.BrowseResponse(
                partition=each.partition,
                base_offset=each.base_offset,
                publish_time=timestamp(each.publish_time_us),
                batch=each.batch,
            )

    async def DescribeProducer(
        self, request: queue_admin_pb2.DescribeProducerRequest, context: Context
    ) -> queue_admin_pb2.DescribeProducerResponse:
        topic = topic_name(request.topic, "topic")
        if not text(request.producer_id, "producer_id", NAME_BYTES_MAX):
            invalid("producer_id", "is required")
        require(Right.PUBLISH, topic)
        positions = await self._engine.describe_producer(topic, request.producer_id)
        return queue_admin_pb2.DescribeProducerResponse(
            positions=[
                queue_admin_pb2.ProducerPosition(
                    partition=each.partition, producer_epoch=each.epoch, last_sequence=each.last_sequence
                )
                for each in positions
            ]
        )

    async def ReplayDeadLetters(
        self, request: queue_admin_pb2.ReplayDeadLettersRequest, context: Context
    ) -> AsyncIterator[queue_admin_pb2.ReplayDeadLettersResponse]:
        per_second = request.messages_per_second or REPLAYS_PER_SECOND_DEFAULT
        letters = chosen_letters(request)
        require(Right.ADMIN, letters.topic)
        async for done, total in self._dead_letters.replay(letters, per_second):
            yield queue_admin_pb2.ReplayDeadLettersResponse(done=done, total=total)

    async def DiscardDeadLetters(
        self, request: queue_admin_pb2.DiscardDeadLettersRequest, context: Context
    ) -> AsyncIterator[queue_admin_pb2.DiscardDeadLettersResponse]:
        letters = chosen_letters(request)
        require(Right.ADMIN, letters.topic)
        async for done, total in self._dead_letters.discard(letters):
            yield queue_admin_pb2.DiscardDeadLettersResponse(done=done, total=total)

    async def GetStats(
        self, request: queue_admin_pb2.GetStatsRequest, context: Context
    ) -> queue_admin_pb2.GetStatsResponse:
        require_role(Role.VIEW)
        return queue_admin_pb2.GetStatsResponse(stats=stats_message(await self._stats()))

    async def WatchStats(
        self, request: queue_admin_pb2.WatchStatsRequest, context: Context
    ) -> AsyncIterator[queue_admin_pb2.WatchStatsResponse]:
        require_role(Role.VIEW)
        interval_s = WATCH_INTERVAL_S_DEFAULT
        if request.HasField("interval"):
            interval_s = max(duration_s(request.interval, "interval"), WATCH_INTERVAL_S_MIN)
        draining: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self.watches.opened(on_drain=lambda: draining.set_result(None)):
            while not draining.done():
                yield queue_admin_pb2.WatchStatsResponse(stats=stats_message(await self._stats()))
                await asyncio.wait((draining,), timeout=interval_s)
        raise ClosedError(GOING_AWAY)

    async def _require_group(self, name: str) -> None:
        """See that the caller may administer all that a group subscribes to.

        Raises:
            PermissionDeniedError: if not.
            NotFoundError: if there is no such group.
        """
        if is_guarded():
            require(Right.ADMIN, *(await self._engine.get_group(name)).settings.topics)
