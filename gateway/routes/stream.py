"""`/stream`: what changes, as server-sent events."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header
from starlette.responses import Response

from gateway.backends import Backends, BackendsDependency
from gateway.live import Filter
from gateway.openapi import API, responses
from gateway.parameters import Gpus, Hosts, Metrics
from gateway.problems import RETRY_AFTER_S, ParameterError
from gateway.sse import EventStreamResponse
from telemetry.runtime.calls import UpstreamError
from telemetry.runtime.http import ProblemResponse

router = APIRouter(prefix=API, tags=["fleet"])

_EVENTS_EXAMPLE: Final = """retry: 2000
id: 1752871354000

event: update
id: 1752871354001
data: {"gpus":["a/0"],"timestamps":[1752871354],"columns":{"power_draw":{"last":[41],"min":[9],"max":[42]}},"labels":{}}

event: alerts
id: 1752871354002
data: {"alerts":[],"firing":2,"pending":0}

event: gap
id: 1752871354042
data: {"missed":40}

: nothing new

"""
_STREAM: Final[dict[int | str, dict[str, Any]]] = responses(
    _EVENTS_EXAMPLE,
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.CONFLICT,
    HTTPStatus.SERVICE_UNAVAILABLE,
    media_type="text/event-stream",
)


@router.get(
    "/stream",
    summary="What changes, as server-sent events",
    response_class=EventStreamResponse,
    status_code=HTTPStatus.OK,
    responses=_STREAM,
)
async def stream_updates(
    backends: BackendsDependency,
    gpu: Gpus = [],  # noqa: B006 - FastAPI copies defaults
    host: Hosts = [],  # noqa: B006
    metric: Metrics = [],  # noqa: B006
    last_event_id: Annotated[
        str, Header(description="The `id` of the last event seen: what came after it is sent first.")
    ] = "",
) -> Response:
    """An `update` holds the GPUs that have new records, at most once a second a GPU: the last, least and greatest value
    of each metric in that second (`LiveUpdate` among the schemas). `alerts` holds alerts that are new or have changed,
    and how many fire and are pending in all (`AlertNews`); `gpu` and `host` choose among the alerts.

    A `gap` says that `missed` events will not come (`null`: nobody knows how many), because the client came back too
    late or reads too slowly: ask for the fleet and the alerts again. A comment comes when nothing has happened for 15
    seconds. All filters must match.
    """
    last_id = _parse_id(last_event_id) if last_event_id else backends.hub.last_id
    if backends.hub.full:
        return ProblemResponse(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "too many clients follow the stream",
            headers={"Retry-After": str(round(RETRY_AFTER_S))},
            retry_after_s=RETRY_AFTER_S,
        )
    if host:
        await _learn_hosts(backends)
    wanted = Filter(frozenset([await _identity(backends, each) for each in gpu]), frozenset(host), frozenset(metric))
    return EventStreamResponse(backends.hub.follow(wanted, last_id), last_id)


def _parse_id(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ParameterError("Last-Event-ID", f"{text[:40]!r} is not the id of an event of this stream")
    return int(text)


async def _identity(backends: Backends, name: str) -> str:
    """The GPU's identity. While nobody can say which GPUs there are, names are taken to be identities."""
    try:
        return (await backends.inventories.find(name)).gpu
    except UpstreamError:
        return name


async def _learn_hosts(backends: Backends) -> None:
    """Tell the hub which GPU is on which host, as far as that is known now; of new GPUs updates tell."""
    try:
        inventory = await backends.inventories.all()
    except UpstreamError:
        return
    for identity, gpu in inventory.items():
        backends.hub.learn_host(identity, gpu.host)
