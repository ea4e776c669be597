"""How the gateway reports the services behind it."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from telemetry.runtime.grpc_server import GrpcServer
from telemetry.runtime.http import HttpServer, JsonResponse
from tests.unit.gateway.services import FakeCollector, gateway_to, query_service, serve

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def report(queue_port: int, collector_port: int, folder: Path, streamer: str = "127.0.0.1:1") -> dict[str, Any]:
    """What `/api/v1/health` says: the services by name, and the status under its own."""
    async with gateway_to(queue_port, collector_port, static_folder=folder, streamer_http=streamer) as gateway:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.api_port}", timeout=30) as client:
            answer = await client.get("/api/v1/health")
    assert answer.status_code == 200
    content: dict[str, Any] = answer.json()
    assert [each["name"] for each in content["services"]] == ["queue", "collector", "streamer", "alerts", "gateway"]
    return {each["name"]: each for each in content["services"]} | {"status": content["status"]}


def streamer_app(status: int, content: dict[str, Any]) -> Starlette:
    async def health(request: Request) -> Response:
        return JsonResponse(content, status_code=status)

    return Starlette(routes=[Route("/health", health)])


async def test_services_that_are_well_say_since_when(
    queue_server: GrpcServer, collector_server: GrpcServer, tmp_path: Path
) -> None:
    app = streamer_app(200, {"status": "ok", "version": "1.2.3", "start_time": "2025-07-18T20:27:34Z"})
    async with HttpServer(app, "127.0.0.1", {"--http-port": 0}) as http:
        health = await report(queue_server.port, collector_server.port, tmp_path, f"127.0.0.1:{http.ports[0]}")
    assert health["status"] == "ok"
    for name in ("queue", "collector", "streamer"):
        assert health[name]["state"] == "ok"
        assert health[name]["version"] == "1.2.3"
        assert health[name]["since"] == "2025-07-18T20:27:34Z"
        assert health[name]["latency_ms"] > 0
        assert health[name]["detail"] == ""
    assert health["gateway"]["state"] == "ok"


async def test_a_streamer_that_has_ended_is_unknown_and_no_reason_to_worry(
    queue_server: GrpcServer, collector_server: GrpcServer, tmp_path: Path
) -> None:
    health = await report(queue_server.port, collector_server.port, tmp_path)
    assert health["status"] == "ok"
    assert (health["streamer"]["state"], health["streamer"]["latency_ms"]) == ("unknown", None)
    assert health["streamer"]["detail"] == "127.0.0.1:1 does not answer"


async def test_a_streamer_that_is_not_well_says_why(
    queue_server: GrpcServer, collector_server: GrpcServer, tmp_path: Path
) -> None:
    app = streamer_app(503, {"status": "down", "detail": "the file has gone"})
    async with HttpServer(app, "127.0.0.1", {"--http-port": 0}) as http:
        health = await report(queue_server.port, collector_server.port, tmp_path, f"127.0.0.1:{http.ports[0]}")
    assert health["status"] == "degraded"
    assert (health["streamer"]["state"], health["streamer"]["detail"]) == ("down", "the file has gone")


async def test_one_service_down_is_degraded(queue_server: GrpcServer, tmp_path: Path) -> None:
    health = await report(queue_server.port, 1, tmp_path)
    assert health["status"] == "degraded"
    assert (health["queue"]["state"], health["collector"]["state"]) == ("ok", "down")
    assert health["collector"]["detail"] == "127.0.0.1:1 does not answer"


async def test_queue_and_collector_down_is_down(tmp_path: Path) -> None:
    assert (await report(1, 1, tmp_path))["status"] == "down"


async def test_a_service_that_drains_is_down(queue_server: GrpcServer, tmp_path: Path) -> None:
    draining = await serve(query_service(FakeCollector()))
    await draining.begin_drain()
    health = await report(queue_server.port, draining.port, tmp_path)
    await draining.stop(0)
    assert (health["status"], health["collector"]["state"]) == ("degraded", "down")
    assert health["collector"]["detail"] == "it answers, but says that it is not serving"


async def test_a_service_that_hangs_is_not_waited_for(
    queue_server: GrpcServer,
    collector_server: GrpcServer,
    collector: FakeCollector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.health.HEALTH_DEADLINE_S", 0.2)
    collector.gate = asyncio.Event()  # never answers, though its health does
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        health = await report(queue_server.port, collector_server.port, tmp_path, f"127.0.0.1:{port}")
    assert (health["collector"]["state"], health["collector"]["version"]) == ("ok", "")
    assert health["streamer"]["state"] == "unknown"


async def test_the_gateway_itself_says_only_that_it_lives(tmp_path: Path) -> None:
    async with gateway_to(1, 1, static_folder=tmp_path) as gateway:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.dashboard_port}") as client:
            answer = await client.get("/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
