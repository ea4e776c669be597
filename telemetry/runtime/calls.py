"""Calling another gRPC service: its channel, a deadline on every call, and what a failed call means.

A call is cancelled when the task that awaits it is: whoever goes away takes its calls along.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from telemetry.runtime.channel import open_channel
from telemetry.runtime.credentials import Credentials
from telemetry.runtime.request_ids import request_metadata

if TYPE_CHECKING:
    from grpc.aio import UnaryUnaryMultiCallable

DEADLINE_S: Final = 5.0
"""How long a call may take unless said otherwise."""
HEALTH_DEADLINE_S: Final = 1.0
"""How long a service may take to say how it is."""
_DETAILS_KEY: Final = "grpc-status-details-bin"

Observe = Callable[[str, str], None]
"""Is told the service and the status of each call that has ended."""

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of a request that the service refused."""

    field: str
    description: str


class UpstreamError(Exception):
    """A call to another service failed.

    Attributes:
        service: its name, such as ``collector``.
        address: where it was called.
        code: the status.
        message: what the service said; empty when it said nothing itself (it cannot be reached, the deadline passed).
        violations: the fields of the request that it refused.
        retry_after_s: how long it asks to wait; ``None`` when it did not say.
    """

    def __init__(
        self,
        service: str,
        address: str,
        code: grpc.StatusCode,
        message: str = "",
        violations: Sequence[Violation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{service} at {address}: {code.name}: {message}")
        self.service = service
        self.address = address
        self.code = code
        self.message = message
        self.violations = list(violations)
        self.retry_after_s = retry_after_s

    @classmethod
    def of(cls, service: str, address: str, error: grpc.aio.AioRpcError) -> UpstreamError:
        """What gRPC raised, with what the service's details say."""
        code, said = error.code(), _said_by_service(error)
        message = error.details() or "" if said or not _from_channel(code) else ""
        violations: list[Violation] = []
        retry_after_s: float | None = None
        for detail in said.details if said else ():
            request, precondition, retry = (
                error_details_pb2.BadRequest(), error_details_pb2.PreconditionFailure(), error_details_pb2.RetryInfo(),
            )  # fmt: skip
            if detail.Unpack(request):
                violations += [Violation(each.field, each.description) for each in request.field_violations]
            elif detail.Unpack(precondition):
                violations += [Violation(each.subject, each.description) for each in precondition.violations]
            elif detail.Unpack(retry):
                retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
        return cls(service, address, code, message, violations, retry_after_s)

    @property
    def reason(self) -> str:
        """What is wrong, for people, also when the service said nothing itself."""
        if self.message:
            return self.message
        match self.code:
            case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
                # A service that goes away cancels what it has not answered.
                return f"the {self.service} at {self.address} cannot be reached"
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return f"the {self.service} at {self.address} did not answer in time"
        return f"the {self.service} at {self.address} failed ({self.code.name})"


def _from_channel(code: grpc.StatusCode) -> bool:
    """Whether gRPC itself ends calls with this status, with a text that is not for people."""
    return code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


def _said_by_service(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None


def unobserved(service: str, code: str) -> None:
    """Take no note of a call."""


class Upstream:
    """One service: its channel and how to call it."""

    name: str

    def __init__(
        self,
        address: str,
        deadline_s: float = DEADLINE_S,
        observe: Observe = unobserved,
        credentials: Credentials | None = None,
        *,
        server_name: str = "",
    ) -> None:
        """Prepare to call ``address`` (``host:port``); nothing connects before the first call.

        ``server_name`` is the host's name when ``address`` holds what it was resolved to.
        """
        self.address: Final = address
        self.deadline_s: Final = deadline_s
        self.observe: Final = observe
        self._channel: Final = open_channel(address, credentials, server_name=server_name)
        self._health: Final = health_pb2_grpc.HealthStub(self._channel)

    async def close(self, grace_s: float | None = None) -> None:
        """Close the channel; calls that are still open after ``grace_s`` are cancelled."""
        await self._channel.close(grace_s)

    async def serving(self) -> bool:
        """Whether the service says that it is SERVING.

        Raises:
            UpstreamError: if it does not answer within a second.
        """
        check: UnaryUnaryMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]
        check = self._health.Check  # type: ignore[attr-defined]
        answer = await self._call(check, health_pb2.HealthCheckRequest(), HEALTH_DEADLINE_S)
        return answer.status == health_pb2.HealthCheckResponse.SERVING

    async def _call(
        self,
        method: UnaryUnaryMultiCallable[_Request, _Response],
        request: _Request,
        deadline_s: float | None = None,
    ) -> _Response:
        try:
            response = await method(request, timeout=deadline_s or self.deadline_s, metadata=request_metadata())
        except grpc.aio.AioRpcError as error:
            raise self._failed(error) from None
        self.observe(self.name, grpc.StatusCode.OK.name)
        return response

    def _failed(self, error: grpc.aio.AioRpcError) -> UpstreamError:
        self.observe(self.name, error.code().name)
        return UpstreamError.of(self.name, self.address, error)
