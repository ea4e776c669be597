"""Answers in JSON, and errors as RFC 9457 describes them."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response


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
