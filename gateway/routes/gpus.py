"""`/gpus`: which GPUs there are, their records, and their metrics over time."""

from __future__ import annotations

from datetime import UTC
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from gateway import schemas, shapes
from gateway.answers import page_of, unless_known
from gateway.backends import BackendsDependency
from gateway.csv_answers import VARY, csv_response
from gateway.negotiation import wants_csv
from gateway.openapi import API, UPSTREAM, responses
from gateway.parameters import (
    INSTANT_US_MAX,
    INSTANT_US_MIN,
    PAGE_SIZE_DEFAULT,
    Aggregation,
    ChosenAggregation,
    ChosenOrder,
    EndTime,
    GpuName,
    Hosts,
    Limit,
    Order,
    PageSize,
    PageToken,
    RequiredMetrics,
    StartTime,
    Step,
)
from gateway.problems import ParameterError
from gateway.times import check_order, duration, timestamp
from telemetry.queue.shapes import Json, seconds
from telemetry.runtime.http import JsonResponse
from telemetry.v1 import query_pb2

SERIES_RANGE_US: Final = 15 * 60_000_000
"""How far back a series goes unless said otherwise."""

COMPLETE: Final = {"partial": False, "warnings": list[str]()}
GPU_EXAMPLE: Final[dict[str, Any]] = {
    "gpu": "GPU-5fd4f087-86f3-7a43-b711-4771313afc50",
    "host": "node-1",
    "index": "0",
    "model": "NVIDIA H100 80GB HBM3",
    "labels": {"host": "node-1", "index": "0", "model": "NVIDIA H100 80GB HBM3"},
    "first_seen": "2025-07-18T20:40:00Z",
    "last_seen": "2025-07-18T20:42:34Z",
    "metrics": ["power_draw", "temperature", "utilization"],
}
GPU_PAGE_EXAMPLE: Final = {"gpus": [GPU_EXAMPLE], "next_page_token": "", "total": 1, "completeness": COMPLETE}

router = APIRouter(prefix=API, tags=["gpus"])


@router.get(
    "/gpus",
    summary="List GPUs by identity",
    response_model=schemas.GpuPage,
    responses=responses(GPU_PAGE_EXAMPLE, HTTPStatus.BAD_REQUEST, *UPSTREAM),
)
async def list_gpus(
    request: Request,
    backends: BackendsDependency,
    host: Hosts = [],  # noqa: B006 - FastAPI copies defaults
    prefix: Annotated[str, Query(max_length=512, description="Only GPUs whose identity begins so.")] = "",
    page_size: PageSize = PAGE_SIZE_DEFAULT,
    page_token: PageToken = "",
) -> Response:
    """A page of the GPUs that have been seen; all filters must match."""
    selector = query_pb2.GpuSelector(hosts=host)
    wanted = query_pb2.ListGpusRequest(selector=selector, gpu_prefix=prefix, page_size=page_size, page_token=page_token)
    return unless_known(request, gpu_page(await backends.collectors.list_gpus(wanted)))


def gpu_page(page: query_pb2.ListGpusResponse) -> Json:
    """A page of GPUs as it is answered."""
    about = {"total": page.total, "completeness": shapes.completeness(page.completeness)}
    return page_of("gpus", shapes.gpu, page) | about


# The routes below `/gpus/{gpu}` come before it: a GPU's name may hold slashes.
@router.get(
    "/gpus/{gpu:path}/telemetry",
    summary="Records of one GPU",
    response_model=schemas.Records,
    responses=responses(
        {
            "gpu": GPU_EXAMPLE["gpu"],
            "records": [{"timestamp": "2025-07-18T20:42:34Z", "metrics": {"temperature": 63.0, "utilization": 98.0}}],
            "completeness": COMPLETE,
        },
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.CONFLICT,
        *UPSTREAM,
        csv="timestamp,temperature,utilization\r\n2025-07-18T20:42:34Z,63.0,98.0\r\n",
    ),
)
async def list_gpu_records(
    request: Request,
    gpu: GpuName,
    backends: BackendsDependency,
    start_time: StartTime = None,
    end_time: EndTime = None,
    limit: Limit = PAGE_SIZE_DEFAULT,
    order: ChosenOrder = Order.NEWEST,
) -> Response:
    """Records as they were stored, newest first unless said otherwise; without times, of all that is stored."""
    check_order(start_time, end_time)
    found = await backends.inventories.find(gpu)
    wanted = query_pb2.StreamRecordsRequest(
        selector=_only(found),
        range=_range(start_time, end_time),
        limit=limit or PAGE_SIZE_DEFAULT,
        order=_ORDERS[order],
    )
    records, completeness = await backends.collectors.records(wanted)
    if wants_csv(request):
        metrics = sorted({metric for each in records for metric in each.metrics})
        rows = ((each.timestamp.ToDatetime(UTC), *map(dict(each.metrics).get, metrics)) for each in records)
        return csv_response("records", ["timestamp", *metrics], rows)
    return JsonResponse(
        {
            "gpu": found.gpu,
            "records": [shapes.record(each) for each in records],
            "completeness": shapes.completeness(completeness),
        },
        headers=VARY,
    )


