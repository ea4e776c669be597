"""The floor: the gateway's server with one bare route that answers bytes it holds; ``-m benchmarks.api.floor FILE``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from telemetry.runtime.http import HttpServer


async def serve(file: Path) -> None:
    """Serve the file's bytes at ``/`` until killed; prints the port."""
    body = file.read_bytes()

    async def answer(request: Request) -> Response:
        return Response(body, media_type="application/json")

    app = Starlette(routes=[Route("/", answer)])
    async with HttpServer(app, "127.0.0.1", {"port": 0}, guards_itself=True) as server:
        print(server.ports[0], flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
