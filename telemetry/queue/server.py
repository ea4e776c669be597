"""The queue as a server: an engine, gRPC services and HTTP pages, and their life from recovery to the last answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from types import TracebackType
from typing import Final

from telemetry import __version__
from telemetry.queue.admin_http import admin_app
from telemetry.queue.core.errors import ClosedError
from telemetry.queue.core.types import Topic
from telemetry.queue.engines.engine import QueueEngine
from telemetry.queue.services.admin_service import AdminService
from telemetry.queue.services.handlers import register
from telemetry.queue.services.queue_service import QueueService
from telemetry.queue.services.seal import Seal
from telemetry.queue.stats import ServerStats
from telemetry.runtime.errors import StartupError
from telemetry.runtime.grpc_server import CALLS_MAX, GrpcServer
from telemetry.runtime.http import HttpServer
from telemetry.runtime.security import OPEN, Security
from telemetry.runtime.tokens import Role
from telemetry.v1 import queue_admin_pb2, queue_pb2

log = logging.getLogger(__name__)

DRAIN_S: Final = 10.0
"""How long members may take to settle what they have, once they were asked to go."""
CLOSE_S: Final = 2.0
"""How long answers that are under way may take once everybody was asked to go."""

_QUEUE = queue_pb2.DESCRIPTOR.services_by_name["QueueService"]
_ADMIN = queue_admin_pb2.DESCRIPTOR.services_by_name["QueueAdminService"]


class QueueFailedError(StartupError):
    """The engine can no longer keep its promises, so the process must end rather than go on as if it could."""


class QueueServer:
    """Serves an engine. Start it, perhaps :meth:`drain` it, and :meth:`stop` it, in this order and once each."""

    def __init__(
        self,
        engine: QueueEngine,
        *,
        host: str = "127.0.0.1",
        grpc_port: int = 9091,
        http_port: int = 9090,
        grpc_flag: str = "--grpc-port",
        http_flag: str = "--http-port",
        with_reflection: bool = True,
        security: Security = OPEN,
    ) -> None:
        """Prepare to serve.

        Args:
            engine: where the messages are kept; it is started and stopped with the server.
            host: the address to listen on.
            grpc_port: 0 means any free one.
            http_port: 0 means any free one.
            grpc_flag: the flag that sets ``grpc_port``, for error messages.
            http_flag: the flag that sets ``http_port``, for error messages.
            with_reflection: whether clients may list the services and their messages.
            security: what guards both ports.
        """
        self._engine = engine
        self._queue = QueueService(engine, Seal() if security.tokens is not None else None)
        self._admin = AdminService(engine, self.stats)
        self._grpc = GrpcServer(
            [(_QUEUE, register(_QUEUE, self._queue)), (_ADMIN, register(_ADMIN, self._admin))],
            host=host,
            port=grpc_port,
            flag=grpc_flag,
            with_reflection=with_reflection,
            security=security,
            # These decide by topic.
            roles={_QUEUE.full_name: Role.NONE, _ADMIN.full_name: Role.NONE},
            # A subscription that acks is two calls; what is beyond its own limit shall be told so by that.
            calls_max=2 * engine.limits.max_subscriptions + CALLS_MAX,
        )
        self._http = HttpServer(admin_app(self), host, {http_flag: http_port}, drain_s=CLOSE_S, security=security)
        self._started_us = 0
        self._recovered = False
        self._stopping = False
        self.not_serving = "starting"
        """Why the queue does not serve; empty while it does."""

    @property
    def grpc_port(self) -> int:
        """The gRPC port bound."""
        return self._grpc.port

    @property
    def http_port(self) -> int:
        """The HTTP port bound."""
        return self._http.ports[0]

    @property
    def engine_name(self) -> str:
        """``disk``, ``memory`` or ``jetstream``."""
        return self._engine.name

    async def start(self) -> None:
        """Bind both ports, recover what was kept, and only then turn health to SERVING.

        Raises:
            StartupError: if a port cannot be bound or the data directory cannot be used.
        """
        self._started_us = time.time_ns() // 1000
        try:
            await self._http.start()
            await self._grpc.start()
            await self._engine.start()
        except BaseException:
            await self._grpc.stop(0)
            await self._http.stop()
            raise
        self._recovered = True
        self.not_serving = ""
        await self._grpc.set_serving()

    async def drain(self, within_s: float = DRAIN_S) -> None:
        """Go away politely: nothing new is begun, members are asked to settle what they have, answers are finished.

        Args:
            within_s: how long members may take.
        """
        if self._stopping:
            return
        self._stopping = True
        self.not_serving = "shutting down"
        await self._grpc.begin_drain()
        self._queue.publishes.streams.drain(CLOSE_S)
        self._admin.watches.drain(CLOSE_S)
        self._queue.subscriptions.drain(within_s)
        # Members settle through Ack streams, so those stay until the last member is gone.
        if not await self._queue.subscriptions.wait_closed(within_s + CLOSE_S):
            log.warning("members did not leave in time", extra={"members": len(self._queue.subscriptions)})
        self._queue.acks.streams.drain(CLOSE_S)
        await self._queue.publishes.streams.wait_closed(CLOSE_S)
        await self._queue.acks.streams.wait_closed(CLOSE_S)

    async def stop(self) -> None:
        """Close the streams that are left, finish what is in progress, and let go of the engine and the ports."""
        await self.drain(within_s=0.0)
        await self._grpc.stop(grace_s=0.5)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._queue.wait_idle(), CLOSE_S)
        await self._http.stop()
        await self._engine.stop()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set, then drain.

        Raises:
            StartupError: if it cannot start.
            QueueFailedError: if the engine fails in between.
        """
        async with self:
            log.info("ready", extra={"grpc": self.grpc_port, "http": self.http_port, "engine": self.engine_name})
            failed = asyncio.create_task(self.wait_failed())
            stopped = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait((failed, stopped), return_when=asyncio.FIRST_COMPLETED)
            finally:
                stopped.cancel()
                failed.cancel()
            if failed.done():
                log.critical("the queue has failed", exc_info=failed.result())
                raise QueueFailedError(
                    f"the queue can no longer keep what it promises and stops: {failed.result()}; "
                    "what it has confirmed is safe and will be there after a restart"
                )
            await self.drain()

    async def wait_failed(self) -> BaseException:
        """Wait until the engine can no longer keep its promises; the process must then end loudly."""
        return await self._engine.wait_failed()

    async def stats(self) -> ServerStats:
        """All that the queue counts."""
        self._require_recovered()
        return ServerStats(
            version=__version__,
            started_us=self._started_us,
            connections=self._queue.connections,
            queue=await self._engine.stats(),
        )

    async def topics(self) -> list[Topic]:
        """All topics by name."""
        self._require_recovered()
        return sorted(await self._engine.list_topics(), key=lambda topic: topic.config.name)

    def _require_recovered(self) -> None:
        if not self._recovered:
            raise ClosedError("the queue is starting; try again in a moment", retry_after_s=1.0)

    async def __aenter__(self) -> QueueServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
