"""Who asks, and the cookie in which a browser keeps a token."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway import schemas
from gateway.access import Access
from gateway.openapi import API, responses
from telemetry.runtime.http import JsonResponse, ProblemResponse
from telemetry.runtime.http_guard import COOKIE

_EXAMPLE: Final[dict[str, Any]] = {"tokens": True, "name": "operator", "role": "operate"}

router = APIRouter(prefix=f"{API}/session", tags=["session"])


@router.get("", summary="Who asks", response_model=schemas.Session, responses=responses(_EXAMPLE))
async def get_session(request: Request) -> Response:
    """What the sender's token is called, and its role: `view`, `operate` or `admin`, each with those before it.

    Where there are no tokens, `tokens` is false, the name is empty, and the role is that of everybody. Where there are,
    and the request has none, the answer is 401.
    """
    return JsonResponse(_session(request))


@router.post(
    "", summary="Sign in", response_model=schemas.Session, responses=responses(_EXAMPLE, HTTPStatus.BAD_REQUEST)
)
async def create_session(request: Request) -> Response:
    """Keeps the token of the header `Authorization: Bearer …` in a cookie, for browsers: they cannot open the event
    stream with a header. Scripts of the page cannot read the cookie, and it goes when the browser is closed.
    """
    if not _session(request)["tokens"]:
        return JsonResponse(_session(request))
    token = request.headers.get("authorization", "").partition(" ")[2].strip()
    if not token:
        return ProblemResponse(HTTPStatus.BAD_REQUEST, "the token has to come in the header Authorization")
    response = JsonResponse(_session(request))
    response.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return response


@router.delete("", summary="Sign out", response_model=schemas.Session, responses=responses(_EXAMPLE))
async def delete_session(request: Request) -> Response:
    """Forgets the cookie. The token stays good; `telemetry token revoke` ends it."""
    response = JsonResponse(_session(request))
    response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return response


def _session(request: Request) -> dict[str, Any]:
    access: Access = request.app.state.access
    return {
        "tokens": access.tokens is not None,
        "name": access.name(request),
        "role": access.role(request).label,
    }
