"""A gateway on free ports in front of a collector and a queue that answer from memory.

They are the same for all tests of a module, which run in one event loop: starting and stopping them takes longer than
most tests. A test that needs others makes its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from gateway.server import GatewayServer
from telemetry.runtime.grpc_server import GrpcServer
from tests.unit.gateway.services import (
    FakeCollector,
    FakeQueue,
    SseReader,
    Streams,
    event_stream,
    gateway_to,
    query_service,
    queue_services,
    serve,
)


@pytest.fixture(scope="module")
def module_collector() -> FakeCollector:
    return FakeCollector()


@pytest.fixture
def collector(module_collector: FakeCollector) -> FakeCollector:
    """The collector that the gateway asks, as new."""
    module_collector.reset()
    return module_collector


@pytest.fixture(scope="module")
def queue() -> FakeQueue:
    """The queue that the gateway asks and whose live view it follows."""
    return FakeQueue()  # type: ignore[abstract]  # the rest is never called


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def collector_server(module_collector: FakeCollector) -> AsyncIterator[GrpcServer]:
    server = await serve(query_service(module_collector))
    yield server
    await server.stop(0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def queue_server(queue: FakeQueue) -> AsyncIterator[GrpcServer]:
    server = await serve(*queue_services(queue))
    yield server
    await server.stop(0)


@pytest.fixture(scope="module")
def static_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the gateway looks for the dashboard."""
    return tmp_path_factory.mktemp("built") / "static"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(
    collector_server: GrpcServer, queue_server: GrpcServer, static_folder: Path
) -> AsyncIterator[GatewayServer]:
    async with gateway_to(queue_server.port, collector_server.port, static_folder=static_folder) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def client(gateway: GatewayServer, collector: FakeCollector) -> AsyncIterator[httpx.AsyncClient]:
    """Asks the gateway."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.api_port}", timeout=30) as http:
        yield http


@pytest.fixture
def stream(client: httpx.AsyncClient) -> Streams:
    """Opens event streams: ``async with stream(gpu="…") as events``."""

    def open_stream(last_id: str = "", **parameters: object) -> AbstractAsyncContextManager[SseReader]:
        return event_stream(client, last_id, **parameters)

    return open_stream
