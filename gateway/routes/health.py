"""`/health` of the API: how the whole pipeline is."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter
from starlette.responses import Response

from gateway import schemas
from gateway.backends import BackendsDependency
from gateway.openapi import API, responses
from telemetry.runtime.http import JsonResponse

_SINCE: Final = "2025-07-18T20:40:00Z"
_EXAMPLE: Final[dict[str, Any]] = {
    "status": "ok",
    "services": [
        {"name": "queue", "state": "ok", "latency_ms": 1.2, "version": "0.1.0", "since": _SINCE, "detail": ""},
        {"name": "collector", "state": "ok", "latency_ms": 1.4, "version": "0.1.0", "since": _SINCE, "detail": ""},
        {"name": "streamer", "state": "ok", "latency_ms": 2.1, "version": "0.1.0", "since": _SINCE, "detail": ""},
        {"name": "gateway", "state": "ok", "latency_ms": 0.0, "version": "0.1.0", "since": _SINCE, "detail": ""},
    ],
}

router = APIRouter(prefix=API, tags=["health"])


@router.get("/health", summary="How all services are", response_model=schemas.Health, responses=responses(_EXAMPLE))
async def get_pipeline_health(backends: BackendsDependency) -> Response:
    """Always 200. `status` is `degraded` when a service is down, and `down` when both queue and collector are."""
    return JsonResponse(await backends.health.report())
