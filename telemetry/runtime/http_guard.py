"""The one middleware that guards HTTP: who may ask, how often, from which site, and how much may be sent."""

from __future__ import annotations

import asyncio
import ipaddress
import math
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from telemetry.runtime.grpc_tokens import REFUSED
from telemetry.runtime.problems import ProblemResponse
from telemetry.runtime.rates import Rates, network_of
from telemetry.runtime.tokens import Role, Token, Tokens
from telemetry.runtime.watched import RECHECK_S

BODY_BYTES_MAX: Final = 1 << 20
"""Largest body of a request."""
COOKIE: Final = "telemetry-token"
"""The cookie in which browsers keep a token, since they open event streams without headers of ours."""
CALLER: Final = "telemetry.caller"
"""Where the scope of a request says whose token it came with; absent when it came without."""
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="telemetry"', "Cache-Control": "no-store"}


class HttpGuard:
    """Refuses, with a problem, what should not reach the application.

    * A body larger than :data:`BODY_BYTES_MAX`: 413.
    * A change that a page of another site asks for: 403, with or without tokens.
    * On loopback without tokens, a ``Host`` that is not this machine: 421. A page of another site can have its own name
      point here, and would then count as ours.
    * More requests than a caller may make: 429, except for health.
    * With tokens, whatever is not public and comes without a token: 401; with a token without the role: 403.
    """

    def __init__(
        self,
        app: ASGIApp,
        tokens: Tokens | None = None,
        *,
        only_loopback: bool = False,
        is_public: Callable[[str], bool] = lambda path: path == "/health",
        writes_need: Role = Role.OPERATE,
        rates: Rates | None = None,
    ) -> None:
        """Guard ``app``.

        Args:
            app: the application.
            tokens: those that are accepted; ``None`` means that everybody may everything.
            only_loopback: whether only this machine can connect.
            is_public: whether a path is for everybody, also without a token.
            writes_need: the role for everything but reading, which needs VIEW. Routes may ask for more.
            rates: how often each caller may ask, by the name of his token, else by his address.
        """
        self._app = app
        self._tokens = tokens
        self._checks_host = only_loopback and tokens is None
        self._is_public = is_public
        self._writes_need = writes_need
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        caller = None if self._tokens is None else self._caller(headers, self._tokens)
        refusal = self._refusal(scope, headers, caller)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        if caller is not None:
            scope[CALLER] = caller
        await self._bounded(scope, receive, send, caller)

    def _caller(self, headers: Headers, tokens: Tokens) -> Token | None:
        header = headers.get("authorization")
        return tokens.bearer(header) if header is not None else tokens.find(_cookie(headers))

    def _refusal(self, scope: Scope, headers: Headers, caller: Token | None) -> ProblemResponse | None:
        if self._rates is not None and not _is_health(scope["path"]):
            wait_s = self._rates.wait_s(caller.name if caller is not None else network_of(_address(scope)))
            if wait_s > 0.0:
                return _too_many(wait_s)
        if _length(headers) > BODY_BYTES_MAX:
            return _too_large()
        if self._checks_host and not _is_this_machine(headers.get("host", "")):
            return ProblemResponse(
                HTTPStatus.MISDIRECTED_REQUEST,
                "only this machine is served here, under localhost or an IP address; a proxy has to send "
                "`Host: localhost`",
            )
        is_change = scope["method"] not in _SAFE
        if is_change and not _is_own_site(headers, needs_proof="authorization" not in headers and caller is not None):
            REFUSED.labels("http", "another site").inc()
            return ProblemResponse(HTTPStatus.FORBIDDEN, "a page of another site asks for this change")
        if self._tokens is None or self._is_public(scope["path"]):
            return None
        if caller is None:
            return _unauthorized(headers, self._tokens)
        needed = self._writes_need if is_change else Role.VIEW
        if caller.role < needed:
            REFUSED.labels("http", "role").inc()
            return ProblemResponse(HTTPStatus.FORBIDDEN, role_needed(needed, caller))
        return None

    async def _bounded(self, scope: Scope, receive: Receive, send: Send, caller: Token | None) -> None:
        """Run the application: with a bound on the body, and no longer than the token stands."""
        left = BODY_BYTES_MAX
        is_answered = is_complete = False

        async def receive_bounded() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            # For the application it is as if the client had gone.
            return message if left >= 0 else {"type": "http.disconnect"}

        async def note(message: Message) -> None:
            nonlocal is_answered, is_complete
            if left < 0 and not is_answered:
                return
            is_answered = True
            is_complete = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        stood = True
        try:
            running = self._app(scope, receive_bounded, note)
            if caller is None:
                await running
            else:
                stood = await self._stood(asyncio.ensure_future(running), caller)
        except Exception:
            if left >= 0 or is_answered:
                raise
        if left < 0 and not is_answered:
            await _too_large()(scope, receive, send)
        elif not stood and is_answered and not is_complete:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        elif not stood and not is_answered:
            text = "the token has expired" if caller is not None and caller.has_expired else "the token was revoked"
            refusal = ProblemResponse(HTTPStatus.UNAUTHORIZED, text, headers=_CHALLENGE)
            await refusal(scope, receive, send)

    async def _stood(self, task: asyncio.Future[None], caller: Token) -> bool:
        """Wait for the application, or until the token is taken away; returns whether it was not."""
        assert self._tokens is not None
        try:
            while not task.done():
                await asyncio.wait((task,), timeout=RECHECK_S)
                if not task.done() and not self._tokens.stands(caller):
                    REFUSED.labels("http", "expired" if caller.has_expired else "revoked").inc()
                    return False
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))
            # Who has gone does not hear how it ended; asyncio would log that nobody does.
            if not task.cancelled():
                task.exception()
        task.result()
        return True


