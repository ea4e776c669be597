"""The newest values of one GPU, answered before routing: asked for so often that routing it would cost more than it.

Only the plain question for a GPU by its very identity is answered here. All else, errors included, is left to the route
in `gateway/routes/gpus.py`, which says the same at greater length and is what the documentation describes.
"""

from __future__ import annotations

from typing import Final

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.latest import LatestValues
from gateway.openapi import API
from telemetry.runtime.calls import UpstreamError

_PREFIX: Final = f"{API}/gpus/"
_BELOW: Final = ("/series", "/telemetry")
"""Routes below a GPU's."""


class _Route:
    """What requests answered here are counted as: the route that they would have come to."""

    path: Final = f"{API}/gpus/{{gpu:path}}"


class AnswerLatest:
    """Answers what it can, and hands on the rest."""

    def __init__(self, app: ASGIApp, latest: LatestValues) -> None:
        self._app = app
        self._latest = latest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await self._answer(scope)
        if body is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = _Route
        headers = [(b"content-length", str(len(body)).encode()), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope) -> bytes | None:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["query_string"]:
            return None
        path: str = scope["path"]
        if not path.startswith(_PREFIX) or path.endswith(_BELOW) or len(path) == len(_PREFIX):
            return None
        try:
            newest = await self._latest.of(path[len(_PREFIX) :])
        except UpstreamError:
            return None
        return None if newest is None else orjson.dumps(newest.json(), option=orjson.OPT_UTC_Z)
