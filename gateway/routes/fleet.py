"""`/fleet`: the newest values of all GPUs in one answer."""

from __future__ import annotations

import time
from http import HTTPStatus

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway import schemas, shapes
from gateway.backends import BackendsDependency
from gateway.csv_answers import csv_response
from gateway.negotiation import best_coding, wants_csv
from gateway.openapi import API, UPSTREAM, responses
from gateway.parameters import Metrics
from gateway.routes.gpus import COMPLETE
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
    places = await backends.inventories.places(list(answer.gpus))
    if wants_csv(request):
        header = ["gpu", "host", "index", "model", "timestamp", *(column.metric for column in answer.columns)]
        times = map(shapes.instant_of_us, answer.timestamps_us)
        columns = [places.gpus, places.hosts, places.indexes, places.models, times]
        rows = zip(*columns, *(column.values for column in answer.columns), strict=True)
        return csv_response("fleet", header, rows)
    coding = best_coding(request)
    body = await places.followed_by(
        {
            "time": time.time(),
            "timestamps": [time_us / 1e6 for time_us in answer.timestamps_us],
            "columns": shapes.columns(answer.columns),
            "completeness": shapes.completeness(answer.completeness),
        },
        coding,
    )
    headers = {"Vary": "Accept, Accept-Encoding"} | ({"Content-Encoding": coding} if coding else {})
    return Response(body, media_type="application/json", headers=headers)
