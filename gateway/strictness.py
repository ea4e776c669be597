"""What every route of the API refuses: parameters that it does not have, and bodies that are not JSON."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import Depends
from starlette.exceptions import HTTPException
from starlette.requests import Request

from gateway.problems import ParameterError

_JSON: Final = "application/json"


def _check(request: Request) -> None:
    operation = _operation(request)
    known = sorted(each["name"] for each in operation.get("parameters", ()) if each["in"] == "query")
    for name in request.query_params:
        if name not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise ParameterError(name[:100], f"there is no parameter {name[:100]!r} here; {takes}")
    if "requestBody" in operation:
        kind = request.headers.get("content-type", "")
        if kind.partition(";")[0].strip().lower() != _JSON:
            raise HTTPException(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"the body has to be {_JSON}" + (f", not {kind[:100]}" if kind else "; say so in Content-Type"),
                {"Accept": _JSON},
            )


def _operation(request: Request) -> Mapping[str, Any]:
    """What the OpenAPI document says of what is asked for."""
    path = getattr(request.scope.get("route"), "path_format", "")
    found: Mapping[str, Any] = request.app.openapi()["paths"][path][request.method.lower()]
    return found


STRICT: Final[Any] = Depends(_check)
"""For the dependencies of routers."""
