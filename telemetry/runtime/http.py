"""The HTTP side of a process: a server inside its event loop, problem responses, and metrics."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Generator, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any

import orjson
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from telemetry.runtime.listen import bind
from telemetry.runtime.status import HTTP_STATUS, CodedError, status_code


class JsonResponse(Response):
    """JSON by orjson: NaN becomes null, datetimes are RFC 3339."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content, option=orjson.OPT_UTC_Z)


class ProblemResponse(JsonResponse):
    """An error as RFC 9457 describes it."""

    media_type = "application/problem+json"

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None, **extension: Any) -> None:
        """Say what went wrong.

        Args:
            status: the HTTP status, which also gives the title.
            detail: what is wrong with this very request, for people.
            headers: more headers, such as ``Retry-After``.
            extension: more members of the problem object, such as ``parameter``.
        """
        body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
        super().__init__(body | extension, status_code=status, headers=headers)


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


EXCEPTION_HANDLERS = {HTTPException: http_exception_problem, Exception: unexpected_problem}


async def metrics_endpoint(request: Request) -> Response:
    """Everything that this process counts, in Prometheus' text format."""
    return Response(generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})


class HttpServer:
    """Serves an ASGI application on one or more ports from the running event loop."""

    def __init__(self, app: ASGIApp, host: str, ports: Mapping[str, int], drain_s: float = 5.0) -> None:
        """Prepare to serve.

        Args:
            app: the application.
            host: the address to listen on.
            ports: the flag that sets each port (for error messages), and the port; 0 means any free one.
            drain_s: how long open requests may go on after the server was told to stop.
        """
        self._host = host
        self._wanted = ports
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=math.ceil(drain_s),
            server_header=False,
        )
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
        self._server.should_exit = True
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
    """Uvicorn without its signal handlers: signals belong to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
