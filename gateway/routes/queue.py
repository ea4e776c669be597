"""`/queue`: the message queue's topics, groups and statistics."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Query
from starlette.responses import Response

from gateway import schemas
from gateway.answers import page_of
from gateway.backends import BackendsDependency
from gateway.openapi import API, UPSTREAM, responses
from gateway.parameters import PAGE_SIZE_DEFAULT, PageSize, PageToken
from gateway.queue import schemas as queue_schemas
from gateway.queue.parameters import GroupPath, TopicPath
from telemetry.queue import shapes
from telemetry.runtime.http import JsonResponse
from telemetry.v1 import queue_admin_pb2

_TOPIC_STATS: Final = {
    "topic": "telemetry",
    "messages": 1200,
    "bytes": 720000,
    "published": 1200,
    "duplicates": 0,
    "publish_rate": 20.0,
    "partitions": [{"partition": 0, "start_offset": 0, "end_offset": 1200, "bytes": 720000}],
}
_GROUP_STATS: Final = {
    "group": "collectors",
    "mode": "ordered",
    "ready": 3,
    "unacked": 5,
    "dead_lettered": 0,
    "oldest_unacked_age_s": 0.2,
    "lag_messages": 8,
    "lag_age_s": 0.4,
    "delivered": 1197,
    "acked": 1192,
    "redelivered": 0,
    "deliver_rate": 20.0,
    "ack_rate": 20.0,
    "blocked_on_max_unacked": False,
    "members": [
        {
            "member": "collector-1",
            "session_id": "5f3a",
            "peer": "127.0.0.1:51234",
            "permits_messages": 9995,
            "permits_bytes": 67000000,
            "unacked": 5,
            "partitions": [{"topic": "telemetry", "partition": 0}],
            "join_time": "2025-07-18T20:40:01Z",
        }
    ],
}
_STATS: Final = {
    "version": "0.1.0",
    "start_time": "2025-07-18T20:40:00Z",
    "engine": "disk",
    "connections": 3,
    "topics": [_TOPIC_STATS],
    "groups": [_GROUP_STATS],
    "log": {
        "bytes": 720000,
        "segments": 1,
        "fsyncs": 310,
        "fsync_p50_s": 0.0004,
        "fsync_p99_s": 0.002,
        "quarantined_records": 0,
        "torn_bytes": 0,
    },
}
TOPIC_EXAMPLE: Final = {
    "name": "telemetry",
    "partitions": 8,
    "storage": "disk",
    "create_time": "2025-07-18T20:40:00Z",
    "retention": {"age_s": 86400.0, "bytes": 0, "drop_unacked": False, "drop_acked": True},
    "limits": {"message_bytes": 8388608, "batch_bytes": 8388608, "batch_messages": 65536, "partition_bytes": 0},
}
_GROUP: Final = {
    "name": "collectors",
    "topics": ["telemetry"],
    "mode": "ordered",
    "ack_wait_s": 30.0,
    "max_deliver": 10,
    "backoff_s": [],
    "dead_letter_topic": "",
    "max_unacked": 1000000,
    "positions": [{"topic": "telemetry", "partition": 0, "acked_through": 1192, "end_offset": 1200}],
}

router = APIRouter(prefix=f"{API}/queue", tags=["queue"])


@router.get(
    "/stats",
    summary="All that the queue counts",
    response_model=schemas.QueueStats,
    responses=responses(_STATS, *UPSTREAM),
)
async def get_queue_stats(backends: BackendsDependency) -> Response:
    """Topics, groups with their members and lag, and the log on disk."""
    return JsonResponse(shapes.queue_stats(await backends.queue.stats()))


@router.get(
    "/topics",
    summary="List topics by name",
    response_model=schemas.TopicPage,
    responses=responses({"topics": [TOPIC_EXAMPLE], "next_page_token": ""}, HTTPStatus.BAD_REQUEST, *UPSTREAM),
)
async def list_topics(
    backends: BackendsDependency, page_size: PageSize = PAGE_SIZE_DEFAULT, page_token: PageToken = ""
) -> Response:
    """A page of topics."""
    wanted = queue_admin_pb2.ListTopicsRequest(page_size=page_size, page_token=page_token)
    return JsonResponse(page_of("topics", shapes.topic, await backends.queue.list_topics(wanted)))


@router.get(
    "/topics/{topic:name}",
    summary="One topic and what is counted of it",
    response_model=schemas.TopicDetail,
    responses=responses(
        TOPIC_EXAMPLE | {"stats": _TOPIC_STATS}, HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, *UPSTREAM
    ),
)
async def get_topic(backends: BackendsDependency, topic: TopicPath) -> Response:
    """The topic with its settings, partitions and counters."""
    found, stats = await asyncio.gather(backends.queue.get_topic(topic), backends.queue.stats())
    counted = next((shapes.topic_stats(each) for each in stats.topics if each.topic == topic), None)
    return JsonResponse(shapes.topic(found) | {"stats": counted})


@router.get(
    "/groups",
    summary="List subscription groups by name",
    response_model=schemas.GroupPage,
    responses=responses({"groups": [_GROUP], "next_page_token": ""}, HTTPStatus.BAD_REQUEST, *UPSTREAM),
)
async def list_groups(
    backends: BackendsDependency,
    topic: Annotated[str, Query(max_length=200, description="Only groups that subscribe to this topic.")] = "",
    page_size: PageSize = PAGE_SIZE_DEFAULT,
    page_token: PageToken = "",
) -> Response:
    """A page of groups and where they stand in each partition."""
    wanted = queue_admin_pb2.ListGroupsRequest(topic=topic, page_size=page_size, page_token=page_token)
    return JsonResponse(page_of("groups", shapes.group, await backends.queue.list_groups(wanted)))


@router.get(
    "/groups/{group:name}",
    summary="One group and what is counted of it",
    response_model=queue_schemas.GroupDetail,
    responses=responses(_GROUP | {"stats": _GROUP_STATS}, HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, *UPSTREAM),
)
async def get_group(backends: BackendsDependency, group: GroupPath) -> Response:
    """The group with its settings, where it stands, its members and its lag."""
    found, stats = await asyncio.gather(backends.queue.get_group(group), backends.queue.stats())
    counted = next((shapes.group_stats(each) for each in stats.groups if each.group == group), None)
    return JsonResponse(shapes.group(found) | {"stats": counted})
