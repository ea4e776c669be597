"""405 with what is allowed instead, over all routes of a path."""

from __future__ import annotations

import re
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path

from telemetry.runtime.http import http_exception_problem

_PAGE: Final = frozenset({"GET", "HEAD"})
"""What all paths allow that are no route's: the dashboard answers there."""


async def method_problem(request: Request, error: Exception) -> Response:
    """An error of HTTP itself as a problem; a method that is not allowed comes with those that are.

    What is no route's comes to the dashboard, which says of a path that has routes, but none for GET, that it is none
    of its own: that is a wrong method too.
    """
    if isinstance(error, HTTPException) and error.status_code in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        path = request.scope["path"]
        allowed = frozenset[str]().union(
            *(methods for pattern, methods in _methods(request.app) if pattern.match(path))
        )
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED or (allowed and request.method not in allowed):
            headers = {**(error.headers or {}), "Allow": ", ".join(sorted(allowed or _PAGE))}
            error = HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers=headers)
    return await http_exception_problem(request, error)


@lru_cache(16)
def _methods(app: FastAPI) -> list[tuple[re.Pattern[str], frozenset[str]]]:
    """The paths of all routes, and what each allows; what allows GET allows HEAD."""
    return [
        (compile_path(context.path)[0], frozenset(context.methods) | ({"HEAD"} if "GET" in context.methods else set()))
        for context in iter_route_contexts(app.routes)
        if context.path and context.methods
    ]
