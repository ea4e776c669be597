"""The one interceptor that guards gRPC: who may call, how often, and how long what he has open may go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote

import grpc
from grpc_health.v1 import health
from grpc_interceptor.server import AsyncServerInterceptor
from prometheus_client import Counter

from telemetry.runtime.rates import Rates, network_of
from telemetry.runtime.status import RequestError
from telemetry.runtime.tokens import CALLER, Role, Token, Tokens
from telemetry.runtime.watched import RECHECK_S

log = logging.getLogger(__name__)

REFUSED: Final = Counter(
    "telemetry_access_refused_total",
    "Calls and requests refused for their token, its rights, their number, or where they come from.",
    ["protocol", "reason"],
)

Context = grpc.aio.ServicerContext


class UnauthenticatedError(RequestError):
    """The call has no token that is accepted."""

    code = "UNAUTHENTICATED"


class PermissionDeniedError(RequestError):
    """The call's token is known and does not give the right."""

    code = "PERMISSION_DENIED"


class TokenChangedError(RequestError):
    """The token was revoked, has expired, or its rights changed while a stream was open.

    It is UNAVAILABLE, so that clients call again, with the token that their file holds now; the new call shows what it
    may.
    """

    code = "UNAVAILABLE"


class TooManyCallsError(RequestError):
    """The caller has called too often."""

    code = "RESOURCE_EXHAUSTED"


class GuardCalls(AsyncServerInterceptor):
    """Refuses calls without a token and those that are too many, and tells services by :data:`CALLER` whose call it is.

    Health is for everybody, as often as they like. Services that decide by topic ask :data:`CALLER` themselves; the
    others need a role.
    """

    def __init__(self, tokens: Tokens | None, roles: Mapping[str, Role], rates: Rates | None = None) -> None:
        """Accept ``tokens``.

        Args:
            tokens: those that are accepted; ``None`` means that everybody may call everything.
            roles: the role that a method (``/package.Service/Method``) or a whole service (``package.Service``) needs;
                VIEW when nothing is said.
            rates: how often each caller may call, by the name of his token, else by his address. A stream is one call.
        """
        self._tokens = tokens
        self._roles = roles
        self._rates = rates

    async def intercept(
        self,
        method: Callable[..., Any],
        request_or_iterator: Any,
        context: Context[Any, Any],
        method_name: str,
    ) -> Any:
        service = method_name.split("/")[1]
        if service == health.SERVICE_NAME:
            return await _passed_on(method(request_or_iterator, context))
        tokens = self._tokens
        shown = None if tokens is None else _shown(context)
        caller = None if tokens is None or shown is None else tokens.bearer(shown)
        if self._rates is not None:
            self._count(self._rates, caller, context)
        if tokens is None:
            return await _passed_on(method(request_or_iterator, context))
        if caller is None:
            raise _unauthenticated(tokens, shown)
        needed = self._roles.get(method_name, self._roles.get(service, Role.VIEW))
        if caller.role < needed:
            refuse("role", f"this needs the role {needed.label}; the token {caller.name} has {caller.role.label}")
        CALLER.set(caller)
        outcome = method(request_or_iterator, context)
        if hasattr(outcome, "__aiter__"):
            return _while_it_stands(outcome, tokens, caller)
        if hasattr(request_or_iterator, "__aiter__"):
            return await _until_revoked(outcome, tokens, caller)
        return await outcome

    def _count(self, rates: Rates, caller: Token | None, context: Context[Any, Any]) -> None:
        wait_s = rates.wait_s(caller.name if caller is not None else network_of(_address(context)))
        if wait_s > 0.0:
            REFUSED.labels("grpc", "rate").inc()
            raise TooManyCallsError("too many calls a second from this caller", retry_after_s=wait_s)


def refuse(reason: str, message: str) -> None:
    """Say no to the caller.

    Raises:
        PermissionDeniedError: always.
    """
    REFUSED.labels("grpc", reason).inc()
    raise PermissionDeniedError(message)


def _shown(context: Context[Any, Any]) -> str | None:
    """The header with the call's token."""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str):
            return value
    return None


def _address(context: Context[Any, Any]) -> str:
    """Where the call comes from; gRPC says ``ipv4:192.0.2.1:5000`` or ``ipv6:%5B2001:db8::1%5D:5000``."""
    return unquote(context.peer()).partition(":")[2].rpartition(":")[0].strip("[]")


def _unauthenticated(tokens: Tokens, shown: str | None) -> UnauthenticatedError:
    if shown is None:
        REFUSED.labels("grpc", "no token").inc()
        return UnauthenticatedError(
            "a token is needed: metadata `authorization: Bearer …`; clients of ours: --token-file"
        )
    why = tokens.why_not(header=shown)
    REFUSED.labels("grpc", why.reason).inc()
    return UnauthenticatedError(why.text)


async def _until_revoked(answering: Awaitable[None], tokens: Tokens, caller: Token) -> None:
    """Serve a stream that receives, unless its token is taken away while it is open."""
    task = asyncio.ensure_future(answering)
    try:
        while not task.done():
            await asyncio.wait((task,), timeout=RECHECK_S)
            if not task.done():
                _check(tokens, caller)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
        # Who has gone does not hear how it ended; asyncio would log that nobody does.
        if not task.cancelled():
            task.exception()
    task.result()


async def _while_it_stands(responses: AsyncIterator[Any], tokens: Tokens, caller: Token) -> AsyncIterator[Any]:
    """The responses of a stream, until its token is taken away, also while it has nothing to send.

    The stream goes on in the task that it has begun in, which is interrupted where it waits: a task for each response
    would cost more than most responses do, and what a handler opens in one task it may not close in another.
    """
    loop = asyncio.get_running_loop()
    waiting: asyncio.Task[Any] | None = None
    is_interrupted = False
    timer: asyncio.TimerHandle

    def look() -> None:
        nonlocal timer, is_interrupted
        if waiting is not None and not tokens.stands(caller):
            is_interrupted = True
            waiting.cancel()
        else:
            timer = loop.call_later(RECHECK_S, look)

    timer = loop.call_later(RECHECK_S, look)
    try:
        while True:
            waiting = asyncio.current_task()
            try:
                response = await anext(responses)
            except StopAsyncIteration:
                return
            except asyncio.CancelledError:
                if is_interrupted and waiting is not None and waiting.uncancel() == 0:
                    _check(tokens, caller)
                raise
            finally:
                waiting = None
            _check(tokens, caller)
            yield response
    finally:
        timer.cancel()


def _check(tokens: Tokens, caller: Token) -> None:
    if not tokens.stands(caller):
        REFUSED.labels("grpc", "expired" if caller.has_expired else "revoked").inc()
        text = "the token has expired" if caller.has_expired else "the token was revoked or its rights have changed"
        raise TokenChangedError(f"{text}; call again", retry_after_s=1.0)


async def _passed_on(outcome: Any) -> Any:
    return outcome if hasattr(outcome, "__aiter__") else await outcome
