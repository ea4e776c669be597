"""`/queue/topics/{topic}/messages` and `…/dead-letters`: looking into the queue without consuming."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import AfterValidator
from starlette.responses import Response

from gateway.backends import Backends, BackendsDependency
from gateway.openapi import API, UPSTREAM, responses
from gateway.queue import schemas as queue_schemas
from gateway.queue.browsing import LIMIT_DEFAULT, LIMIT_MAX, Found, browse, parse_begin
from gateway.queue.message_shapes import messages
from gateway.queue.parameters import TopicPath
from telemetry.queue.core.names import dead_letter_topic_of
from telemetry.queue.letters import dead_letter_topic_meant
from telemetry.queue.shapes import Json
from telemetry.runtime.http import JsonResponse

MESSAGE_EXAMPLE: Final[dict[str, Any]] = {
    "partition": 0,
    "offset": 1199,
    "publish_time": "2025-07-18T20:42:35Z",
    "ordering_key": "",
    "attributes": {"content-type": "application/vnd.apache.arrow.stream", "source": "dcgm.csv:120-5119"},
    "bytes": 61234,
    "content_type": "application/vnd.apache.arrow.stream",
    "kind": "records",
    "rows": [
        {
            "timestamp": "2025-07-18T20:42:34Z",
            "gpu": "GPU-5fd4f087-86f3-7a43-b711-4771313afc50",
            "metrics": {"power_draw": 412.0, "temperature": 63.0},
            "labels": {"host": "node-1", "index": "0"},
        }
    ],
    "rows_total": 5000,
    "text": None,
    "base64": None,
    "truncated": False,
    "problem": "",
}
LETTER_EXAMPLE: Final = MESSAGE_EXAMPLE | {
    "offset": 7,
    "origin": {
        "topic": "telemetry",
        "partition": 0,
        "offset": 1100,
        "group": "collectors",
        "attempts": 10,
        "reason": "cannot be read",
        "first_time": "2025-07-18T20:40:00.000000Z",
        "last_time": "2025-07-18T20:42:00.000000Z",
    },
}

router = APIRouter(prefix=f"{API}/queue", tags=["queue"])

Partition = Annotated[int | None, Query(ge=0, le=1023, description="Only this partition.")]
From = Annotated[
    str,
    Query(
        alias="from",
        min_length=1,
        max_length=2_000,
        description="Where to begin: `earliest`; `latest`, which means the newest, newest first; an offset; an RFC "
        "3339 time; or an offset a partition, such as `0:120,3:7`, which is what `next` of the page before says.",
    ),
]
MessageLimit = Annotated[
    int,
    AfterValidator(lambda limit: min(limit, LIMIT_MAX)),
    Query(ge=0, description=f"The most messages; 0 means {LIMIT_DEFAULT}, above {LIMIT_MAX} means {LIMIT_MAX}."),
]


@router.get(
    "/topics/{topic:name}/messages",
    summary="Look at messages without consuming them",
    response_model=queue_schemas.MessagePage,
    responses=responses(
        {"topic": "telemetry", "messages": [MESSAGE_EXAMPLE], "next": {"0": 1200}},
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.NOT_FOUND,
        *UPSTREAM,
    ),
)
async def browse_messages(
    topic: TopicPath,
    backends: BackendsDependency,
    partition: Partition = None,
    begin: From = "latest",
    limit: MessageLimit = LIMIT_DEFAULT,
) -> Response:
    """Messages of all partitions by when they were stored, decoded. A page also ends after 32 MiB of data."""
    found = await browse(backends.queue, topic, partition, parse_begin(begin, "from"), limit or LIMIT_DEFAULT)
    return await _page({"topic": topic}, found, letters=False)


@router.get(
    "/topics/{topic:name}/dead-letters",
    summary="Look at a topic's dead letters",
    response_model=queue_schemas.DeadLetterPage,
    responses=responses(
        {"topic": "telemetry.dead-letter", "total": 1, "messages": [LETTER_EXAMPLE], "next": {"0": 8}},
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.NOT_FOUND,
        *UPSTREAM,
    ),
)
async def list_dead_letters(
    topic: TopicPath,
    backends: BackendsDependency,
    partition: Partition = None,
    begin: From = "earliest",
    limit: MessageLimit = LIMIT_DEFAULT,
) -> Response:
    """As for messages, with where each came from and why it died. `topic` may also be the dead-letter topic itself."""
    where = parse_begin(begin, "from")
    letters = await dead_letters_of(backends, topic)
    if letters is None:
        return JsonResponse({"topic": dead_letter_topic_of(topic), "total": 0, "messages": [], "next": {}})
    found, stats = await asyncio.gather(
        browse(backends.queue, letters, partition, where, limit or LIMIT_DEFAULT), backends.queue.stats()
    )
    total = next((each.messages for each in stats.topics if each.topic == letters), 0)
    return await _page({"topic": letters, "total": total}, found, letters=True)


async def dead_letters_of(backends: Backends, topic: str) -> str | None:
    """The dead-letter topic that is meant by its own name or that of its topic; ``None`` if none has died yet.

    Raises:
        UpstreamError: if there is no topic of that name, or the queue does not answer.
    """
    topics, groups = await asyncio.gather(backends.queue.all_topics(), backends.queue.all_groups())
    meant = dead_letter_topic_meant(topic, topics, groups)
    if meant is None:
        await backends.queue.get_topic(topic)
    return None if meant is None else meant.name


async def _page(about: Json, found: Found, *, letters: bool) -> Response:
    following = {str(partition): offset for partition, offset in found.next.items()}

    def render() -> Response:
        return JsonResponse(about | {"messages": messages(found.messages, letters=letters), "next": following})

    # Decoding takes its time, and others are waiting.
    return await asyncio.to_thread(render)
