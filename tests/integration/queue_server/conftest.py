"""A queue server over a real port, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest

from telemetry.queue.engines.memory import MemoryEngine
from telemetry.queue.server import QueueServer
from telemetry.runtime.grpc_server import CHANNEL_OPTIONS
from tests.integration.queue_server.wire_client import Client


@pytest.fixture
async def server() -> AsyncIterator[QueueServer]:
    """A server on free ports that keeps its messages in memory."""
    async with QueueServer(MemoryEngine(), grpc_port=0, http_port=0) as server:
        yield server


@pytest.fixture
async def client(server: QueueServer) -> AsyncIterator[Client]:
    """A client of ``server``."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc_port}", options=CHANNEL_OPTIONS) as channel:
        yield Client(channel)
