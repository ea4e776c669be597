"""HttpServer over real ports, and every error as a problem."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from telemetry.runtime.errors import PortInUseError
from telemetry.runtime.http import EXCEPTION_HANDLERS, HttpServer, JsonResponse, coded_problem, metrics_endpoint
from telemetry.runtime.status import InvalidArgumentError, RequestError, UnavailableError


async def number(request: Request) -> Response:
    return JsonResponse({"number": float("nan")})


async def wrong(request: Request) -> Response:
    raise InvalidArgumentError("color must be blue", field="color")


async def later(request: Request) -> Response:
    raise UnavailableError("come back", retry_after_s=1.5)


async def bug(request: Request) -> Response:
    raise ValueError("the secret of the house")


APP = Starlette(
    routes=[Route(f"/{page.__name__}", page) for page in (number, wrong, later, bug)]
    + [Route("/metrics", metrics_endpoint)],
    exception_handlers={**EXCEPTION_HANDLERS, RequestError: coded_problem},
)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with HttpServer(APP, "127.0.0.1", {"--one": 0, "--two": 0}) as server:
        first, second = server.ports
        assert first != second
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{second}") as client:
            yield client


async def test_json_has_null_where_a_number_is_none(client: httpx.AsyncClient) -> None:
    assert (await client.get("/number")).json() == {"number": None}


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("GET", "/nowhere", 404, "there is nothing at /nowhere"),
        ("POST", "/number", 405, "POST is not allowed at /number"),
        ("GET", "/wrong", 400, "color must be blue"),
        ("GET", "/later", 503, "come back"),
    ],
)
async def test_errors_are_problems(client: httpx.AsyncClient, method: str, path: str, status: int, detail: str) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["detail"]) == (status, detail)
    assert problem["type"] == "about:blank"
    assert problem["title"]


async def test_a_wrong_parameter_is_named(client: httpx.AsyncClient) -> None:
    assert (await client.get("/wrong")).json()["parameter"] == "color"


async def test_when_to_come_back_is_a_header(client: httpx.AsyncClient) -> None:
    assert (await client.get("/later")).headers["retry-after"] == "2"


async def test_a_method_that_is_not_allowed_says_which_are(client: httpx.AsyncClient) -> None:
    assert "GET" in (await client.post("/number")).headers["allow"]


async def test_an_unexpected_error_is_not_shown(client: httpx.AsyncClient) -> None:
    answer = await client.get("/bug")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text


async def test_metrics_are_prometheus_text(client: httpx.AsyncClient) -> None:
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "python_info" in answer.text


async def test_a_port_in_use_is_named_and_nothing_stays_bound() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = HttpServer(APP, "127.0.0.1", {"--one": 0, "--two": port})
        with pytest.raises(PortInUseError, match=rf"127\.0\.0\.1:{port} .*--two"):
            await server.start()
        await server.stop()
