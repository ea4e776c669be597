"""A fake channel and a fake clock for the clients' unary calls.

The channel is grpcio-testing's: calls go nowhere, the test takes each one and answers it. It knows blocking stubs only,
so that here a thin layer makes awaitables of their futures. It fits unary calls, where the order of requests and the
waits between them are what matters. It does not fit the streams: it has no asyncio side, and what matters there
(cancellation, half-close, flow control) is what it leaves out; those run against scripted servers on real ports.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import grpc
import grpc_testing  # type: ignore[import-untyped]
from google.protobuf.message import Message

from telemetry.v1 import queue_admin_pb2

_Result = TypeVar("_Result")
_ADMIN = queue_admin_pb2.DESCRIPTOR.services_by_name["QueueAdminService"]


class FakeQueue:
    """Takes what a client asks of the admin service, one call at a time, and answers as it is told."""

    def __init__(self) -> None:
        self._fake = grpc_testing.channel((_ADMIN,), grpc_testing.strict_fake_time(0))
        self._awaitable = _AwaitableChannel(self._fake)

    @property
    def channel(self) -> grpc.aio.Channel:
        """What the client is given."""
        return cast("grpc.aio.Channel", self._awaitable)

    async def answer(self, method: str, response: Message | grpc.StatusCode) -> Any:
        """Wait for the next call, which must be of ``method``, and end it; returns its request."""
        blocking, awaited = await self._awaitable.calls.get()
        _, request, call = self._fake.take_unary_unary(_ADMIN.methods_by_name[method])
        if isinstance(response, grpc.StatusCode):
            call.terminate(None, (), response, "as the test wants it")
        else:
            call.terminate(response, (), grpc.StatusCode.OK, "")
        if not awaited.done():  # nobody waits any more when the client has given up
            _pass_on(blocking, awaited)
        return request


class _AwaitableChannel:
    """The part of an asyncio channel that a generated stub uses for unary calls."""

    def __init__(self, fake: grpc_testing.Channel) -> None:
        self._fake = fake
        self.calls: asyncio.Queue[tuple[Any, asyncio.Future[Any]]] = asyncio.Queue()

    def unary_unary(self, method: str, *args: Any, **options: Any) -> Callable[..., Awaitable[Any]]:
        blocking = self._fake.unary_unary(method)

        def call(request: Message, timeout: float | None = None) -> Awaitable[Any]:
            awaited: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self.calls.put_nowait((blocking.future(request, timeout), awaited))
            return awaited

        return call

    def unary_stream(self, method: str, *args: Any, **options: Any) -> None:
        """The generated stub asks for all methods; nobody calls these."""


def _pass_on(done: Any, awaited: asyncio.Future[Any]) -> None:
    if done.code() is grpc.StatusCode.OK:
        awaited.set_result(done.result())
    else:
        metadata = grpc.aio.Metadata()
        awaited.set_exception(grpc.aio.AioRpcError(done.code(), metadata, metadata, done.details()))


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop on which no time passes but that which everybody waits for, and that at once."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def time(self) -> float:
        """Seconds since the loop was made, as it pretends."""
        return self._now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self._now = max(self._now, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def run_without_waiting(main: Callable[[FakeQueue], Awaitable[_Result]]) -> _Result:
    """Run ``main`` with a fake queue, on a clock that jumps."""

    async def started() -> _Result:
        return await main(FakeQueue())

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(started())
