"""The HTTP side of a process: a server inside its event loop, problem responses, and metrics."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections.abc import Generator, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Final

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from telemetry.runtime.http_guard import HttpGuard
from telemetry.runtime.http_protocol import BoundedProtocol
from telemetry.runtime.listen import bind, is_loopback
from telemetry.runtime.problems import JsonResponse, ProblemResponse
from telemetry.runtime.security import OPEN, Security
from telemetry.runtime.status import HTTP_STATUS, CodedError, status_code


async def http_exception_problem(request: Request, error: Exception) -> Response:
    """Turn Starlette's own errors (404, 405, …) into problems; for ``exception_handlers``."""
    assert isinstance(error, HTTPException)
    detail = error.detail
    if error.status_code == HTTPStatus.NOT_FOUND and detail == HTTPStatus.NOT_FOUND.phrase:
        detail = f"there is nothing at {request.url.path}"
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"{request.method} is not allowed at {request.url.path}"
    return ProblemResponse(error.status_code, detail, headers=error.headers)


async def coded_problem(request: Request, error: Exception) -> Response:
    """Turn an error that says which gRPC status it is into a problem; for ``exception_handlers``, by its class."""
    assert isinstance(error, CodedError)
    headers = {} if error.retry_after_s is None else {"Retry-After": str(math.ceil(error.retry_after_s))}
    extension = {"parameter": error.field} if error.field else {}
    status = HTTP_STATUS.get(status_code(error), HTTPStatus.INTERNAL_SERVER_ERROR)
    return ProblemResponse(status, error.message, headers=headers, **extension)


async def unexpected_problem(request: Request, error: Exception) -> Response:
    """Say that it is our fault without saying how; the log has the traceback. For ``exception_handlers``."""
    return ProblemResponse(500, "an unexpected error; the log of the process says more")


__all__ = ["EXCEPTION_HANDLERS", "HttpServer", "JsonResponse", "ProblemResponse", "coded_problem", "metrics_endpoint"]

EXCEPTION_HANDLERS = {HTTPException: http_exception_problem, Exception: unexpected_problem}


async def metrics_endpoint(request: Request) -> Response:
    """Everything that this process counts, in Prometheus' text format."""
    return Response(generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})


CONNECTIONS_MAX: Final = 4096
"""Most connections; requests on more are answered with 503."""
HANDSHAKE_S_MAX: Final = 10.0
"""How long a client may take to begin with TLS."""


class HttpServer:
    """Serves an ASGI application on one or more ports from the running event loop."""

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        ports: Mapping[str, int],
        drain_s: float = 5.0,
        security: Security = OPEN,
        *,
        guards_itself: bool = False,
    ) -> None:
        """Prepare to serve.

        Args:
            app: the application.
            host: the address to listen on.
            ports: the flag that sets each port (for error messages), and the port; 0 means any free one.
            drain_s: how long open requests may go on after the server was told to stop.
            security: what guards the ports.
            guards_itself: whether the application has an :class:`HttpGuard` of its own.
        """
        self._host = host
        self._wanted = ports
        if not guards_itself:
            app = HttpGuard(app, security.tokens, only_loopback=is_loopback(host), rates=security.rates)
        config = uvicorn.Config(
            app,
            http=BoundedProtocol,
            ws="none",
            limit_concurrency=CONNECTIONS_MAX,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=math.ceil(drain_s),
            server_header=False,
        )
        if security.tls is not None:
            # Uvicorn would read the files itself, and only once.
            config.load()
            config.ssl = security.tls.http_context()
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None
        self.ports: list[int] = []
        """The ports bound, in the order asked for."""

    async def start(self) -> None:
        """Bind and serve.

        Raises:
            PortInUseError: if another process listens on a port.
            StartupError: if the address cannot be bound for another reason.
        """
        with contextlib.ExitStack() as on_failure:
            sockets = []
            for flag, port in self._wanted.items():
                sockets.append(bind(self._host, port, flag))
                on_failure.callback(sockets[-1].close)
            on_failure.pop_all()
        self.ports = [bound.getsockname()[1] for bound in sockets]
        self._task = asyncio.create_task(self._server.serve(sockets=sockets), name="http")

    async def stop(self) -> None:
        """Stop accepting, let open requests finish for a while, and close."""
        self._server.stop()
        if self._task is not None:
            await self._task

    async def __aenter__(self) -> HttpServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


class _Server(uvicorn.Server):
    """Uvicorn that lets go who is slow to begin with TLS, looks at nothing ten times a second, and stops at once.

    It also leaves signals alone, which are the process's.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End what serves."""
        self.should_exit = True
        self._stopping.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen as uvicorn does, which has no setting for the time of a handshake."""
        await super().startup(sockets=[])
        loop = asyncio.get_running_loop()

        def protocol() -> BoundedProtocol:
            return BoundedProtocol(
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state, _loop=loop
            )

        timeout_s = HANDSHAKE_S_MAX if self.config.ssl is not None else None
        for listening in sockets or ():
            server = await loop.create_server(
                protocol,
                sock=listening,
                ssl=self.config.ssl,
                ssl_handshake_timeout=timeout_s,
                backlog=self.config.backlog,
            )
            self.servers.append(server)

    async def main_loop(self) -> None:
        """Renew what is said in `Date` once a second, until it is time to stop."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), 1.0)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop as uvicorn does, which waits for a moment in any case, unless nobody is connected."""
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
            return
        for server in self.servers:
            server.close()
        for listening in sockets or ():
            listening.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
