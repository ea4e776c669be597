"""From the bodies of requests to the queue's own messages, and who it was that sent them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Depends
from starlette.requests import Request

from gateway.access import Access
from gateway.audit import Actor
from gateway.problems import ParameterError
from gateway.queue import schemas as queue_schemas
from telemetry.queue import shapes
from telemetry.queue.clients.positions import duration_of
from telemetry.queue.shapes import Json
from telemetry.v1 import queue_admin_pb2

_STORAGES: Final = {
    "": queue_admin_pb2.TOPIC_STORAGE_UNSPECIFIED,
    "disk": queue_admin_pb2.TOPIC_STORAGE_DISK,
    "memory": queue_admin_pb2.TOPIC_STORAGE_MEMORY,
}


def _actor(request: Request) -> Actor:
    access: Access = request.app.state.access
    peer = f"{request.client.host}:{request.client.port}" if request.client else ""
    return Actor(peer, access.name(request), request_id(request))


ActorDependency = Annotated[Actor, Depends(_actor)]


def request_id(request: Request) -> str:
    """What the request is called in logs: what was made for it, else what its sender calls it."""
    made = request.scope.get("state", {}).get("request_id", "")
    return str(made or request.headers.get("x-request-id", ""))[:128]


def topic_message(body: queue_schemas.NewTopic) -> queue_admin_pb2.Topic:
    """A topic to be made."""
    topic = queue_admin_pb2.Topic(name=body.name, partitions=body.partitions, storage=_STORAGES[body.storage])
    change_topic(topic, body)
    return topic


def change_topic(topic: queue_admin_pb2.Topic, body: queue_schemas.NewTopic | queue_schemas.TopicChange) -> None:
    """Write the settings that the body names into a topic."""
    for name, value in body.retention.model_dump(exclude_unset=True).items():
        if name != "age_s":
            setattr(topic.retention, name, value)
        elif value is None:
            topic.retention.ClearField("age")
        else:
            topic.retention.age.CopyFrom(duration_of(value))
    for name, value in body.limits.model_dump(exclude_unset=True).items():
        setattr(topic.limits, name, value)


def sought(
    group: str,
    before: Sequence[queue_admin_pb2.GroupPosition],
    after: Sequence[queue_admin_pb2.GroupPosition],
    *,
    dry_run: bool,
) -> Json:
    """What a seek moves, or would move."""
    was = {(each.topic, each.partition): each.acked_through for each in before}
    positions = []
    for each in after:
        old = was.get((each.topic, each.partition))
        moved = 0 if old is None else each.acked_through - old
        positions.append(
            shapes.group_position(each)
            | {"acked_through_before": old, "again": max(0, -moved), "skipped": max(0, moved)}
        )
    return {"group": group, "dry_run": dry_run, "positions": positions}


def partition_of(body: queue_schemas.Letters, topic: queue_admin_pb2.Topic) -> int | None:
    """The partition whose letters are meant; ``None`` means all.

    Raises:
        ParameterError: if there are offsets and it is not clear of which partition.
    """
    if body.partition is None and body.offsets:
        if topic.partitions > 1:
            detail = f"is needed with offsets, because {topic.name} has {topic.partitions} partitions"
            raise ParameterError("partition", detail, HTTPStatus.BAD_REQUEST)
        return 0
    return body.partition


def given(body: queue_schemas.Body) -> Mapping[str, Any]:
    """The fields that a body has, for the audit log."""
    return body.model_dump(exclude_unset=True)
