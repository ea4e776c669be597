"""`/queue`: topics made, changed, emptied and removed; groups moved and removed. Each change is in the audit log."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from starlette.responses import Response

from gateway import schemas
from gateway.access import Role, needs
from gateway.backends import BackendsDependency
from gateway.openapi import API, UPSTREAM, responses
from gateway.problems import ParameterError
from gateway.queue import schemas as queue_schemas
from gateway.queue.browsing import parse_position
from gateway.queue.changes import ActorDependency, change_topic, given, sought, topic_message
from gateway.queue.parameters import GroupPath, TopicPath
from gateway.routes.queue import TOPIC_EXAMPLE
from telemetry.queue import shapes
from telemetry.queue.clients.positions import start_position
from telemetry.queue.shapes import Json
from telemetry.runtime.http import JsonResponse
from telemetry.v1 import queue_admin_pb2

CHANGE_PROBLEMS: Final = (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, *UPSTREAM)
"""How every change may end."""

_SOUGHT: Final[dict[str, Any]] = {
    "group": "collectors",
    "dry_run": True,
    "positions": [
        {
            "topic": "telemetry",
            "partition": 0,
            "acked_through": 0,
            "end_offset": 1200,
            "acked_through_before": 1192,
            "again": 1192,
            "skipped": 0,
        }
    ],
}

router = APIRouter(prefix=f"{API}/queue", tags=["queue"])


@router.post(
    "/topics",
    summary="Make a topic",
    status_code=HTTPStatus.CREATED,
    response_model=schemas.Topic,
    responses=responses(TOPIC_EXAMPLE, *CHANGE_PROBLEMS, HTTPStatus.CONFLICT, status=HTTPStatus.CREATED),
    dependencies=[needs(Role.ADMIN)],
)
async def create_topic(body: queue_schemas.NewTopic, backends: BackendsDependency, actor: ActorDependency) -> Response:
    """The topic, with the queue's defaults filled in."""

    async def create() -> queue_admin_pb2.Topic:
        return await backends.queue.create_topic(topic_message(body))

    topic = await backends.audit.change(actor, "topic.create", body.name, given(body), create)
    headers = {"Location": f"{API}/queue/topics/{topic.name}"}
    return JsonResponse(shapes.topic(topic), status_code=HTTPStatus.CREATED, headers=headers)


@router.patch(
    "/topics/{topic:name}",
    summary="Change a topic's retention and limits",
    response_model=schemas.Topic,
    responses=responses(TOPIC_EXAMPLE, *CHANGE_PROBLEMS, HTTPStatus.NOT_FOUND),
    dependencies=[needs(Role.ADMIN)],
)
async def update_topic(
    topic: TopicPath, body: queue_schemas.TopicChange, backends: BackendsDependency, actor: ActorDependency
) -> Response:
    """The topic as it is now. Fields that are left out stay as they are."""

    async def update() -> queue_admin_pb2.Topic:
        current = await backends.queue.get_topic(topic)
        change_topic(current, body)
        return await backends.queue.update_topic(current)

    return JsonResponse(shapes.topic(await backends.audit.change(actor, "topic.update", topic, given(body), update)))


@router.delete(
    "/topics/{topic:name}",
    summary="Remove a topic",
    status_code=HTTPStatus.NO_CONTENT,
    response_class=Response,
    responses=responses(None, *CHANGE_PROBLEMS, HTTPStatus.NOT_FOUND, status=HTTPStatus.NO_CONTENT),
    dependencies=[needs(Role.ADMIN)],
)
async def delete_topic(topic: TopicPath, backends: BackendsDependency, actor: ActorDependency) -> Response:
    """With its messages, and where groups stand in it. Nothing brings them back."""
    await backends.audit.change(actor, "topic.delete", topic, {}, lambda: backends.queue.delete_topic(topic))
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.post(
    "/topics/{topic:name}:purge",
    summary="Drop a topic's messages",
    response_model=queue_schemas.Purged,
    responses=responses({"messages": 1200}, *CHANGE_PROBLEMS, HTTPStatus.NOT_FOUND),
    dependencies=[needs(Role.ADMIN)],
)
async def purge_topic(
    topic: TopicPath, body: queue_schemas.Purge, backends: BackendsDependency, actor: ActorDependency
) -> Response:
    """Whether or not they are acked. Groups that had not reached them go on after them."""
    request = queue_admin_pb2.PurgeTopicRequest(topic=topic, partition=body.partition, before_offset=body.before_offset)
    dropped = await backends.audit.change(
        actor, "topic.purge", topic, given(body), lambda: backends.queue.purge_topic(request)
    )
    return JsonResponse({"messages": dropped})


@router.delete(
    "/groups/{group:name}",
    summary="Remove a group",
    status_code=HTTPStatus.NO_CONTENT,
    response_class=Response,
    responses=responses(
        None, *CHANGE_PROBLEMS, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, status=HTTPStatus.NO_CONTENT
    ),
    dependencies=[needs(Role.ADMIN)],
)
async def delete_group(
    group: GroupPath,
    backends: BackendsDependency,
    actor: ActorDependency,
    force: Annotated[bool, Query(description="Disconnect members that are there.")] = False,
) -> Response:
    """It forgets where it stood. Members that are there are in the way unless forced."""
    await backends.audit.change(
        actor, "group.delete", group, {"force": force}, lambda: backends.queue.delete_group(group, force=force)
    )
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.post(
    "/groups/{group:name}:seek",
    summary="Move a group",
    response_model=queue_schemas.Sought,
    responses=responses(_SOUGHT, *CHANGE_PROBLEMS, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    dependencies=[needs(Role.OPERATE)],
)
async def seek_group(
    group: GroupPath, body: queue_schemas.Seek, backends: BackendsDependency, actor: ActorDependency
) -> Response:
    """Where it goes on in each partition, and how much is delivered again or skipped. A dry run changes nothing."""
    if body.partition is not None and not body.topic:
        raise ParameterError("topic", "topic is required with partition")
    request = queue_admin_pb2.SeekGroupRequest(
        group=group,
        topic=body.topic,
        partition=body.partition,
        position=start_position(parse_position(body.position, "position")),
        force=body.force,
        dry_run=body.dry_run,
    )

    async def seek() -> Json:
        before = (await backends.queue.get_group(group)).positions
        return sought(group, before, await backends.queue.seek_group(request), dry_run=body.dry_run)

    if body.dry_run:
        return JsonResponse(await seek())
    return JsonResponse(await backends.audit.change(actor, "group.seek", group, given(body), seek))