def role_needed(needed: Role, caller: Token) -> str:
    """What somebody is told whose token does not do."""
    return f"this needs the role {needed.label}; the token {caller.name} has {caller.role.label}"


def _too_large() -> ProblemResponse:
    return ProblemResponse(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {BODY_BYTES_MAX} bytes", {"Connection": "close"}
    )


def _too_many(wait_s: float) -> ProblemResponse:
    REFUSED.labels("http", "rate").inc()
    return ProblemResponse(
        HTTPStatus.TOO_MANY_REQUESTS,
        "too many requests a second from this caller",
        {"Retry-After": str(math.ceil(wait_s)), "Cache-Control": "no-store"},
    )


def _unauthorized(headers: Headers, tokens: Tokens) -> ProblemResponse:
    header, cookie = headers.get("authorization", ""), _cookie(headers)
    reason, text = "no token", "a token is needed: `Authorization: Bearer …`"
    if header or cookie:
        reason, text = tokens.why_not(header=header) if header else tokens.why_not(cookie)
    REFUSED.labels("http", reason).inc()
    return ProblemResponse(HTTPStatus.UNAUTHORIZED, text, headers=_CHALLENGE)


def _is_health(path: str) -> bool:
    """Whether a path is one of those that probes ask, which are not to fail when others ask too often."""
    return path == "/health" or path.startswith("/health/")


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _length(headers: Headers) -> int:
    text = headers.get("content-length", "0")
    return int(text) if text.isdecimal() else 0


def _cookie(headers: Headers) -> str:
    """The token in the cookie; empty when there is none."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None else ""


@lru_cache(maxsize=64)
def _is_this_machine(host: str) -> bool:
    """Whether a ``Host`` header is one that no name of somebody else can stand behind."""
    if not host:
        return True
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name != "localhost" and not name.endswith(".localhost"):
            ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_own_site(headers: Headers, *, needs_proof: bool) -> bool:
    """Whether a change was not asked for by a page of another site.

    Browsers say where a page came from, and send cookies along; other programs say nothing and send no cookies. So a
    request that is allowed by its cookie alone ``needs_proof``.
    """
    site = headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    if origin is not None:
        return origin.lower().partition("://")[2] == headers.get("host", "").lower()
    return site is not None or not needs_proof
