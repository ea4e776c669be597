"""Who may do what over REST: everybody looks and changes need a role; with tokens, looking needs one too."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from fastapi import Depends
from starlette.exceptions import HTTPException
from starlette.requests import Request

from telemetry.runtime.http_guard import CALLER, role_needed
from telemetry.runtime.tokens import Role, Token, Tokens

__all__ = ["Access", "Role", "is_public", "needs"]

_GUARDED: Final = frozenset({"api", "metrics", "prometheus"})
"""First parts of paths that need a token, where there are any; the rest is the page, its documentation, and health."""


class Access:
    """Tells the role of whoever asks."""

    def __init__(self, *, admin: bool, tokens: Tokens | None = None) -> None:
        """Without ``tokens``, give everybody the role ADMIN if ``admin``, else VIEW; with them, each his own."""
        self.tokens: Final = tokens
        self._everybody = Role.ADMIN if admin else Role.VIEW

    def role(self, request: Request) -> Role:
        """The role of the request's sender."""
        if self.tokens is None:
            return self._everybody
        caller = _caller(request)
        return Role.NONE if caller is None else caller.role

    def name(self, request: Request) -> str:
        """What the sender's token is called; empty without one."""
        caller = _caller(request)
        return "" if caller is None else caller.name

    def needs(self, request: Request, role: Role) -> None:
        """Refuse those without a role.

        Raises:
            HTTPException: with status 403.
        """
        if self.role(request) >= role:
            return
        caller = _caller(request)
        raise HTTPException(
            HTTPStatus.FORBIDDEN,
            f"this needs the role {role.label}; start the gateway with --admin to allow it"
            if caller is None
            else role_needed(role, caller),
        )


def needs(role: Role) -> Any:
    """A route's dependency (``dependencies=[needs(Role.OPERATE)]``) that answers 403 to those without ``role``."""

    def check(request: Request) -> None:
        access: Access = request.app.state.access
        access.needs(request, role)

    return Depends(check)


def is_public(path: str) -> bool:
    """Whether a path is for everybody, even where there are tokens."""
    return path.lstrip("/").partition("/")[0] not in _GUARDED


def _caller(request: Request) -> Token | None:
    caller = request.scope.get(CALLER)
    return caller if isinstance(caller, Token) else None
