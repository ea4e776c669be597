"""Streams on which many requests are in flight, and each is answered once, in the order of the requests.

A request starts the moment it is read: what it does to the queue takes effect in the order of arrival, while the waits
for durability overlap. Answers keep the order of the whole stream, and so that of every partition.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any, Final, Generic, TypeVar

import grpc

from telemetry.queue.core.errors import ClosedError
from telemetry.queue.services.open_streams import GOING_AWAY, OpenStreams

Request = TypeVar("Request")
Response = TypeVar("Response")

STREAM_BYTES_MAX: Final = 64 << 20
"""Bytes of requests that one stream may have unanswered; it is not read from beyond that."""
SERVER_BYTES_MAX: Final = 256 << 20
"""Bytes of requests that all streams of a method may have in progress together."""
REQUEST_OVERHEAD_BYTES: Final = 4096
"""What a request counts on top of its own bytes, so that many empty ones are bounded too."""


class Pipeline(Generic[Request, Response]):
    """Serves the streams of one method."""

    def __init__(
        self, answer: Callable[[Request], Coroutine[Any, Any, Response]], size_of: Callable[[Request], int]
    ) -> None:
        """Prepare to serve.

        Args:
            answer: does what a request asks for and returns its response. Refusals belong in the response; what it
                raises ends the stream.
            size_of: the bytes that a request occupies while it is in progress.
        """
        self._answer = answer
        self._size_of = size_of
        self._in_progress = _Room(SERVER_BYTES_MAX)
        self._tasks: set[asyncio.Task[Response]] = set()
        self.streams = OpenStreams()

    async def serve(
        self, requests: AsyncIterator[Request], context: grpc.aio.ServicerContext[Request, Response]
    ) -> None:
        """Answer one stream's requests until it ends.

        Raises:
            ClosedError: after the last answer, when the server is going away.
        """
        # Holds a request's task and size, in order, and at the end None. What bounds it is the room.
        started: asyncio.Queue[tuple[asyncio.Task[Response], int] | None] = asyncio.Queue()
        unanswered = _Room(STREAM_BYTES_MAX)
        reader = asyncio.create_task(self._read(requests, started, unanswered))
        reader.add_done_callback(lambda _: started.put_nowait(None))
        try:
            with self.streams.opened(on_drain=reader.cancel):
                while (item := await started.get()) is not None:
                    task, size = item
                    # A stream that breaks off must not cancel what it asked for halfway through.
                    response = task.result() if task.done() else await asyncio.shield(task)
                    await context.write(response)
                    unanswered.give(size)
        finally:
            reader.cancel()
        if reader.cancelled():
            raise ClosedError(GOING_AWAY)
        reader.result()

    async def wait_idle(self) -> None:
        """Wait until nothing is in progress, also of streams that broke off."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _read(
        self,
        requests: AsyncIterator[Request],
        started: asyncio.Queue[tuple[asyncio.Task[Response], int] | None],
        unanswered: _Room,
    ) -> None:
        async for request in requests:
            size = self._size_of(request) + REQUEST_OVERHEAD_BYTES
            await unanswered.take(size)
            await self._in_progress.take(size)
            task = asyncio.create_task(self._answer(request))
            del request  # it is the task's now, which may let go of it long before the next one comes
            self._tasks.add(task)
            task.add_done_callback(partial(self._done, size))
            started.put_nowait((task, size))

    def _done(self, size: int, task: asyncio.Task[Response]) -> None:
        self._in_progress.give(size)
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # looked at here, because the stream that would look at it may be gone


class _Room:
    """A number of bytes that may be taken and must be given back. One alone may take more than there is."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._given = asyncio.Event()

    async def take(self, size: int) -> None:
        while self._taken and self._taken + size > self._size:
            self._given.clear()
            await self._given.wait()
        self._taken += size

    def give(self, size: int) -> None:
        self._taken -= size
        self._given.set()
