"""`/fleet`: the newest values of all GPUs in one answer."""

from __future__ import annotations

import time
from http import HTTPStatus

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway import schemas, shapes
from gateway.backends import BackendsDependency
from gateway.csv_answers import VARY, csv_response, wants_csv
from gateway.inventory import PLACES_MAX_AGE_S
from gateway.openapi import API, UPSTREAM, responses
from gateway.parameters import Metrics
from gateway.routes.gpus import COMPLETE
from telemetry.runtime.http import JsonResponse
from telemetry.v1 import query_pb2

router = APIRouter(prefix=API, tags=["fleet"])


@router.get(
    "/fleet",
    summary="The newest values of all GPUs",
    response_model=schemas.Fleet,
    responses=responses(
        {
            "time": 1752871354.25,
            "gpus": ["GPU-5fd4f087-86f3-7a43-b711-4771313afc50", "node-2/0"],
            "hosts": ["node-1", "node-2"],
            "indexes": ["0", "0"],
            "models": ["NVIDIA H100 80GB HBM3", ""],
            "timestamps": [1752871354.0, 1752871353.5],
            "columns": {"temperature": [63.0, None], "utilization": [98.0, 12.0]},
            "completeness": COMPLETE,
        },
        HTTPStatus.BAD_REQUEST,
        *UPSTREAM,
        csv="gpu,host,index,model,timestamp,temperature\r\nnode-2/0,node-2,0,,2025-07-18T20:42:33.500000Z,63.0\r\n",
    ),
)
async def get_fleet(request: Request, backends: BackendsDependency, metric: Metrics = []) -> Response:  # noqa: B006 - FastAPI copies it
    """One entry a GPU in each array, by identity; `null` where a GPU lacks a metric. `stream` tells of changes."""
    answer = await backends.collectors.get_latest(query_pb2.GetLatestRequest(metrics=metric))
    known = await backends.inventories.all(PLACES_MAX_AGE_S)
    if any(name not in known for name in answer.gpus):
        known = await backends.inventories.refreshed()
    nothing = query_pb2.Gpu()
    gpus = [known.get(name, nothing) for name in answer.gpus]
    if wants_csv(request):
        header = ["gpu", "host", "index", "model", "timestamp", *(column.metric for column in answer.columns)]
        places = ((name, gpu.host, gpu.index, gpu.model) for name, gpu in zip(answer.gpus, gpus, strict=True))
        columns = [map(shapes.instant_of_us, answer.timestamps_us), *(column.values for column in answer.columns)]
        rows = ((*place, *values) for place, *values in zip(places, *columns, strict=True))
        return csv_response("fleet", header, rows)
    return JsonResponse(
        {
            "time": time.time(),
            "gpus": list(answer.gpus),
            "hosts": [gpu.host for gpu in gpus],
            "indexes": [gpu.index for gpu in gpus],
            "models": [gpu.model for gpu in gpus],
            "timestamps": [time_us / 1e6 for time_us in answer.timestamps_us],
            "columns": shapes.columns(answer.columns),
            "completeness": shapes.completeness(answer.completeness),
        },
        headers=VARY,
    )
