"""The services behind the gateway: their channels, a deadline on every call, and what a failed call means.

A call is cancelled when the task that awaits it is: a client that goes away takes its calls with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.counters import UPSTREAM_CALLS
from telemetry.runtime.grpc_server import CHANNEL_OPTIONS
from telemetry.v1 import query_pb2, query_pb2_grpc, queue_admin_pb2, queue_admin_pb2_grpc

if TYPE_CHECKING:
    from grpc.aio import UnaryUnaryMultiCallable

DEADLINE_S: Final = 5.0
"""How long a call may take unless said otherwise."""
HEALTH_DEADLINE_S: Final = 1.0
"""How long a service may take to say how it is."""
_DETAILS_KEY: Final = "grpc-status-details-bin"

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

    def __init__(self, service: str, address: str, error: grpc.aio.AioRpcError) -> None:
        super().__init__(f"{service} at {address}: {error.code().name}: {error.details()}")
        self.service = service
        self.address = address
        self.code = error.code()
        said = _said_by_service(error)
        self.message = error.details() or "" if said or not _from_channel(error.code()) else ""
        self.violations: list[Violation] = []
        self.retry_after_s: float | None = None
        for detail in said.details if said else ():
            request, precondition, retry = (
                error_details_pb2.BadRequest(), error_details_pb2.PreconditionFailure(), error_details_pb2.RetryInfo(),
            )  # fmt: skip
            if detail.Unpack(request):
                self.violations += [Violation(each.field, each.description) for each in request.field_violations]
            elif detail.Unpack(precondition):
                self.violations += [Violation(each.subject, each.description) for each in precondition.violations]
            elif detail.Unpack(retry):
                self.retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9


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


class Upstream:
    """One service: its channel and how to call it."""

    name: str

    def __init__(self, address: str, deadline_s: float = DEADLINE_S) -> None:
        """Prepare to call ``address`` (``host:port``); nothing connects before the first call."""
        self.address = address
        self._deadline_s = deadline_s
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    async def close(self) -> None:
        """Close the channel; open calls are cancelled."""
        await self._channel.close()

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
            response = await method(request, timeout=deadline_s or self._deadline_s)
        except grpc.aio.AioRpcError as error:
            raise self._failed(error) from None
        UPSTREAM_CALLS.labels(self.name, "OK").inc()
        return response

    def _failed(self, error: grpc.aio.AioRpcError) -> UpstreamError:
        UPSTREAM_CALLS.labels(self.name, error.code().name).inc()
        return UpstreamError(self.name, self.address, error)


class CollectorClient(Upstream):
    """QueryService. Every method raises :class:`UpstreamError`."""

    name = "collector"

    def __init__(self, address: str, deadline_s: float = DEADLINE_S) -> None:
        super().__init__(address, deadline_s)
        self._stub: query_pb2_grpc.QueryServiceAsyncStub = query_pb2_grpc.QueryServiceStub(self._channel)

    async def list_gpus(self, request: query_pb2.ListGpusRequest) -> query_pb2.ListGpusResponse:
        """A page of GPUs."""
        return await self._call(self._stub.ListGpus, request)

    async def list_hosts(self, request: query_pb2.ListHostsRequest) -> query_pb2.ListHostsResponse:
        """A page of hosts."""
        return await self._call(self._stub.ListHosts, request)

    async def get_latest(self, request: query_pb2.GetLatestRequest) -> query_pb2.GetLatestResponse:
        """The newest values."""
        return await self._call(self._stub.GetLatest, request)

    async def query_series(self, request: query_pb2.QuerySeriesRequest) -> query_pb2.QuerySeriesResponse:
        """Metrics over time."""
        return await self._call(self._stub.QuerySeries, request)

    async def records(
        self, request: query_pb2.StreamRecordsRequest
    ) -> tuple[list[query_pb2.Record], query_pb2.Completeness]:
        """All records that the request's limit allows, and how complete they are."""
        records: list[query_pb2.Record] = []
        completeness = query_pb2.Completeness()
        try:
            async for piece in self._stub.StreamRecords(request, timeout=self._deadline_s):
                records.extend(piece.records)
                completeness.MergeFrom(piece.completeness)
        except grpc.aio.AioRpcError as error:
            raise self._failed(error) from None
        UPSTREAM_CALLS.labels(self.name, "OK").inc()
        return records, completeness

    async def stats(self, deadline_s: float | None = None) -> query_pb2.CollectorStats:
        """The collector's counters."""
        request = query_pb2.QueryServiceGetStatsRequest()
        return (await self._call(self._stub.GetStats, request, deadline_s)).stats


class QueueClient(Upstream):
    """QueueAdminService. Every method raises :class:`UpstreamError`."""

    name = "queue"

    def __init__(self, address: str, deadline_s: float = DEADLINE_S) -> None:
        super().__init__(address, deadline_s)
        self._stub: queue_admin_pb2_grpc.QueueAdminServiceAsyncStub = queue_admin_pb2_grpc.QueueAdminServiceStub(
            self._channel
        )

    async def ensure_topic(self, topic: queue_admin_pb2.Topic) -> None:
        """Make a topic unless it is there."""
        try:
            await self._call(self._stub.CreateTopic, queue_admin_pb2.CreateTopicRequest(topic=topic))
        except UpstreamError as error:
            if error.code is not grpc.StatusCode.ALREADY_EXISTS:
                raise

    async def get_topic(self, name: str) -> queue_admin_pb2.Topic:
        """One topic."""
        return (await self._call(self._stub.GetTopic, queue_admin_pb2.GetTopicRequest(topic=name))).topic

    async def list_topics(self, request: queue_admin_pb2.ListTopicsRequest) -> queue_admin_pb2.ListTopicsResponse:
        """A page of topics."""
        return await self._call(self._stub.ListTopics, request)

    async def list_groups(self, request: queue_admin_pb2.ListGroupsRequest) -> queue_admin_pb2.ListGroupsResponse:
        """A page of groups."""
        return await self._call(self._stub.ListGroups, request)

    async def stats(self, deadline_s: float | None = None) -> queue_admin_pb2.QueueStats:
        """The queue's statistics."""
        return (await self._call(self._stub.GetStats, queue_admin_pb2.GetStatsRequest(), deadline_s)).stats
