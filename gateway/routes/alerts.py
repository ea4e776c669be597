"""`/alerts`: what fires, by which rules, what is silenced, and what happened."""

from __future__ import annotations

from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from gateway.access import Role, needs
from gateway.alerts import schemas as alert_schemas
from gateway.alerts import shapes as alert_shapes
from gateway.alerts.pages import alerts_by_state
from gateway.answers import page_of, unless_known
from gateway.backends import BackendsDependency
from gateway.openapi import API, UPSTREAM, responses
from gateway.parameters import PAGE_SIZE_DEFAULT, EndTime, PageSize, PageToken, SmallPageSize, StartTime
from gateway.queue.changes import ActorDependency, given
from gateway.times import check_order, timestamp
from telemetry.runtime.http import JsonResponse
from telemetry.v1 import alerts_pb2

_SILENCE_ID: Final = "6f0f3a55-7c0e-4a55-9d53-6a8f6f3a1c2e"
ALERT_EXAMPLE: Final[dict[str, Any]] = {
    "id": "8f3a1c2e6f0f3a55",
    "rule": "GpuTooHot",
    "group": "gpu-health",
    "state": "firing",
    "severity": "critical",
    "gpu": "GPU-5fd4f087-86f3-7a43-b711-4771313afc50",
    "host": "node-1",
    "labels": {
        "alertname": "GpuTooHot",
        "Hostname": "node-1",
        "UUID": "GPU-5fd4f087-86f3-7a43-b711-4771313afc50",
        "severity": "critical",
    },
    "annotations": {"summary": "GPU 0 of node-1 is at 94 °C"},
    "value": 94.0,
    "active_since": "2025-07-18T20:41:00Z",
    "firing_since": "2025-07-18T20:42:00Z",
    "resolved_at": None,
    "silenced_by": [_SILENCE_ID],
}
_RULES: Final[dict[str, Any]] = {
    "groups": [
        {
            "name": "gpu-health",
            "file": "gpu.rules.yaml",
            "interval_s": 5.0,
            "rules": [
                {
                    "id": "1c2e8f3a6f0f3a55",
                    "type": "alerting",
                    "name": "GpuTooHot",
                    "expr": "DCGM_FI_DEV_GPU_TEMP > 90",
                    "for_s": 60.0,
                    "keep_firing_for_s": 0.0,
                    "labels": {"severity": "critical"},
                    "annotations": {"summary": "GPU {{ $labels.gpu }} of {{ $labels.Hostname }} is at {{ $value }} °C"},
                    "line": 6,
                    "state": "firing",
                    "health": "ok",
                    "last_error": "",
                    "last_evaluation": "2025-07-18T20:42:35Z",
                    "evaluation_s": 0.0004,
                    "active": 1,
                }
            ],
        }
    ],
    "loaded_at": "2025-07-18T20:40:00Z",
    "error": "",
}
_SILENCE: Final[dict[str, Any]] = {
    "id": _SILENCE_ID,
    **alert_schemas.NEW_SILENCE_EXAMPLE,
    "state": "pending",
    "created_at": "2025-07-18T20:42:00Z",
    "matching": 0,
}
_EVENT: Final[dict[str, Any]] = {
    "id": "17",
    "alert_id": ALERT_EXAMPLE["id"],
    "rule": "GpuTooHot",
    "gpu": ALERT_EXAMPLE["gpu"],
    "host": "node-1",
    "labels": ALERT_EXAMPLE["labels"],
    "annotations": ALERT_EXAMPLE["annotations"],
    "state": "firing",
    "at": "2025-07-18T20:42:00Z",
    "value": 94.0,
    "silenced": False,
}

router = APIRouter(prefix=f"{API}/alerts", tags=["alerts"])


class AlertState(StrEnum):
    """Where an alert is in its life."""

    FIRING = "firing"
    PENDING = "pending"
    RESOLVED = "resolved"


class SilenceState(StrEnum):
    """Where a silence is in its life."""

    ACTIVE = "active"
    PENDING = "pending"
    EXPIRED = "expired"


_ALERT_STATES: Final = {each: alerts_pb2.AlertState.Value(f"ALERT_STATE_{each.name}") for each in AlertState}
_SILENCE_STATES: Final = {each: alerts_pb2.SilenceState.Value(f"SILENCE_STATE_{each.name}") for each in SilenceState}

AlertStates = Annotated[
    list[AlertState],
    Query(max_length=10, description="Only alerts in this state; repeat for more. Unset: `firing` and `pending`."),
]
Wanted = Annotated[str | None, Query(min_length=1, max_length=256)]
SilencePath = Annotated[str, Path(max_length=256, description="The silence's `id`.")]


