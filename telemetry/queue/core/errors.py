"""What the queue refuses, and why. Each error carries a gRPC status name, so that one registry can translate all.

QueueError
├── InvalidArgumentError      a field of the request is wrong                 INVALID_ARGUMENT
├── NotFoundError             no such topic, partition or group               NOT_FOUND
├── AlreadyExistsError        a topic of that name exists                     ALREADY_EXISTS
├── PreconditionError         the state does not allow it (fenced, a gap, …)  FAILED_PRECONDITION
├── FullError                 a topic, the disk or a limit is full            RESOURCE_EXHAUSTED  (retriable)
└── ClosedError               the queue is shutting down                      UNAVAILABLE         (retriable)
"""

from __future__ import annotations

from typing import ClassVar


class QueueError(Exception):
    """The queue refuses a request.

    Attributes:
        code: the name of the gRPC status.
        retriable: whether the same request may succeed later.
        message: what is wrong, naming the thing.
        field: path of the request's field that is wrong, such as ``batch.messages[3].data``; empty when it is none.
        retry_after_s: how long a client should wait before it tries again; ``None`` when it need not try.
    """

    code: ClassVar[str] = "INTERNAL"
    retriable: ClassVar[bool] = False

    def __init__(self, message: str, *, field: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s


class InvalidArgumentError(QueueError):
    """A field of the request is wrong."""

    code = "INVALID_ARGUMENT"


class NotFoundError(QueueError):
    """There is no such topic, partition or group."""

    code = "NOT_FOUND"


class AlreadyExistsError(QueueError):
    """There is one already."""

    code = "ALREADY_EXISTS"


class PreconditionError(QueueError):
    """The state of the queue does not allow it: an older epoch, a gap in a sequence, other settings of a group."""

    code = "FAILED_PRECONDITION"


class FullError(QueueError):
    """A topic, the disk or a limit is full."""

    code = "RESOURCE_EXHAUSTED"
    retriable = True


class ClosedError(QueueError):
    """The queue is shutting down."""

    code = "UNAVAILABLE"
    retriable = True
