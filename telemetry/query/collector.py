"""One collector's QueryService."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

import grpc

from telemetry.runtime.calls import DEADLINE_S, Observe, Upstream, UpstreamError, unobserved
from telemetry.runtime.credentials import Credentials
from telemetry.runtime.request_ids import request_metadata
from telemetry.v1 import query_pb2, query_pb2_grpc


class CollectorClient(Upstream):
    """Calls one collector. Every method raises :class:`~telemetry.runtime.calls.UpstreamError`."""

    name = "collector"

    def __init__(
        self,
        address: str,
        deadline_s: float = DEADLINE_S,
        observe: Observe = unobserved,
        credentials: Credentials | None = None,
        *,
        server_name: str = "",
    ) -> None:
        super().__init__(address, deadline_s, observe, credentials, server_name=server_name)
        self._stub: Final[query_pb2_grpc.QueryServiceAsyncStub] = query_pb2_grpc.QueryServiceStub(self._channel)
        self.late = False
        """Whether it let the deadline of its last call pass."""

    async def list_gpus(
        self, request: query_pb2.ListGpusRequest, deadline_s: float | None = None
    ) -> query_pb2.ListGpusResponse:
        """A page of GPUs."""
        return await self._call(self._stub.ListGpus, request, deadline_s)

    async def list_hosts(
        self, request: query_pb2.ListHostsRequest, deadline_s: float | None = None
    ) -> query_pb2.ListHostsResponse:
        """A page of hosts."""
        return await self._call(self._stub.ListHosts, request, deadline_s)

    async def get_latest(
        self, request: query_pb2.GetLatestRequest, deadline_s: float | None = None
    ) -> query_pb2.GetLatestResponse:
        """The newest values."""
        return await self._call(self._stub.GetLatest, request, deadline_s)

    async def query_series(
        self, request: query_pb2.QuerySeriesRequest, deadline_s: float | None = None
    ) -> query_pb2.QuerySeriesResponse:
        """Metrics over time."""
        return await self._call(self._stub.QuerySeries, request, deadline_s)

    async def stats(self, deadline_s: float | None = None) -> query_pb2.CollectorStats:
        """The collector's counters."""
        request = query_pb2.QueryServiceGetStatsRequest()
        return (await self._call(self._stub.GetStats, request, deadline_s)).stats

    async def stream_records(
        self, request: query_pb2.StreamRecordsRequest, *, patient: bool = False
    ) -> AsyncGenerator[query_pb2.StreamRecordsResponse]:
        """Yield records in pieces as they come.

        Args:
            request: which.
            patient: whether the deadline is that of each piece, instead of that of all together.
        """
        timeout_s = None if patient else self.deadline_s
        call = self._stub.StreamRecords(request, timeout=timeout_s, metadata=request_metadata())
        try:
            while True:
                async with asyncio.timeout(self.deadline_s if patient else None):
                    piece = await call.read()
                if not isinstance(piece, query_pb2.StreamRecordsResponse):  # it is grpc.aio.EOF
                    break
                yield piece
        except grpc.aio.AioRpcError as error:
            raise self._failed(error) from None
        except TimeoutError:
            self.observe(self.name, grpc.StatusCode.DEADLINE_EXCEEDED.name)
            raise UpstreamError(self.name, self.address, grpc.StatusCode.DEADLINE_EXCEEDED) from None
        finally:
            call.cancel()
        self.observe(self.name, grpc.StatusCode.OK.name)
