"""The gRPC side of a process: a grpc.aio server with health, reflection, and an interceptor for errors and metrics."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from time import perf_counter
from types import TracebackType
from typing import Any, Final

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_interceptor.server import AsyncServerInterceptor
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status
from prometheus_client import Counter, Histogram

from telemetry.runtime.grpc_tokens import GuardCalls
from telemetry.runtime.listen import bind, join_address
from telemetry.runtime.request_ids import call_as_metadata_says
from telemetry.runtime.security import OPEN, Security
from telemetry.runtime.status import CodedError, InvalidArgumentError, UnavailableError, to_status
from telemetry.runtime.tokens import Role

log = logging.getLogger(__name__)

CALLS = Counter("telemetry_grpc_calls_total", "gRPC calls ended, by method and status.", ["method", "code"])
CALL_SECONDS = Histogram("telemetry_grpc_call_seconds", "How long unary gRPC calls took.", ["method"])

MESSAGE_BYTES_MAX: Final = 16 << 20
"""Largest gRPC message sent or received: a batch of 8 MiB and its envelope, with room."""

CALLS_MAX: Final = 4096
"""Most calls open at once, unless a server says otherwise; one more is refused with RESOURCE_EXHAUSTED."""

SERVER_OPTIONS: Final[Sequence[tuple[str, int]]] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.so_reuseport", 0),
    # What a stream may have sent that nobody has read yet; with probing it grows to many MiB on a fast network.
    ("grpc.http2.lookahead_bytes", 1 << 20),
    ("grpc.http2.bdp_probe", 0),
    # Dead peers are found within a minute, and so are those that hang while their system still answers, for which gRPC
    # would wait another minute for the ping, whatever the time-out of keepalive is. Clients may ping as often as every
    # 10 s, on idle connections too.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Who connects and says nothing, or slowly, is let go; nobody sends more than his share of metadata.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_metadata_size", 16 << 10),
    ("grpc.absolute_max_metadata_size", 16 << 10),
    # After an hour clients are sent to a new connection for new calls, so that certificates and addresses are looked at
    # again; calls that are open go on.
    ("grpc.max_connection_age_ms", 3_600_000),
)

CHANNEL_OPTIONS: Final[Sequence[tuple[str, int]]] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A server that comes back is found within a second or two instead of gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # The time that an attempt has, whatever its name says: one that is busy may need longer than the first backoff.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)
"""What every client of ours opens its channel with."""

SLOW_S: Final = 1.0
"""A call with one answer that takes longer is logged; who waits for it may have given up by then."""

Context = grpc.aio.ServicerContext


class GrpcServer:
    """Serves one or more services on one port from the running event loop.

    Health is NOT_SERVING for the whole server (``""``) and each service until :meth:`set_serving`; until then calls of
    the services are refused with UNAVAILABLE, so that nobody reaches what is still being recovered.
    """

    def __init__(
        self,
        services: Sequence[tuple[ServiceDescriptor, Callable[[grpc.aio.Server], None]]],
        *,
        host: str,
        port: int,
        flag: str = "--grpc-port",
        with_reflection: bool = True,
        security: Security = OPEN,
        roles: Mapping[str, Role] | None = None,
        calls_max: int = CALLS_MAX,
    ) -> None:
        """Prepare to serve.

        Args:
            services: each service's descriptor, and what registers its handlers with the server.
            host: the address to listen on.
            port: 0 means any free one.
            flag: the flag that sets the port, for error messages.
            with_reflection: whether clients may list services and their messages.
            security: what guards the port.
            roles: with tokens, the role that a method or a service needs; see :class:`GuardCalls`.
            calls_max: most calls open at once, streams included.
        """
        self._security = security
        self._host, self._wanted, self._flag = host, port, flag
        self._names = [descriptor.full_name for descriptor, _ in services]
        self._calls = _CallInterceptor(self._names)
        interceptors: list[grpc.aio.ServerInterceptor] = [self._calls]
        if security.tokens is not None or security.rates is not None:
            needed = {reflection.SERVICE_NAME: Role.NONE, **(roles or {})}
            interceptors.append(GuardCalls(security.tokens, needed, security.rates))
        self._server = grpc.aio.server(
            # A connection may have as many, or a client that has more waits for ever without being told why.
            options=(*SERVER_OPTIONS, ("grpc.max_concurrent_streams", calls_max)),
            interceptors=interceptors,
            maximum_concurrent_rpcs=calls_max,
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        for _, register in services:
            register(self._server)
        if with_reflection:
            names = (*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        self.port = 0
        """The port bound."""

    async def start(self) -> None:
        """Bind and serve, as NOT_SERVING.

        Raises:
            PortInUseError: if another process listens on the port.
            StartupError: if the address cannot be bound for another reason.
        """
        for name in ("", *self._names):
            await self._health.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
        # gRPC does not say why an address cannot be bound, and logs about it; so an ordinary socket tries first.
        bind(self._host, self._wanted, self._flag).close()
        address, tls = join_address(self._host, self._wanted), self._security.tls
        if tls is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, tls.grpc_credentials())
        await self._server.start()

    async def set_serving(self) -> None:
        """Turn health to SERVING and let calls through: recovery is done."""
        self._calls.refused_services = frozenset()
        for name in ("", *self._names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def begin_drain(self) -> None:
        """Turn health to NOT_SERVING for good; calls go on."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace_s: float = 5.0) -> None:
        """Refuse new calls, give open ones ``grace_s`` to end, and close."""
        await self._server.stop(grace_s)


