"""A collector and a queue that answer from memory, a gateway in front of them, and a reader of event streams."""

# ruff: noqa: N802 - methods are called as the contract calls them
from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.server import GatewayServer
from telemetry.live import LiveColumn, LiveUpdate
from telemetry.runtime.grpc_server import GrpcServer
from telemetry.runtime.status import InvalidArgumentError, NotFoundError
from telemetry.topics import LIVE_TOPIC
from telemetry.v1 import (
    query_pb2,
    query_pb2_grpc,
    queue_admin_pb2,
    queue_admin_pb2_grpc,
    queue_pb2,
    queue_pb2_grpc,
)

NEWEST_S = 1752871354
"""When the newest record of every GPU was taken: 2025-07-18T20:42:34Z."""


def timestamp(seconds: float) -> Timestamp:
    message = Timestamp()
    message.FromMicroseconds(round(seconds * 1e6))
    return message


def duration(seconds: float) -> Duration:
    message = Duration()
    message.FromMicroseconds(round(seconds * 1e6))
    return message


def gpu_message(name: str, host: str, index: str, model: str = "NVIDIA H100 80GB HBM3") -> query_pb2.Gpu:
    return query_pb2.Gpu(
        gpu=name,
        host=host,
        index=index,
        model=model,
        labels={"host": host, "index": index},
        first_seen=timestamp(NEWEST_S - 600),
        last_seen=timestamp(NEWEST_S),
        metrics=["power_draw", "temperature"],
    )


