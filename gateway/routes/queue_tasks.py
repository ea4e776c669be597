"""`/queue`: dead letters replayed and discarded as tasks, and the audit log."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.access import Role, needs
from gateway.audit import Actor, describe, outcome_of
from gateway.backends import Backends, BackendsDependency
from gateway.openapi import API, UPSTREAM, responses
from gateway.queue import schemas as queue_schemas
from gateway.queue.changes import ActorDependency, given, partition_of
from gateway.queue.parameters import TopicPath
from gateway.queue.tasks import Kind, Progress
from gateway.routes.queue_messages import dead_letters_of
from telemetry.queue.core.names import dead_letter_topic_of
from telemetry.runtime.http import JsonResponse
from telemetry.v1 import queue_admin_pb2

AUDIT_LIMIT_DEFAULT: Final = 100
AUDIT_LIMIT_MAX: Final = 1_000

_TASK: Final[dict[str, Any]] = {
    "id": "3f0c8e4b7a2d4f6e9b1c5d7e8f901234",
    "kind": "replay",
    "topic": "telemetry.dead-letter",
    "state": "running",
    "done": 120,
    "total": 400,
    "started_at": "2025-07-18T20:42:00Z",
    "finished_at": None,
    "error": "",
}
_ENTRY: Final[dict[str, Any]] = {
    "id": "9a1c5d7e8f9012343f0c8e4b7a2d4f6e",
    "time": "2025-07-18T20:42:00.123Z",
    "peer": "127.0.0.1:51234",
    "who": "",
    "request_id": "6d2f7c1e",
    "action": "group.seek",
    "target": "collectors",
    "parameters": {"position": "earliest", "force": True},
    "outcome": "done",
    "detail": "",
    "finished_at": "2025-07-18T20:42:00.131Z",
}
_PROBLEMS: Final = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.CONFLICT,
    HTTPStatus.TOO_MANY_REQUESTS,
    *UPSTREAM,
)

router = APIRouter(prefix=f"{API}/queue", tags=["queue"])

TaskId = Annotated[str, Path(max_length=64, description="The task's id.")]


@router.post(
    "/topics/{topic:name}/dead-letters:replay",
    summary="Publish dead letters back to where they came from",
    status_code=HTTPStatus.ACCEPTED,
    response_model=queue_schemas.Task,
    responses=responses(_TASK, *_PROBLEMS, status=HTTPStatus.ACCEPTED),
    dependencies=[needs(Role.OPERATE)],
)
async def replay_dead_letters(
    topic: TopicPath, body: queue_schemas.ReplayLetters, backends: BackendsDependency, actor: ActorDependency
) -> Response:
    """A task. What is replayed leaves the dead-letter topic, and stays replayed if the task is cancelled."""
    return await _start("replay", topic, body, backends, actor)


@router.post(
    "/topics/{topic:name}/dead-letters:discard",
    summary="Throw dead letters away",
    status_code=HTTPStatus.ACCEPTED,
    response_model=queue_schemas.Task,
    responses=responses(_TASK | {"kind": "discard"}, *_PROBLEMS, status=HTTPStatus.ACCEPTED),
    dependencies=[needs(Role.ADMIN)],
)
async def discard_dead_letters(
    topic: TopicPath, body: queue_schemas.Letters, backends: BackendsDependency, actor: ActorDependency
) -> Response:
    """A task. Nothing brings them back."""
    return await _start("discard", topic, body, backends, actor)


@router.get(
    "/tasks",
    summary="List tasks, newest first",
    response_model=queue_schemas.TaskList,
    responses=responses({"tasks": [_TASK]}),
)
async def list_tasks(backends: BackendsDependency) -> Response:
    """Those that run, and the last that have ended; they are forgotten when the gateway ends."""
    return JsonResponse({"tasks": [each.json() for each in backends.tasks]})


@router.get(
    "/tasks/{task}",
    summary="How far a task has come",
    response_model=queue_schemas.Task,
    responses=responses(_TASK, HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND),
)
async def get_task(task: TaskId, backends: BackendsDependency) -> Response:
    """The task."""
    return JsonResponse(backends.tasks.get(task).json())


@router.delete(
    "/tasks/{task}",
    summary="Cancel a task",
    response_model=queue_schemas.Task,
    responses=responses(
        _TASK | {"state": "cancelled", "finished_at": "2025-07-18T20:42:03Z"},
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
    ),
    dependencies=[needs(Role.OPERATE)],
)
async def cancel_task(task: TaskId, backends: BackendsDependency) -> Response:
    """The task, which has stopped. What it has done stays done; one that had ended already stays as it was."""
    return JsonResponse((await backends.tasks.cancel(task)).json())


@router.get(
    "/audit",
    summary="List the newest changes",
    response_model=queue_schemas.AuditPage,
    responses=responses({"entries": [_ENTRY]}, HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN),
    dependencies=[needs(Role.OPERATE)],
)
async def list_audit_entries(
    backends: BackendsDependency,
    limit: Annotated[
        int,
        Query(ge=0, le=AUDIT_LIMIT_MAX, description=f"The most entries; 0 means {AUDIT_LIMIT_DEFAULT}."),
    ] = AUDIT_LIMIT_DEFAULT,
) -> Response:
    """Changes that were asked for over REST, newest first; the file of `--audit-log` goes further back."""
    return JsonResponse({"entries": [asdict(each) for each in backends.audit.newest(limit or AUDIT_LIMIT_DEFAULT)]})


async def _start(kind: Kind, topic: str, body: queue_schemas.Letters, backends: Backends, actor: Actor) -> Response:
    name = await dead_letters_of(backends, topic)
    if name is None:
        detail = f"{topic} has no dead letters: there is no topic {dead_letter_topic_of(topic)}"
        raise HTTPException(HTTPStatus.NOT_FOUND, detail)
    partition = partition_of(body, await backends.queue.get_topic(name))
    backends.tasks.check_room()
    entry = await backends.audit.begin(actor, f"dead-letters.{kind}", name, given(body))
    try:
        work = _progress(backends, name, body, partition)
        task = await backends.tasks.start(kind, name, work, partial(backends.audit.end, entry))
    except HTTPException as error:
        # Somebody else took the last place.
        await backends.audit.end(entry, outcome_of(error), describe(error))
        raise
    return JsonResponse(
        task.json(), status_code=HTTPStatus.ACCEPTED, headers={"Location": f"{API}/queue/tasks/{task.id}"}
    )


def _progress(backends: Backends, topic: str, body: queue_schemas.Letters, partition: int | None) -> Progress:
    if isinstance(body, queue_schemas.ReplayLetters):
        replay = queue_admin_pb2.ReplayDeadLettersRequest(
            topic=topic, offsets=body.offsets, partition=partition, messages_per_second=body.rate
        )
        return _counts(backends.queue.replay(replay))
    discard = queue_admin_pb2.DiscardDeadLettersRequest(topic=topic, offsets=body.offsets, partition=partition)
    return _counts(backends.queue.discard(discard))


async def _counts(
    reports: AsyncGenerator[queue_admin_pb2.ReplayDeadLettersResponse]
    | AsyncGenerator[queue_admin_pb2.DiscardDeadLettersResponse],
) -> AsyncGenerator[tuple[int, int], None]:
    async with aclosing(reports):
        async for report in reports:
            yield report.done, report.total