@router.get(
    "",
    summary="Alerts that are pending or firing, or were resolved of late",
    response_model=alert_schemas.AlertPage,
    responses=responses(
        {"alerts": [ALERT_EXAMPLE], "next_page_token": "", "total": 1}, HTTPStatus.BAD_REQUEST, *UPSTREAM
    ),
)
async def list_alerts(
    request: Request,
    backends: BackendsDependency,
    state: AlertStates = [],  # noqa: B006 - FastAPI copies defaults
    severity: Annotated[Wanted, Query(description="Only alerts whose label `severity` is this.")] = None,
    gpu: Annotated[Wanted, Query(description="Only alerts about the GPU of this identity.")] = None,
    host: Annotated[Wanted, Query(description="Only alerts about this host, or GPUs of it.")] = None,
    rule: Annotated[Wanted, Query(description="Only alerts of this rule.")] = None,
    silenced: Annotated[
        bool | None, Query(description="Only alerts that a silence keeps back, or only the others.")
    ] = None,
    page_size: PageSize = PAGE_SIZE_DEFAULT,
    page_token: PageToken = "",
) -> Response:
    """A page of alerts; all filters must match. Resolved ones are shown for 15 minutes, the history goes further back.

    The event `alerts` of `stream` tells of those that change.
    """
    labels = {alert_shapes.SEVERITY: severity, "Hostname": host, "alertname": rule}
    wanted = alerts_pb2.ListAlertsRequest(
        matchers=[alerts_pb2.LabelMatcher(name=name, value=value) for name, value in labels.items() if value],
        gpu=gpu or "",
        silenced=silenced,
    )
    states = state or [AlertState.FIRING, AlertState.PENDING]
    in_order = [_ALERT_STATES[each] for each in AlertState if each in states]
    page = await alerts_by_state(backends.alerts, wanted, in_order, page_size or PAGE_SIZE_DEFAULT, page_token)
    return unless_known(request, page_of("alerts", alert_shapes.alert, page) | {"total": page.total})


@router.get(
    "/rules",
    summary="The rules in force",
    response_model=alert_schemas.Rules,
    responses=responses(_RULES, *UPSTREAM),
)
async def list_alert_rules(request: Request, backends: BackendsDependency) -> Response:
    """All groups of rules in the order of their files, how each rule fares, and why newer files were refused if so."""
    return unless_known(request, alert_shapes.rules(await backends.alerts.all_rules()))


@router.get(
    "/silences",
    summary="Silences",
    response_model=alert_schemas.SilencePage,
    responses=responses({"silences": [_SILENCE], "next_page_token": ""}, HTTPStatus.BAD_REQUEST, *UPSTREAM),
)
async def list_silences(
    request: Request,
    backends: BackendsDependency,
    state: Annotated[SilenceState | None, Query(description="Only silences in this state.")] = None,
    page_size: SmallPageSize = PAGE_SIZE_DEFAULT,
    page_token: PageToken = "",
) -> Response:
    """A page of silences, those that end last first. Those that have ended are shown for five days."""
    wanted = alerts_pb2.ListSilencesRequest(
        state=alerts_pb2.SILENCE_STATE_UNSPECIFIED if state is None else _SILENCE_STATES[state],
        page_size=page_size,
        page_token=page_token,
    )
    page = await backends.alerts.list_silences(wanted)
    return unless_known(request, page_of("silences", alert_shapes.silence, page))


@router.post(
    "/silences",
    summary="Silence alerts for a while",
    status_code=HTTPStatus.CREATED,
    response_model=alert_schemas.Silence,
    responses=responses(
        _SILENCE,
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.TOO_MANY_REQUESTS,
        *UPSTREAM,
        status=HTTPStatus.CREATED,
    ),
    dependencies=[needs(Role.OPERATE)],
)
async def create_silence(
    body: alert_schemas.NewSilence, backends: BackendsDependency, actor: ActorDependency
) -> Response:
    """Keeps notifications of the alerts that match back; the alerts themselves go on. It is in the audit log."""
    silence = alert_shapes.silence_message(body)
    made = await backends.audit.change(
        actor, "silence.create", _described(body), given(body), lambda: backends.alerts.create_silence(silence, "")
    )
    headers = {"Location": f"{API}/alerts/silences/{made.silence_id}"}
    return JsonResponse(alert_shapes.silence(made), status_code=HTTPStatus.CREATED, headers=headers)


@router.delete(
    "/silences/{silence}",
    summary="End a silence",
    status_code=HTTPStatus.NO_CONTENT,
    response_class=Response,
    responses=responses(
        None,
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.CONFLICT,
        *UPSTREAM,
        status=HTTPStatus.NO_CONTENT,
    ),
    dependencies=[needs(Role.OPERATE)],
)
async def expire_silence(silence: SilencePath, backends: BackendsDependency, actor: ActorDependency) -> Response:
    """It is shown as expired for five days. One that has ended already is a conflict. It is in the audit log."""
    await backends.audit.change(actor, "silence.expire", silence, {}, lambda: backends.alerts.expire_silence(silence))
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.get(
    "/history",
    summary="What alerts did",
    response_model=alert_schemas.AlertEventPage,
    responses=responses({"events": [_EVENT], "next_page_token": ""}, HTTPStatus.BAD_REQUEST, *UPSTREAM),
)
async def list_alert_history(
    backends: BackendsDependency,
    start_time: StartTime = None,
    end_time: EndTime = None,
    rule: Annotated[Wanted, Query(description="Only alerts of this rule.")] = None,
    gpu: Annotated[Wanted, Query(description="Only alerts about the GPU of this identity.")] = None,
    alert: Annotated[Wanted, Query(description="Only the alert with this `id`.")] = None,
    page_size: SmallPageSize = PAGE_SIZE_DEFAULT,
    page_token: PageToken = "",
) -> Response:
    """A page of events, newest first: alerts that began to fire, and that were resolved. All filters must match."""
    check_order(start_time, end_time)
    wanted = alerts_pb2.ListAlertHistoryRequest(
        start_time=None if start_time is None else timestamp(start_time),
        end_time=None if end_time is None else timestamp(end_time),
        alert=rule or "",
        gpu=gpu or "",
        fingerprint=alert or "",
        page_size=page_size,
        page_token=page_token,
    )
    return JsonResponse(page_of("events", alert_shapes.event, await backends.alerts.history(wanted)))


def _described(body: alert_schemas.NewSilence) -> str:
    """What a silence is about, in short."""
    return ", ".join(f"{each.name}{each.op}{each.value}" for each in body.matchers)[:200]