class FakeCollector(query_pb2_grpc.QueryServiceServicer):
    """A fleet of a few GPUs. ``fail`` is raised by every call; ``gate`` holds every call back until it is set."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Be as new."""
        self.gpus = [
            gpu_message("GPU-5b8ae3c1", "node-1", "1"),
            gpu_message("GPU-5fd4f087", "node-1", "0"),
            gpu_message("MIG-1", "node-3", "0"),
            gpu_message("MIG-2", "node-3", "0"),
            gpu_message("node-2/0", "node-2", "0", model=""),
            gpu_message("node-2/01", "node-2", "01", model=""),
        ]
        self.fail: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.called = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.requests: list[Any] = []
        self.deadlines_s: list[float] = []

    def last(self, kind: type[Any]) -> Any:
        return next(each for each in reversed(self.requests) if isinstance(each, kind))

    def _chosen(self, selector: query_pb2.GpuSelector) -> list[query_pb2.Gpu]:
        return [
            gpu
            for gpu in self.gpus
            if (not selector.gpus or gpu.gpu in selector.gpus)
            and (not selector.hosts or gpu.host in selector.hosts)
            and all(gpu.labels.get(name) == value for name, value in selector.labels.items())
        ]

    async def _called(self, request: Any, context: Any) -> None:
        self.requests.append(request)
        self.deadlines_s.append(context.time_remaining())
        self.called.set()
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        if self.fail is not None:
            raise self.fail

    async def ListGpus(self, request: query_pb2.ListGpusRequest, context: Any) -> query_pb2.ListGpusResponse:
        await self._called(request, context)
        if request.page_token and not request.page_token.isdigit():
            raise InvalidArgumentError("page_token is not one of ours", field="page_token")
        chosen = [gpu for gpu in self._chosen(request.selector) if gpu.gpu.startswith(request.gpu_prefix)]
        begin, size = int(request.page_token or 0), request.page_size or 100
        end = begin + size
        token = str(end) if end < len(chosen) else ""
        return query_pb2.ListGpusResponse(gpus=chosen[begin:end], next_page_token=token, total=len(chosen))

    async def ListHosts(self, request: query_pb2.ListHostsRequest, context: Any) -> query_pb2.ListHostsResponse:
        await self._called(request, context)
        names = sorted({gpu.host for gpu in self.gpus})
        seen = {"first_seen": timestamp(NEWEST_S - 600), "last_seen": timestamp(NEWEST_S)}
        hosts = [query_pb2.Host(host=name, gpus=sum(gpu.host == name for gpu in self.gpus), **seen) for name in names]
        return query_pb2.ListHostsResponse(hosts=hosts)

    async def GetLatest(self, request: query_pb2.GetLatestRequest, context: Any) -> query_pb2.GetLatestResponse:
        await self._called(request, context)
        chosen = self._chosen(request.selector)
        columns = {
            "power_draw": [400.0 + row for row in range(len(chosen))],
            "temperature": [60.0] + [float("nan")] * (len(chosen) - 1),
            "fan_speed": [float("nan")] * len(chosen),
        }
        return query_pb2.GetLatestResponse(
            gpus=[gpu.gpu for gpu in chosen],
            timestamps_us=[NEWEST_S * 1_000_000] * len(chosen),
            columns=[
                query_pb2.MetricColumn(metric=name, values=values)
                for name, values in columns.items()
                if not request.metrics or name in request.metrics
            ],
            completeness=query_pb2.Completeness(partial=True, warnings=["one collector is missing"]),
        )

    async def StreamRecords(
        self, request: query_pb2.StreamRecordsRequest, context: Any
    ) -> AsyncIterator[query_pb2.StreamRecordsResponse]:
        await self._called(request, context)
        for back in range(2):
            record = query_pb2.Record(
                gpu=request.selector.gpus[0],
                timestamp=timestamp(NEWEST_S - back - 0.5),
                metrics={"temperature": 60.0 + back, "power_draw": float("nan")},
            )
            yield query_pb2.StreamRecordsResponse(records=[record])
        yield query_pb2.StreamRecordsResponse(completeness=query_pb2.Completeness())

    async def QuerySeries(self, request: query_pb2.QuerySeriesRequest, context: Any) -> query_pb2.QuerySeriesResponse:
        await self._called(request, context)
        if request.HasField("step") and request.step.ToMilliseconds() == 1:
            raise InvalidArgumentError("the range holds more than 11,000 steps", field="step")
        columns = [query_pb2.MetricColumn(metric=name, values=[62.5, float("nan")]) for name in request.metrics]
        return query_pb2.QuerySeriesResponse(
            timestamps_us=[(NEWEST_S - 10) * 1_000_000, NEWEST_S * 1_000_000],
            step=duration(10),
            series=[query_pb2.Series(gpu=request.selector.gpus[0], columns=columns)],
        )

    async def GetStats(
        self, request: query_pb2.QueryServiceGetStatsRequest, context: Any
    ) -> query_pb2.QueryServiceGetStatsResponse:
        await self._called(request, context)
        stats = query_pb2.CollectorStats(version="1.2.3", start_time=timestamp(NEWEST_S - 900))
        return query_pb2.QueryServiceGetStatsResponse(stats=stats)


