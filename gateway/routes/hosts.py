"""`/hosts`: the machines that GPUs are in."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway import schemas, shapes
from gateway.answers import page_of, unless_known
from gateway.backends import BackendsDependency
from gateway.openapi import API, UPSTREAM, responses
from gateway.parameters import PAGE_SIZE_DEFAULT, HostName, PageSize, PageToken
from gateway.problems import ParameterError
from gateway.routes.gpus import COMPLETE, GPU_PAGE_EXAMPLE, gpu_page
from telemetry.v1 import query_pb2

router = APIRouter(prefix=API, tags=["hosts"])


@router.get(
    "/hosts",
    summary="List hosts by name",
    response_model=schemas.HostPage,
    responses=responses(
        {
            "hosts": [
                {
                    "host": "node-1",
                    "gpus": 8,
                    "first_seen": "2025-07-18T20:40:00Z",
                    "last_seen": "2025-07-18T20:42:34Z",
                }
            ],
            "next_page_token": "",
            "completeness": COMPLETE,
        },
        HTTPStatus.BAD_REQUEST,
        *UPSTREAM,
    ),
)
async def list_hosts(
    request: Request,
    backends: BackendsDependency,
    page_size: PageSize = PAGE_SIZE_DEFAULT,
    page_token: PageToken = "",
) -> Response:
    """A page of hosts; the one without a name holds the GPUs whose source did not say."""
    wanted = query_pb2.ListHostsRequest(page_size=page_size, page_token=page_token)
    page = await backends.collectors.list_hosts(wanted)
    completeness = shapes.completeness(page.completeness)
    return unless_known(request, page_of("hosts", shapes.host, page) | {"completeness": completeness})


@router.get(
    "/hosts/{host}/gpus",
    summary="List the GPUs of one host",
    response_model=schemas.GpuPage,
    responses=responses(GPU_PAGE_EXAMPLE, HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, *UPSTREAM),
)
async def list_host_gpus(
    request: Request,
    backends: BackendsDependency,
    host: HostName,
    page_size: PageSize = PAGE_SIZE_DEFAULT,
    page_token: PageToken = "",
) -> Response:
    """A page of the host's GPUs."""
    selector = query_pb2.GpuSelector(hosts=[host])
    wanted = query_pb2.ListGpusRequest(selector=selector, page_size=page_size, page_token=page_token)
    page = await backends.collectors.list_gpus(wanted)
    if page.total == 0:
        raise ParameterError("host", f"there is no host {host!r}", HTTPStatus.NOT_FOUND)
    return unless_known(request, gpu_page(page))
