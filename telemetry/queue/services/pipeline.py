"""Streams on which many requests are in flight, and each is answered once, in the order of the requests.

A request starts the moment it is read: what it does to the queue takes effect in the order of arrival, while the waits
for durability overlap. Answers keep the order of the whole stream, and so that of every partition. What a stream
asked for is done also when the stream breaks off.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
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
UNREAD_BYTES_MAX: Final = 64 << 20
"""Bytes of answers that clients leave unread; beyond it, a stream with more than its share of them is not read from."""
REQUEST_OVERHEAD_BYTES: Final = 4096
"""What a request counts on top of its own bytes, so that many empty ones are bounded too."""


class Pipeline(Generic[Request, Response]):
    """Serves the streams of one method."""

    def __init__(
        self,
        answer: Callable[[Request], Coroutine[Any, Any, Response]],
        size_of: Callable[[Request], int],
        answer_size_of: Callable[[Response], int],
    ) -> None:
        """Prepare to serve.

        Args:
            answer: does what a request asks for and returns its response. Refusals belong in the response; what it
                raises ends the stream.
            size_of: the bytes that a request occupies while it is in progress.
            answer_size_of: the bytes that a response occupies until it is read.
        """
        self._answer = answer
        self._size_of = size_of
        self._answer_size_of = answer_size_of
        self._in_progress = _Room(SERVER_BYTES_MAX)
        self._unread = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.streams = OpenStreams()

    async def serve(
        self, requests: AsyncIterator[Request], context: grpc.aio.ServicerContext[Request, Response]
    ) -> None:
        """Answer one stream's requests until it ends.

        Raises:
            ClosedError: after the last answer, when the server is going away.
        """
        stream: _Stream[Response] = _Stream()
        reader = asyncio.create_task(self._read(requests, stream))
        reader.add_done_callback(lambda _: stream.wake())
        try:
            with self.streams.opened(on_drain=reader.cancel):
                while stream.answers or not reader.done():
                    if not stream.answers or not stream.answers[0].done:
                        await stream.wait()
                        continue
                    answer = stream.answers[0]
                    if answer.error is not None:
                        raise answer.error
                    assert answer.response is not None
                    await context.write(answer.response)
                    self._written(stream, stream.answers.popleft())
        finally:
            reader.cancel()
            stream.abandoned = True
            self._unread -= stream.unread
        if reader.cancelled():
            raise ClosedError(GOING_AWAY)
        reader.result()

    async def wait_idle(self) -> None:
        """Wait until nothing is in progress, also of streams that broke off."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _read(self, requests: AsyncIterator[Request], stream: _Stream[Response]) -> None:
        async for request in requests:
            size = self._size_of(request) + REQUEST_OVERHEAD_BYTES
            await stream.unanswered.take(size)
            while self._unread > UNREAD_BYTES_MAX and stream.unread * len(self.streams) > UNREAD_BYTES_MAX:
                await stream.unanswered.wait_given()
            await self._in_progress.take(size)
            answer: _Answer[Response] = _Answer(size)
            stream.answers.append(answer)
            task = asyncio.create_task(self._work(request, answer, stream))
            del request  # it is the task's now, which may let go of it long before the next one comes
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self, request: Request, answer: _Answer[Response], stream: _Stream[Response]) -> None:
        working = self._answer(request)
        del request  # see above
        try:
            answer.response = await working
        except asyncio.CancelledError as error:
            answer.error = error
            raise
        except Exception as error:  # noqa: BLE001  (whatever it is, it is the stream's end)
            answer.error = error
        else:
            answer.bytes = self._answer_size_of(answer.response)
        finally:
            self._in_progress.give(answer.size)
            answer.done = True
        if not stream.abandoned:
            stream.unread += answer.bytes
            self._unread += answer.bytes
            if stream.answers[0] is answer:
                stream.wake()

    def _written(self, stream: _Stream[Response], answer: _Answer[Response]) -> None:
        stream.unread -= answer.bytes
        self._unread -= answer.bytes
        stream.unanswered.give(answer.size)


class _Answer(Generic[Response]):
    """The answer to one request, in its place among the others."""

    __slots__ = ("bytes", "done", "error", "response", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.done = False
        self.response: Response | None = None
        self.error: BaseException | None = None
        self.bytes = 0


class _Stream(Generic[Response]):
    """The answers of one stream in the order of its requests, and whoever waits to write the first of them."""

    def __init__(self) -> None:
        self.answers: deque[_Answer[Response]] = deque()
        self.unanswered = _Room(STREAM_BYTES_MAX)
        self.unread = 0
        self.abandoned = False
        self._waiter: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Room:
    """A number of bytes that may be taken and must be given back. One alone may take more than there is."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._given = asyncio.Event()

    async def take(self, size: int) -> None:
        while self._taken and self._taken + size > self._size:
            await self.wait_given()
        self._taken += size

    async def wait_given(self) -> None:
        self._given.clear()
        await self._given.wait()

    def give(self, size: int) -> None:
        self._taken -= size
        self._given.set()
