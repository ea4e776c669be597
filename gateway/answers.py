"""Answers that routes have in common: pages of a list, and what a client may already have."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from telemetry.queue.shapes import Json
from telemetry.runtime.http import JsonResponse


def page_of(name: str, shape: Callable[[Any], Json], page: Any) -> Json:
    """A page of a list as it is answered: ``page`` is the service's, which calls the list ``name`` too."""
    return {name: [shape(each) for each in getattr(page, name)], "next_page_token": page.next_page_token}


def unless_known(request: Request, content: Json) -> Response:
    """The content with its ``ETag``, or 304 without it if the client has just that."""
    response = JsonResponse(content)
    # Weak, because the answer may be compressed on the way.
    tag = f'W/"{hashlib.blake2b(response.body, digest_size=12).hexdigest()}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    known = [each.strip() for each in request.headers.get("if-none-match", "").split(",")]
    if tag in known or tag.removeprefix("W/") in known:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    response.headers.update(headers)
    return response