@router.get(
    "/gpus/{gpu:path}/series",
    summary="Metrics of one GPU over time, for charts",
    response_model=schemas.Series,
    responses=responses(
        {
            "gpu": GPU_EXAMPLE["gpu"],
            "step_s": 10.0,
            "timestamps": [1752871340.0, 1752871350.0],
            "columns": {"temperature": [62.5, 63.0], "power_draw": [None, 412.0]},
            "completeness": COMPLETE,
        },
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.CONFLICT,
        *UPSTREAM,
        csv="timestamp,temperature,power_draw\r\n2025-07-18T20:42:20Z,62.5,\r\n2025-07-18T20:42:30Z,63.0,412.0\r\n",
    ),
)
async def query_gpu_series(
    request: Request,
    gpu: GpuName,
    backends: BackendsDependency,
    metric: RequiredMetrics,
    start_time: StartTime = None,
    end_time: EndTime = None,
    step: Step = None,
    agg: ChosenAggregation = Aggregation.AVG,
) -> Response:
    """Columns of equal length. Without times, the last 15 minutes before the GPU's newest record."""
    check_order(start_time, end_time)
    found = await backends.inventories.find(gpu)
    wanted = query_pb2.QuerySeriesRequest(
        selector=_only(found),
        metrics=metric,
        range=_series_range(found, start_time, end_time),
        step=None if step is None else duration(step),
        aggregation=_AGGREGATIONS[agg],
    )
    answer = await backends.collectors.query_series(wanted)
    series = answer.series[0] if answer.series else query_pb2.Series()
    if wants_csv(request):
        header = ["timestamp", *(column.metric for column in series.columns)]
        times = map(shapes.instant_of_us, answer.timestamps_us)
        return csv_response("series", header, zip(times, *(each.values for each in series.columns), strict=True))
    return JsonResponse(
        {
            "gpu": found.gpu,
            "step_s": seconds(answer, "step") or 0.0,
            "timestamps": [time_us / 1e6 for time_us in answer.timestamps_us],
            "columns": shapes.columns(series.columns),
            "completeness": shapes.completeness(answer.completeness),
        },
        headers=VARY,
    )


@router.get(
    "/gpus/{gpu:path}",
    summary="One GPU and its newest values",
    response_model=schemas.GpuLatest,
    responses=responses(
        GPU_EXAMPLE
        | {
            "latest": {"power_draw": 412.0, "temperature": 63.0, "utilization": 98.0},
            "latest_time": "2025-07-18T20:42:34Z",
            "completeness": COMPLETE,
        },
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.CONFLICT,
        *UPSTREAM,
    ),
)
async def get_gpu(gpu: GpuName, backends: BackendsDependency) -> Response:
    """The GPU, and the newest value of each of its metrics."""
    newest = await backends.latest.of(gpu) if gpu else None
    if newest is None:
        identity = (await backends.inventories.find(gpu)).gpu
        newest = await backends.latest.of(identity)
        if newest is None:  # it has gone in between
            raise ParameterError("gpu", f"there is no GPU {gpu!r}", HTTPStatus.NOT_FOUND)
    return JsonResponse(newest.json())


_ORDERS: Final = {
    Order.NEWEST: query_pb2.RECORD_ORDER_NEWEST_FIRST,
    Order.OLDEST: query_pb2.RECORD_ORDER_OLDEST_FIRST,
}
_AGGREGATIONS: Final = {each: query_pb2.Aggregation.Value(f"AGGREGATION_{each.name}") for each in Aggregation}


def _only(gpu: query_pb2.Gpu) -> query_pb2.GpuSelector:
    return query_pb2.GpuSelector(gpus=[gpu.gpu])


def _series_range(gpu: query_pb2.Gpu, start_us: int | None, end_us: int | None) -> query_pb2.TimeRange:
    """The range asked for, by default up to and with the GPU's newest record."""
    if end_us is None:
        end_us = gpu.last_seen.ToMicroseconds() + 1
        if start_us is not None and start_us >= end_us:
            end_us = min(start_us + SERIES_RANGE_US, INSTANT_US_MAX)
    return _range(max(end_us - SERIES_RANGE_US, INSTANT_US_MIN) if start_us is None else start_us, end_us)


def _range(start_us: int | None, end_us: int | None) -> query_pb2.TimeRange:
    return query_pb2.TimeRange(
        start_time=None if start_us is None else timestamp(start_us),
        end_time=None if end_us is None else timestamp(end_us),
    )
