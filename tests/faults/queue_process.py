"""A real queue process that a test may starve, break and kill, and what it said while it lived."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import psutil

from telemetry.runtime.grpc_server import CHANNEL_OPTIONS
from tests.integration.queue_server.wire_client import Client

ROOT: Final = Path(__file__).resolve().parents[2]
QUEUE: Final = ("-m", "telemetry", "queue")
"""The program as it is installed."""


@dataclass(slots=True)
class QueueProcess:
    """A queue process that is ready, and a client of it."""

    process: asyncio.subprocess.Process
    grpc_port: int
    http_port: int
    client: Client
    said: list[str]
    _listener: asyncio.Task[None]
    _pages: httpx.AsyncClient = field(default_factory=lambda: httpx.AsyncClient(timeout=20))

    @property
    def address(self) -> str:
        """Where its gRPC port is."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def rss_mb(self) -> float:
        """The memory that it has now."""
        return float(psutil.Process(self.process.pid).memory_info().rss) / 1e6

    async def page(self, path: str) -> Any:
        """What an HTTP page says, as JSON."""
        answer = await self._pages.get(f"http://127.0.0.1:{self.http_port}{path}")
        answer.raise_for_status()
        return answer.json()

    async def ended(self) -> int:
        """Wait until it has ended, and return its exit code."""
        async with asyncio.timeout(60):
            code = await self.process.wait()
            await self._listener
        return code

    async def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the exit code."""
        self.process.send_signal(number)
        return await self.ended()

    async def close(self) -> None:
        """Kill it, if it still runs."""
        await self._pages.aclose()
        if self.process.returncode is None:
            self.process.kill()
            await self.ended()


class Watch:
    """The most memory that a process has had."""

    def __init__(self, queue: QueueProcess) -> None:
        self._queue = queue
        self.most_mb = queue.rss_mb

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            self.most_mb = max(self.most_mb, self._queue.rss_mb)
            await asyncio.sleep(0.02)


@asynccontextmanager
async def watching(queue: QueueProcess) -> AsyncIterator[Watch]:
    """Watch a process's memory."""
    watch = Watch(queue)
    task = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        task.cancel()


Start = Callable[..., Awaitable[QueueProcess]]


async def launch(*arguments: object, program: Sequence[object] = QUEUE) -> asyncio.subprocess.Process:
    """Start a queue process on free ports; what it says is on its standard error."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, *map(str, program), "--grpc-port", "0", "--http-port", "0", *map(str, arguments)),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )


def starter(stack: AsyncExitStack) -> Start:
    """What starts queue processes, which are killed when ``stack`` is closed."""

    async def start(*arguments: object, program: Sequence[object] = QUEUE) -> QueueProcess:
        process = await launch(*arguments, program=program)
        said: list[str] = []
        ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        listener = asyncio.create_task(_listen(process, said, ready))
        try:
            async with asyncio.timeout(60):
                ports = await ready
        except BaseException:
            if process.returncode is None:
                process.kill()
            await process.wait()
            raise
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{ports['grpc']}", options=CHANNEL_OPTIONS)
        client = Client(await stack.enter_async_context(channel))
        queue = QueueProcess(process, ports["grpc"], ports["http"], client, said, listener)
        stack.push_async_callback(queue.close)
        return queue

    return start


async def _listen(process: asyncio.subprocess.Process, said: list[str], ready: asyncio.Future[dict[str, Any]]) -> None:
    assert process.stderr is not None
    async for raw in process.stderr:
        line = raw.decode().rstrip("\n")
        said.append(line)
        if '"ready"' in line and not ready.done():
            ready.set_result(json.loads(line))
    if not ready.done():
        ready.set_exception(AssertionError("the queue did not start: " + "\n".join(said)))
