"""A receiver of notifications: a real HTTP server that answers as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from telemetry.runtime.http import HttpServer

WAIT_S = 30.0


@dataclass
class Receiver:
    """What it got, and what it answers: the statuses given one after the other, then 200."""

    port: int = 0
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    got: list[Any] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    refused: int = 0
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    held: asyncio.Event | None = None
    """While set and not true, answers wait."""

    def url(self, path: str = "/hook", user: str = "") -> str:
        return f"http://{user}127.0.0.1:{self.port}{path}"

    async def wait(self, count: int) -> list[Any]:
        """What it got, once that is so much."""
        async with self.news, asyncio.timeout(WAIT_S):
            await self.news.wait_for(lambda: len(self.got) >= count)
        return self.got

    async def wait_refused(self, count: int) -> None:
        async with self.news, asyncio.timeout(WAIT_S):
            await self.news.wait_for(lambda: self.refused >= count)

    async def handle(self, request: Request) -> Response:
        status, headers = self.answers.pop(0) if self.answers else (200, {})
        content = await request.json()
        async with self.news:
            if status == 200:
                self.got.append(content)
                self.headers.append(dict(request.headers))
            else:
                self.refused += 1
            self.news.notify_all()
        if self.held is not None:
            await self.held.wait()
        return Response("label names are bad" if status == 400 else "", status, headers)


@asynccontextmanager
async def receiver(port: int = 0) -> AsyncIterator[Receiver]:
    """One that runs."""
    made = Receiver()
    routes = [Route(path, made.handle, methods=["POST"]) for path in ("/hook", "/api/v2/alerts", "/am/api/v2/alerts")]
    async with HttpServer(Starlette(routes=routes), "127.0.0.1", {"port": port}, drain_s=0.1) as server:
        made.port = server.ports[0]
        yield made
