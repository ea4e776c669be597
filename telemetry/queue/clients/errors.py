"""What can go wrong for a client of the queue.

QueueClientError
├── QueueUnavailableError        the queue cannot be reached, or went away       UNAVAILABLE          (retriable)
│   └── SessionEndedError        a session was ended on somebody's behalf        ABORTED
├── DeliveryTimeoutError         no answer in time; it may be stored or not      DEADLINE_EXCEEDED    (retriable)
├── ClientClosedError            the publisher or subscriber has been closed     CANCELLED
└── RefusedError                 the queue refused the request                   whatever it said
    ├── InvalidRequestError      a field of the request is wrong                 INVALID_ARGUMENT
    ├── QueueNotFoundError       no such topic or group                          NOT_FOUND
    ├── AccessDeniedError        who we are, or what we may                      UNAUTHENTICATED, PERMISSION_DENIED
    ├── QueueFullError           the topic, the disk or a limit is full          RESOURCE_EXHAUSTED   (retriable)
    └── PreconditionFailedError  the state of the queue does not allow it        FAILED_PRECONDITION
        ├── SequenceGapError     messages before this one are missing
        └── ProducerFencedError  a newer incarnation of the producer is at work

Publisher and Subscriber retry what is retriable by themselves; a caller sees such an error only when waiting was
bounded.
"""

from __future__ import annotations

from typing import ClassVar, Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

_DETAILS_KEY: Final = "grpc-status-details-bin"


class QueueClientError(Exception):
    """The base of all.

    Attributes:
        code: the name of the gRPC status.
        retriable: whether the same request may succeed later.
        message: what is wrong.
        field: the field of the request that is wrong; empty when it is none.
        retry_after_s: how long the queue asks to wait before the next try; ``None`` when it did not say.
    """

    code: str = "UNKNOWN"
    retriable: ClassVar[bool] = False

    def __init__(self, message: str, *, field: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s


class QueueUnavailableError(QueueClientError):
    """The queue cannot be reached, or went away in the middle."""

    code = "UNAVAILABLE"
    retriable = True


class SessionEndedError(QueueUnavailableError):
    """The queue ended the session on somebody's behalf: a member of the same name, a forced seek, a deletion."""

    code = "ABORTED"


class DeliveryTimeoutError(QueueClientError):
    """The queue did not answer in time. What was sent is stored once or not at all."""

    code = "DEADLINE_EXCEEDED"
    retriable = True


class ClientClosedError(QueueClientError):
    """The publisher or subscriber was closed before this was done."""

    code = "CANCELLED"


class RefusedError(QueueClientError):
    """The queue refused the request; nothing of it was done."""


class InvalidRequestError(RefusedError):
    """A field of the request, named in ``field``, is wrong."""

    code = "INVALID_ARGUMENT"


class QueueNotFoundError(RefusedError):
    """There is no such topic or group."""

    code = "NOT_FOUND"


class AccessDeniedError(RefusedError):
    """The queue does not know us or does not let us."""

    code = "PERMISSION_DENIED"


class QueueFullError(RefusedError):
    """The topic, the disk or another limit is full."""

    code = "RESOURCE_EXHAUSTED"
    retriable = True


class PreconditionFailedError(RefusedError):
    """The state of the queue does not allow it, such as other settings of a group."""

    code = "FAILED_PRECONDITION"


class SequenceGapError(PreconditionFailedError):
    """The partition lacks messages of this producer before this one; ask ``positions`` where to go on."""


class ProducerFencedError(PreconditionFailedError):
    """A newer incarnation of this producer has published; this one must stop."""


_BY_CODE: Final[dict[int, type[QueueClientError]]] = {
    code_pb2.UNAVAILABLE: QueueUnavailableError,
    code_pb2.ABORTED: SessionEndedError,
    code_pb2.DEADLINE_EXCEEDED: DeliveryTimeoutError,
    code_pb2.INVALID_ARGUMENT: InvalidRequestError,
    code_pb2.OUT_OF_RANGE: InvalidRequestError,
    code_pb2.NOT_FOUND: QueueNotFoundError,
    code_pb2.UNAUTHENTICATED: AccessDeniedError,
    code_pb2.PERMISSION_DENIED: AccessDeniedError,
    code_pb2.RESOURCE_EXHAUSTED: QueueFullError,
    code_pb2.FAILED_PRECONDITION: PreconditionFailedError,
}

_PRECONDITIONS: Final[dict[str, type[PreconditionFailedError]]] = {
    "first_sequence": SequenceGapError,
    "producer_epoch": ProducerFencedError,
}


def error_from_status(status: status_pb2.Status) -> QueueClientError:
    """The error that a status of the queue stands for, with what its details say."""
    field, retry_after_s = "", None
    kind = _BY_CODE.get(status.code, RefusedError)
    for detail in status.details:
        request = error_details_pb2.BadRequest()
        precondition = error_details_pb2.PreconditionFailure()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(request) and request.field_violations:
            field = request.field_violations[0].field
        elif detail.Unpack(precondition) and precondition.violations:
            field = precondition.violations[0].subject
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    if kind is PreconditionFailedError:
        kind = _PRECONDITIONS.get(field, PreconditionFailedError)
    error = kind(status.message, field=field, retry_after_s=retry_after_s)
    if not kind.retriable:
        error.code = code_pb2.Code.Name(status.code) if status.code in code_pb2.Code.values() else "UNKNOWN"
    return error


def error_from_rpc(error: grpc.aio.AioRpcError) -> QueueClientError:
    """The error that a failed call stands for."""
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return error_from_status(status_pb2.Status.FromString(value))
            except DecodeError:
                break
    number: int = error.code().value[0]
    return error_from_status(status_pb2.Status(code=number, message=error.details() or error.code().name))
