"""`/metrics/gpus`: the fleet as dcgm-exporter would write it, for any Prometheus."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import BeforeValidator, WithJsonSchema
from starlette.responses import Response

from gateway.backends import BackendsDependency
from gateway.gpu_metrics import CONTENT_TYPE, render_metrics
from gateway.openapi import UPSTREAM, responses
from gateway.parameters import parse_step
from telemetry.v1 import query_pb2

MAX_AGE_US: Final = 5 * 60_000_000
"""As long as Prometheus itself goes on showing a series that has no new samples."""

_EXAMPLE: Final = """# HELP DCGM_FI_DEV_GPU_TEMP Temperature of the GPU (in C).
# TYPE DCGM_FI_DEV_GPU_TEMP gauge
DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-5fd4f087-86f3-7a43-b711-4771313afc50",Hostname="node-1"} 63
"""

router = APIRouter(tags=["process"])

MaxAge = Annotated[
    Annotated[int, BeforeValidator(parse_step), WithJsonSchema({"type": "string", "examples": ["5m", "1h", "365d"]})]
    | None,
    Query(description="Leave out GPUs whose newest record is older: `30s`, `5m`, `1h`, at most `366d`. Unset: `5m`."),
]


@router.get(
    "/metrics/gpus",
    summary="The newest values of all GPUs, as dcgm-exporter writes them",
    response_class=Response,
    responses=responses(_EXAMPLE, HTTPStatus.BAD_REQUEST, *UPSTREAM, media_type="text/plain"),
)
async def get_gpu_metrics(backends: BackendsDependency, max_age: MaxAge = None) -> Response:
    """In Prometheus' text format, with dcgm-exporter's names, labels and types, so that what was written for it works
    here. Metrics for which it has no name begin with `gpu_`. GPUs that nobody has heard of for 5 minutes are left out.
    """
    answer, gpus = await asyncio.gather(
        backends.collectors.get_latest(query_pb2.GetLatestRequest()), backends.inventories.all()
    )
    since_us = time.time_ns() // 1000 - (max_age or MAX_AGE_US)
    # Many lines take their time, and others are waiting.
    text = await asyncio.to_thread(render_metrics, answer, gpus, since_us)
    return Response(text, headers={"Content-Type": CONTENT_TYPE})
