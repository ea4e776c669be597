"""One registry: our errors ↔ gRPC status with details ↔ HTTP status ↔ whether a retry can help."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, Protocol, runtime_checkable

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

HTTP_STATUS: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.OUT_OF_RANGE: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    grpc.StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    grpc.StatusCode.ABORTED: HTTPStatus.CONFLICT,
    grpc.StatusCode.FAILED_PRECONDITION: HTTPStatus.CONFLICT,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    grpc.StatusCode.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
}
"""The HTTP status of each gRPC status; the rest are 500."""


@runtime_checkable
class CodedError(Protocol):
    """An error that says which status it is; the queue's core has its own tree of this shape."""

    @property
    def code(self) -> str:
        """The name of the gRPC status."""
        ...

    @property
    def message(self) -> str:
        """What is wrong, for people."""
        ...

    @property
    def field(self) -> str:
        """Path of the request's field that is wrong; empty when it is none."""
        ...

    @property
    def retry_after_s(self) -> float | None:
        """How long to wait before another try; ``None`` when none is needed."""
        ...


class RequestError(Exception):
    """A request that is refused; the base of errors of rooms above the queue's core."""

    code: str = "INTERNAL"

    def __init__(self, message: str, *, field: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s


class InvalidArgumentError(RequestError):
    """A field of the request, named in ``field``, is wrong."""

    code: str = "INVALID_ARGUMENT"


class NotFoundError(RequestError):
    """What the request names does not exist."""

    code: str = "NOT_FOUND"


class UnavailableError(RequestError):
    """Something the answer needs cannot be reached now."""

    code: str = "UNAVAILABLE"


def status_code(error: CodedError) -> grpc.StatusCode:
    """The gRPC status of an error."""
    return grpc.StatusCode[error.code]


def to_status(error: CodedError) -> status_pb2.Status:
    """The error as google.rpc.Status: BadRequest, PreconditionFailure or RetryInfo details where they apply."""
    number: int = status_code(error).value[0]
    status = status_pb2.Status(code=number, message=error.message)
    details: list[
        error_details_pb2.BadRequest | error_details_pb2.PreconditionFailure | error_details_pb2.RetryInfo
    ] = []
    if error.field and error.code == "FAILED_PRECONDITION":
        violation = error_details_pb2.PreconditionFailure.Violation(subject=error.field, description=error.message)
        details.append(error_details_pb2.PreconditionFailure(violations=[violation]))
    elif error.field:
        field = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.message)
        details.append(error_details_pb2.BadRequest(field_violations=[field]))
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status
