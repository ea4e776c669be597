"""The one interceptor that lets only those with a token call, and ends what they have open when it is taken away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import grpc
from grpc_health.v1 import health
from grpc_interceptor.server import AsyncServerInterceptor
from prometheus_client import Counter

from telemetry.runtime.status import RequestError
from telemetry.runtime.tokens import CALLER, Role, Token, Tokens
from telemetry.runtime.watched import RECHECK_S

log = logging.getLogger(__name__)

REFUSED: Final = Counter(
    "telemetry_access_refused_total",
    "Calls and requests refused for their token or its rights.",
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
    """The token was revoked or its rights changed while a stream was open.

    It is UNAVAILABLE, so that clients call again, with the token that their file holds now; the new call shows what it
    may.
    """

    code = "UNAVAILABLE"


class RequireToken(AsyncServerInterceptor):
    """Refuses calls without a token, and tells services by :data:`CALLER` whose call it is.

    Health is for everybody. Services that decide by topic ask :data:`CALLER` themselves; the others need a role.
    """

    def __init__(self, tokens: Tokens, roles: Mapping[str, Role]) -> None:
        """Accept ``tokens``.

        Args:
            tokens: those that are accepted.
            roles: the role that a method (``/package.Service/Method``) or a whole service (``package.Service``) needs;
                VIEW when nothing is said.
        """
        self._tokens = tokens
        self._roles = roles

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
        caller = self._caller(context)
        needed = self._roles.get(method_name, self._roles.get(service, Role.VIEW))
        if caller.role < needed:
            refuse("role", f"this needs the role {needed.label}; the token {caller.name} has {caller.role.label}")
        CALLER.set(caller)
        outcome = method(request_or_iterator, context)
        if hasattr(outcome, "__aiter__"):
            return self._while_it_stands(outcome, caller)
        if hasattr(request_or_iterator, "__aiter__"):
            return await self._until_revoked(outcome, caller)
        return await outcome

    def _caller(self, context: Context[Any, Any]) -> Token:
        for key, value in context.invocation_metadata() or ():
            if key == "authorization" and isinstance(value, str):
                caller = self._tokens.bearer(value)
                if caller is not None:
                    return caller
                REFUSED.labels("grpc", "token").inc()
                raise UnauthenticatedError("the token is not accepted: it is wrong, or was revoked")
        REFUSED.labels("grpc", "no token").inc()
        raise UnauthenticatedError(
            "a token is needed: metadata `authorization: Bearer …`; clients of ours: --token-file"
        )

    async def _until_revoked(self, answering: Awaitable[None], caller: Token) -> None:
        """Serve a stream, unless its token is taken away while it is open."""
        task = asyncio.ensure_future(answering)
        try:
            while not task.done():
                await asyncio.wait((task,), timeout=RECHECK_S)
                if not task.done():
                    self._check(caller)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))
            # Who has gone does not hear how it ended; asyncio would log that nobody does.
            if not task.cancelled():
                task.exception()
        task.result()

    async def _while_it_stands(self, responses: AsyncIterator[Any], caller: Token) -> AsyncIterator[Any]:
        """The responses of a stream, until its token is taken away."""
        async for response in responses:
            self._check(caller)
            yield response

    def _check(self, caller: Token) -> None:
        if not self._tokens.stands(caller):
            REFUSED.labels("grpc", "revoked").inc()
            raise TokenChangedError("the token was revoked or its rights have changed; call again", retry_after_s=1.0)


def refuse(reason: str, message: str) -> None:
    """Say no to the caller.

    Raises:
        PermissionDeniedError: always.
    """
    REFUSED.labels("grpc", reason).inc()
    raise PermissionDeniedError(message)


async def _passed_on(outcome: Any) -> Any:
    return outcome if hasattr(outcome, "__aiter__") else await outcome