class FakeQueue(queue_admin_pb2_grpc.QueueAdminServiceServicer, queue_pb2_grpc.QueueServiceServicer):
    """One topic, one group, and subscriptions to the live view that get what :meth:`send` is given."""

    def __init__(self) -> None:
        self.created: list[queue_admin_pb2.Topic] = []
        self.subscribed = asyncio.Event()
        self._subscriptions: list[asyncio.Queue[queue_pb2.SubscribeResponse]] = []
        self._offset = 0

    @property
    def subscriptions(self) -> int:
        """How many there have been."""
        return len(self._subscriptions)

    def send(self, *updates: LiveUpdate | bytes) -> None:
        """Deliver a batch of live updates to every subscription."""
        batch = queue_pb2.MessageBatch()
        for update in updates:
            batch.messages.add(data=update if isinstance(update, bytes) else update.encode())
        delivery = queue_pb2.Delivery(topic=LIVE_TOPIC, base_offset=self._offset, batch=batch)
        self._offset += len(updates)
        for subscription in self._subscriptions:
            subscription.put_nowait(queue_pb2.SubscribeResponse(delivery=delivery))

    def send_gap(self, missed: int) -> None:
        """Tell every subscription that it missed messages."""
        gap = queue_pb2.SubscribeGap(topic=LIVE_TOPIC, missed=missed)
        for subscription in self._subscriptions:
            subscription.put_nowait(queue_pb2.SubscribeResponse(gap=gap))

    async def Subscribe(
        self, request_iterator: AsyncIterator[queue_pb2.SubscribeRequest], context: Any
    ) -> AsyncIterator[queue_pb2.SubscribeResponse]:
        first = await anext(request_iterator)
        assert list(first.start.topics) == [LIVE_TOPIC]
        assert not first.start.group
        events: asyncio.Queue[queue_pb2.SubscribeResponse] = asyncio.Queue()
        self._subscriptions.append(events)
        yield queue_pb2.SubscribeResponse(started=queue_pb2.SubscribeStarted(session_id="1"))
        self.subscribed.set()
        while True:
            yield await events.get()

    async def CreateTopic(
        self, request: queue_admin_pb2.CreateTopicRequest, context: Any
    ) -> queue_admin_pb2.CreateTopicResponse:
        self.created.append(request.topic)
        return queue_admin_pb2.CreateTopicResponse(topic=request.topic)

    @property
    def topic(self) -> queue_admin_pb2.Topic:
        return queue_admin_pb2.Topic(
            name="telemetry",
            partitions=8,
            storage=queue_admin_pb2.TOPIC_STORAGE_DISK,
            retention=queue_admin_pb2.Retention(age=duration(3600), drop_acked=True),
            limits=queue_admin_pb2.TopicLimits(batch_messages=65536),
            create_time=timestamp(NEWEST_S - 900),
        )

    async def GetTopic(
        self, request: queue_admin_pb2.GetTopicRequest, context: Any
    ) -> queue_admin_pb2.GetTopicResponse:
        if request.topic != "telemetry":
            raise NotFoundError(f"there is no topic {request.topic!r}", field="topic")
        return queue_admin_pb2.GetTopicResponse(topic=self.topic)

    async def ListTopics(
        self, request: queue_admin_pb2.ListTopicsRequest, context: Any
    ) -> queue_admin_pb2.ListTopicsResponse:
        if request.page_token:
            raise InvalidArgumentError("page_token is not one of ours", field="page_token")
        return queue_admin_pb2.ListTopicsResponse(topics=[self.topic], next_page_token="more")

    async def ListGroups(
        self, request: queue_admin_pb2.ListGroupsRequest, context: Any
    ) -> queue_admin_pb2.ListGroupsResponse:
        if request.page_token:
            raise InvalidArgumentError("page_token is not one of ours", field="page_token")
        group = queue_admin_pb2.Group(
            name="collectors",
            topics=["telemetry"],
            mode=queue_pb2.SUBSCRIPTION_MODE_ORDERED,
            ack_wait=duration(30),
            max_deliver=10,
            backoff=[duration(1.5)],
            max_unacked=1_000_000,
            positions=[queue_admin_pb2.GroupPosition(topic="telemetry", acked_through=7, end_offset=9)],
        )
        groups = [group] if request.topic in ("", "telemetry") else []
        return queue_admin_pb2.ListGroupsResponse(groups=groups)

    async def GetStats(
        self, request: queue_admin_pb2.GetStatsRequest, context: Any
    ) -> queue_admin_pb2.GetStatsResponse:
        partition = queue_admin_pb2.PartitionStats(partition=0, start_offset=0, end_offset=9, bytes=900)
        member = queue_admin_pb2.MemberStats(
            member="collector-1",
            session_id="5f3a",
            peer="127.0.0.1:51234",
            permits_messages=10,
            unacked=2,
            partitions=[queue_pb2.TopicPartition(topic="telemetry", partition=0)],
            join_time=timestamp(NEWEST_S - 900),
        )
        stats = queue_admin_pb2.QueueStats(
            version="1.2.3",
            start_time=timestamp(NEWEST_S - 900),
            engine="disk",
            connections=3,
            topics=[queue_admin_pb2.TopicStats(topic="telemetry", messages=9, partitions=[partition])],
            groups=[
                queue_admin_pb2.GroupStats(
                    group="collectors",
                    mode=queue_pb2.SUBSCRIPTION_MODE_ORDERED,
                    lag_messages=2,
                    lag_age=duration(0.25),
                    members=[member],
                )
            ],
            log=queue_admin_pb2.LogStats(bytes=900, segments=1, fsync_p50=duration(0.0005)),
        )
        return queue_admin_pb2.GetStatsResponse(stats=stats)


