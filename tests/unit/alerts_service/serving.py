"""An alerts server in this process, without a queue: a test says what GPUs say, which rules are true, and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from telemetry.alerts.rules import RuleError
from telemetry.alerts.server import AlertsServer, AlertsSettings
from telemetry.v1.alerts_pb2_grpc import AlertServiceStub
from tests.unit.alerts_service.fakes import ScriptedRules, update

if TYPE_CHECKING:
    from telemetry.v1.alerts_pb2_grpc import AlertServiceAsyncStub  # only in the type stubs

WAIT_S = 30.0


@dataclass
class Serving:
    """The server, its rules, and a client of it."""

    server: AlertsServer
    rules: ScriptedRules
    stub: AlertServiceAsyncStub
    newer: ScriptedRules | RuleError | None = None
    """What the rules are when they are read the next time."""

    async def tick(self, *heard: str, true: dict[str, dict[str, float]] | None = None) -> None:
        """Tick once, with GPUs heard of and rules true for them."""
        if true is not None:
            self.rules.true = true
        now_us = time.time_ns() // 1000
        self.server.runner._feed._waiting.append((now_us, update(*heard, now_us=now_us).encode()))
        await self.server.runner.tick()

    def load(self) -> ScriptedRules:
        if isinstance(self.newer, RuleError):
            raise self.newer
        self.rules = self.newer or self.rules
        return self.rules

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.http_port}{path}"


@asynccontextmanager
async def alerts_server(data_dir: Path, rules: ScriptedRules, **settings: Any) -> AsyncIterator[Serving]:
    """One that serves; it is drained at the end."""
    made: list[Serving] = []
    data_dir.mkdir(exist_ok=True)
    how = AlertsSettings(**{"queue": "127.0.0.1:9", "grpc_port": 0, "http_port": 0, **settings})
    server = AlertsServer(how, data_dir, lambda: made[0].load() if made else rules)
    stop = asyncio.Event()
    # Ticks are the test's to give.
    server.runner.run = stop.wait  # type: ignore[method-assign,assignment]
    running = asyncio.create_task(server.run(stop))
    async with asyncio.timeout(WAIT_S):
        while not server.runner.snapshot.at_us or not server._http.ports:
            await asyncio.sleep(0.005)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            stub: Any = AlertServiceStub(channel)
            made.append(Serving(server, rules, stub))
            await channel.channel_ready()
            yield made[0]
    finally:
        stop.set()
        async with asyncio.timeout(WAIT_S):
            await running
