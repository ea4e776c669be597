"""Answers that a client may already have."""

from __future__ import annotations

import hashlib
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from telemetry.queue.shapes import Json
from telemetry.runtime.http import JsonResponse


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
