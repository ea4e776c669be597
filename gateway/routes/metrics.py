"""`/metrics` of the API: the catalogue of what can be measured."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway import schemas
from gateway.answers import unless_known
from gateway.openapi import API, responses
from telemetry.model import METRICS

_CATALOGUE: Final = {
    "metrics": [
        {"name": each.name, "unit": each.unit, "description": each.description, "dcgm": each.dcgm} for each in METRICS
    ]
}

router = APIRouter(prefix=API, tags=["metrics"])


@router.get(
    "/metrics",
    summary="The catalogue of metrics",
    response_model=schemas.MetricList,
    responses=responses({"metrics": _CATALOGUE["metrics"][:2]}),
)
async def list_metrics(request: Request) -> Response:
    """Canonical names with unit and meaning. GPUs may have other metrics too: unknown names pass unchanged."""
    return unless_known(request, _CATALOGUE)