def live_update(*gpus: str, value: float = 63.0, labels: dict[str, dict[str, str]] | None = None) -> LiveUpdate:
    """What a collector publishes of these GPUs."""

    def column(base: float) -> LiveColumn:
        return LiveColumn([base] * len(gpus), [base - 1] * len(gpus), [base + 1] * len(gpus))

    columns = {"temperature": column(value), "power_draw": column(value * 10)}
    return LiveUpdate(list(gpus), [NEWEST_S * 1_000_000] * len(gpus), columns, labels or {})


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One block of an event stream."""

    event: str = ""
    event_id: str = ""
    data: Any = None
    retry: str = ""
    comment: str = ""


@dataclass(slots=True)
class SseReader:
    """Reads the blocks of an event stream one by one."""

    response: httpx.Response
    first: SseEvent = field(default_factory=lambda: SseEvent())
    _lines: AsyncIterator[str] | None = field(default=None)

    async def next(self) -> SseEvent:
        if self._lines is None:
            self._lines = self.response.aiter_lines()
        fields: dict[str, Any] = {}
        async for line in self._lines:
            if not line:
                return SseEvent(**fields)
            name, _, value = line.partition(": " if not line.startswith(":") else ":")
            fields[{"id": "event_id", "": "comment"}.get(name, name)] = json.loads(value) if name == "data" else value
        raise EOFError

    async def next_event(self) -> SseEvent:
        """The next block that is an event."""
        while True:
            block = await self.next()
            if block.event:
                return block


Streams = Callable[..., AbstractAsyncContextManager[SseReader]]
"""Opens an event stream with these parameters."""


async def serve(*services: tuple[Any, Callable[[grpc.aio.Server], None]], port: int = 0) -> GrpcServer:
    server = GrpcServer([*services], host="127.0.0.1", port=port)
    await server.start()
    await server.set_serving()
    return server


def query_service(fake: FakeCollector) -> tuple[Any, Callable[[grpc.aio.Server], None]]:
    descriptor = query_pb2.DESCRIPTOR.services_by_name["QueryService"]
    return descriptor, lambda server: query_pb2_grpc.add_QueryServiceServicer_to_server(fake, server)


def queue_services(fake: FakeQueue) -> Sequence[tuple[Any, Callable[[grpc.aio.Server], None]]]:
    return (
        (
            queue_admin_pb2.DESCRIPTOR.services_by_name["QueueAdminService"],
            lambda server: queue_admin_pb2_grpc.add_QueueAdminServiceServicer_to_server(fake, server),
        ),
        (
            queue_pb2.DESCRIPTOR.services_by_name["QueueService"],
            lambda server: queue_pb2_grpc.add_QueueServiceServicer_to_server(fake, server),
        ),
    )


def gateway_to(queue_port: int, collector_port: int, **settings: Any) -> GatewayServer:
    """A gateway on free ports. Nobody answers for the streamer and the alerts."""
    return GatewayServer(
        host="127.0.0.1",
        dashboard_port=0,
        api_port=0,
        queue=f"127.0.0.1:{queue_port}",
        **{
            "collectors": [f"127.0.0.1:{collector_port}"],
            "streamer_http": "127.0.0.1:1",
            "alerts": "127.0.0.1:1",
            **settings,
        },
    )


@asynccontextmanager
async def event_stream(client: httpx.AsyncClient, last_id: str = "", **parameters: Any) -> AsyncIterator[SseReader]:
    """An open event stream of which the first block has been read."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with client.stream("GET", "/api/v1/stream", params=parameters, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        reader = SseReader(response)
        reader.first = await reader.next()
        assert reader.first.retry == "2000"
        yield reader