class _CallInterceptor(AsyncServerInterceptor):
    """Turns our errors into statuses with details, hides unexpected ones, and counts calls."""

    def __init__(self, services: Sequence[str]) -> None:
        self.refused_services = frozenset(services)
        self._streams: set[str] = set()

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        async def found(details: Any) -> Any:
            handler = await continuation(details)
            if handler is not None and (handler.request_streaming or handler.response_streaming):
                self._streams.add(details.method)
            if handler is None or handler.request_streaming:
                return handler
            # gRPC parses a single request before it calls anything of ours, and would answer UNKNOWN with a traceback.
            return handler._replace(request_deserializer=partial(_parsed, handler.request_deserializer))

        return await super().intercept_service(found, handler_call_details)  # type: ignore[no-untyped-call]

    async def intercept(
        self,
        method: Callable[..., Any],
        request_or_iterator: Any,
        context: Context[Any, Any],
        method_name: str,
    ) -> Any:
        call_as_metadata_says(context.invocation_metadata() or ())
        refused = method_name.split("/")[1] in self.refused_services
        outcome: Any
        if refused:
            outcome = _refuse(UnavailableError("the server is still starting", retry_after_s=1.0))
        elif isinstance(request_or_iterator, DecodeError):
            outcome = _refuse(request_or_iterator)
        else:
            outcome = method(request_or_iterator, context)
        if hasattr(outcome, "__aiter__"):
            return _reported_stream(outcome, context, method_name)
        # Streams that write for themselves are awaited too.
        async with _Reported(context, method_name, is_unary=method_name not in self._streams):
            return await outcome


def _parsed(parse: Callable[[bytes], Any], request: bytes) -> Any:
    """A request, or why its bytes are none."""
    try:
        return parse(request)
    except DecodeError as error:
        return error


async def _refuse(error: Exception) -> None:
    raise error


async def _reported_stream(
    responses: AsyncIterator[Any], context: Context[Any, Any], method: str
) -> AsyncIterator[Any]:
    async with _Reported(context, method, is_unary=False):
        async for response in responses:
            yield response


class _Reported:
    """Counts how a call ends and translates what it raises."""

    def __init__(self, context: Context[Any, Any], method: str, *, is_unary: bool) -> None:
        self._context, self._method, self._is_unary = context, method, is_unary

    async def __aenter__(self) -> None:
        self._started = perf_counter()
        # Asked for now: a stream's end may be noticed when gRPC has freed the call, and its context crashes then.
        self._peer = self._context.peer()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._count("OK")
        elif isinstance(error, CodedError):
            await self._abort(error)
        elif isinstance(error, DecodeError):
            await self._abort(
                InvalidArgumentError("the request's bytes are not a message of the method's request type")
            )
        elif isinstance(error, asyncio.CancelledError | GeneratorExit):
            self._count("CANCELLED")
        elif isinstance(error, grpc.aio.InternalError):
            # The client broke the stream off while an answer was being written.
            self._count("CANCELLED")
            raise asyncio.CancelledError from error
        elif isinstance(error, grpc.aio.AbortError):
            code = self._context.code()
            self._count(code.name if code else "UNKNOWN")
        else:
            self._count("INTERNAL")
            log.error("unexpected error", exc_info=error, extra={"method": self._method})
            await self._context.abort(grpc.StatusCode.INTERNAL, "an unexpected error; the server's log says more")

    async def _abort(self, error: CodedError) -> None:
        self._count(error.code)
        await self._context.abort_with_status(rpc_status.to_status(to_status(error)))

    def _count(self, code: str) -> None:
        seconds = perf_counter() - self._started
        CALLS.labels(self._method, code).inc()
        fields = {"method": self._method, "code": code, "peer": self._peer, "seconds": round(seconds, 6)}
        log.debug("call", extra=fields)
        if self._is_unary:
            CALL_SECONDS.labels(self._method).observe(seconds)
            if seconds > SLOW_S:
                log.info("a call took long", extra=fields)
