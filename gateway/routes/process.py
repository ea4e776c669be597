"""What every process has, outside the API: that it lives, what it counts, and its documentation."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from gateway import schemas
from gateway.backends import BackendsDependency
from gateway.docs import STYLE, render_docs
from gateway.openapi import responses
from gateway.page import content_security_policy
from gateway.problems import RETRY_AFTER_S
from telemetry import __version__
from telemetry.runtime.http import JsonResponse, ProblemResponse, metrics_endpoint

_METRICS_EXAMPLE: Final = """# TYPE telemetry_gateway_stream_clients gauge
telemetry_gateway_stream_clients 2.0
"""

router = APIRouter(tags=["process"])


@router.get(
    "/health",
    summary="That the gateway lives",
    response_model=schemas.Liveness,
    responses=responses({"status": "ok", "version": "0.1.0"}),
)
async def get_gateway_health() -> Response:
    """Says nothing of the services behind it; `/health/ready` and `/api/v1/health` do."""
    return JsonResponse({"status": "ok", "version": __version__})


@router.get(
    "/health/ready",
    summary="Whether the gateway can answer",
    response_model=schemas.Liveness,
    responses=responses({"status": "ok", "version": "0.1.0"}, HTTPStatus.SERVICE_UNAVAILABLE),
)
async def get_gateway_readiness(backends: BackendsDependency) -> Response:
    """503 while neither the queue nor any collector can be reached: then there is little that it could answer."""
    report = await backends.health.report()
    if report["status"] == "down":
        detail = "neither the queue nor any collector can be reached"
        return ProblemResponse(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": str(round(RETRY_AFTER_S))})
    return JsonResponse({"status": "ok", "version": __version__})


@router.get(
    "/metrics",
    summary="What the gateway counts",
    response_class=Response,
    responses=responses(_METRICS_EXAMPLE, media_type="text/plain"),
)
async def get_gateway_metrics(request: Request) -> Response:
    """In Prometheus' text format."""
    return await metrics_endpoint(request)


@router.get("/docs", include_in_schema=False)
async def get_docs(request: Request) -> Response:
    """The documentation for people."""
    headers = {"Content-Security-Policy": content_security_policy(STYLE)}
    return HTMLResponse(render_docs(request.app.openapi()), headers=headers)
