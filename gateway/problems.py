"""Errors as RFC 9457 problems: a wrong parameter, a failed call to another service, a path that does not exist."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from math import ceil
from typing import Any, Final

import grpc
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.methods import method_problem
from telemetry.runtime.calls import UpstreamError
from telemetry.runtime.http import EXCEPTION_HANDLERS, ProblemResponse
from telemetry.runtime.status import HTTP_STATUS

RETRY_AFTER_S: Final = 2.0
"""When to try again if a service that cannot be reached did not say; its channel reconnects within this time."""

_PARAMETERS: Final[Mapping[str, str]] = {
    "metrics": "metric",
    "aggregation": "agg",
    "gpu_prefix": "prefix",
    "silence_id": "silence",
}
"""Our parameters whose name differs from the field of the contract that they become."""


_OF_SILENCES: Final[Mapping[str, str]] = {"start_time": "starts_at", "end_time": "ends_at", "match": "op"}
"""The same for the bodies of silences."""


class ParameterError(Exception):
    """A parameter is well formed but cannot be answered.

    Attributes:
        parameter: its name.
        status: the HTTP status.
        extension: more members of the problem.
    """

    def __init__(
        self, parameter: str, detail: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST, **extension: Any
    ) -> None:
        super().__init__(detail)
        self.parameter = parameter
        self.detail = detail
        self.status = status
        self.extension = extension


async def parameter_problem(request: Request, error: Exception) -> Response:
    """A :class:`ParameterError` as a problem."""
    assert isinstance(error, ParameterError)
    return ProblemResponse(error.status, error.detail, parameter=error.parameter, **error.extension)


async def validation_problem(request: Request, error: Exception) -> Response:
    """Parameters that cannot be read: 400, naming the first and listing all."""
    assert isinstance(error, RequestValidationError)
    errors = [{"parameter": _where(each), "detail": _sentence(each)} for each in error.errors()]
    first = errors[0]
    detail = f"{first['parameter']}: {first['detail']}"
    return ProblemResponse(HTTPStatus.BAD_REQUEST, detail, parameter=first["parameter"], errors=errors)


def _where(error: Mapping[str, Any]) -> str:
    """The parameter, or the path of the body's field, or ``body`` when it cannot be read at all."""
    place, *path = error["loc"]
    if error["type"] == "json_invalid" or not path:
        return str(place)
    return ".".join(map(str, path)) if place == "body" else str(path[0])


def _sentence(error: Mapping[str, Any]) -> str:
    if error["type"] == "missing":
        return "is required"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    text = str(error["msg"])
    return text[:1].lower() + text[1:]


async def upstream_problem(request: Request, error: Exception) -> Response:
    """A failed call: the status of the registry, and what the service's details say."""
    assert isinstance(error, UpstreamError)
    # A service that goes away cancels what it has not answered.
    code = grpc.StatusCode.UNAVAILABLE if error.code is grpc.StatusCode.CANCELLED else error.code
    status = HTTP_STATUS.get(code, HTTPStatus.INTERNAL_SERVER_ERROR)
    extension: dict[str, Any] = {"service": error.service, "code": code.name}
    headers = {}
    if error.violations:
        errors = [{"parameter": _parameter(each.field), "detail": each.description} for each in error.violations]
        extension |= {"parameter": errors[0]["parameter"], "errors": errors}
    retry_after_s = error.retry_after_s
    if code is grpc.StatusCode.UNAVAILABLE and retry_after_s is None:
        retry_after_s = RETRY_AFTER_S
    if retry_after_s is not None:
        headers["Retry-After"] = str(ceil(retry_after_s))
        extension["retry_after_s"] = retry_after_s
    if code is grpc.StatusCode.UNAUTHENTICATED:
        # It is our own token that was refused; 401 would ask the client for another of his.
        text = f"the {error.service} does not accept the gateway's token, which --token-file names: {error.reason}"
        return ProblemResponse(HTTPStatus.BAD_GATEWAY, text, headers=headers, **extension)
    return ProblemResponse(status, error.reason, headers=headers, **extension)


def _parameter(field: str) -> str:
    """Our parameter for a field of the contract, such as ``start_time`` for ``range.start_time``.

    A field of a message that a body stands for has its path there, such as ``matchers.0.value``.
    """
    if field.startswith("silence."):
        parts = re.findall(r"\w+", field.removeprefix("silence."))
        return ".".join(_OF_SILENCES.get(part, part) for part in parts)
    last = field.rpartition(".")[2].partition("[")[0]
    return _PARAMETERS.get(last, last)


HANDLERS: Final[Mapping[Any, Callable[[Request, Exception], Any]]] = {
    **EXCEPTION_HANDLERS,
    HTTPException: method_problem,
    RequestValidationError: validation_problem,
    ParameterError: parameter_problem,
    UpstreamError: upstream_problem,
}
"""For ``exception_handlers`` of the application."""
