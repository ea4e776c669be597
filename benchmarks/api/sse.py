"""Browsers that follow the live stream: how many bytes they get, and what they cost the gateway."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from benchmarks.api.load import HOST, request

BROWSERS_IN_ONE_GO: Final = 50


@dataclass(slots=True)
class Browser(asyncio.Protocol):
    """One open stream; reads all and keeps nothing."""

    port: int
    path: str
    received: int = 0
    open: bool = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(request(self.path, self.port, {"Accept": "text/event-stream"}))

    def data_received(self, data: bytes) -> None:
        self.received += len(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False


async def browsers(port: int, count: int, path: str) -> list[Browser]:
    """Open so many streams."""
    loop = asyncio.get_running_loop()
    opened: list[Browser] = []
    for first in range(0, count, BROWSERS_IN_ONE_GO):
        opening = [
            loop.create_connection(lambda: Browser(port, path), HOST, port)
            for _ in range(first, min(first + BROWSERS_IN_ONE_GO, count))
        ]
        opened += [browser for _, browser in await asyncio.gather(*opening)]
    return opened
