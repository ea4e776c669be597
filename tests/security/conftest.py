"""A CA, a certificate for this machine, and a queue behind them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from telemetry.queue.engines.memory import MemoryEngine
from telemetry.queue.server import QueueServer
from telemetry.runtime.security import Security, SecurityFlags
from tests.security.certificates import Authority, Pair

Serve = Callable[[SecurityFlags], AbstractAsyncContextManager[QueueServer]]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA that no test changes."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def server_pair(made: Authority) -> Pair:
    """A good certificate for this machine."""
    return made.sign("server")


@pytest.fixture(scope="session")
def client_pair(made: Authority) -> Pair:
    """A good certificate for a client."""
    return made.sign("client", "client.example")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A CA of the test's own."""
    return Authority(tmp_path)


@asynccontextmanager
async def serving(flags: SecurityFlags) -> AsyncIterator[QueueServer]:
    """A queue in this process, guarded as the flags say."""
    guard: Security = flags.load("127.0.0.1")
    server = QueueServer(MemoryEngine(), grpc_port=0, http_port=0, security=guard)
    async with server:
        yield server


@pytest.fixture(autouse=True)
def _changes_are_seen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that has changed is noticed soon, so that no test waits for a second."""
    for module in ("watched", "grpc_tokens", "http_guard"):
        monkeypatch.setattr(f"telemetry.runtime.{module}.RECHECK_S", 0.02)
