"""Several collectors behind one: each call goes to all at once, and their answers become one.

With a single collector its answers pass through as they are. With several, one that is down or late makes the answer
partial, which it says; if none answers, the call fails with UNAVAILABLE. A wrong request is refused as by any one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

from telemetry.query.collector import CollectorClient
from telemetry.query.fleet import Holding, hosts_of, newest_of
from telemetry.query.listing import by_name, fleet_of
from telemetry.query.members import Members, ask, refused, together
from telemetry.query.paging import page
from telemetry.query.records import merged
from telemetry.query.series import SeriesQuery
from telemetry.runtime.status import InvalidArgumentError
from telemetry.v1 import query_pb2


class Collectors:
    """Asks all collectors. Every method raises :class:`~telemetry.runtime.calls.UpstreamError`."""

    name: Final = "collector"

    def __init__(self, members: Members) -> None:
        """Ask ``members``."""
        self._members = members

    @property
    def address(self) -> str:
        """The addresses of all, for people."""
        return self._members.address

    async def members(self) -> Sequence[CollectorClient]:
        """Each collector by itself."""
        return await self._members.current()

    async def close(self) -> None:
        """Close the channels; open calls are cancelled."""
        await self._members.close()

    async def list_gpus(self, request: query_pb2.ListGpusRequest) -> query_pb2.ListGpusResponse:
        """A page of GPUs."""
        members = await self._members.current()
        if len(members) == 1:
            return await members[0].list_gpus(request)
        fleet, completeness = await fleet_of(members, request.selector, request.gpu_prefix)
        gpus = [holding.gpu for holding in fleet.values()]
        try:
            chosen, token = page(
                gpus, lambda gpu: gpu.gpu, request.page_size, request.page_token, lambda gpu: gpu.ByteSize()
            )
        except InvalidArgumentError as error:
            raise refused(error.field, error.message) from None
        return query_pb2.ListGpusResponse(
            gpus=chosen, next_page_token=token, total=len(gpus), completeness=completeness
        )

    async def list_hosts(self, request: query_pb2.ListHostsRequest) -> query_pb2.ListHostsResponse:
        """A page of hosts."""
        members = await self._members.current()
        if len(members) == 1:
            return await members[0].list_hosts(request)
        fleet, completeness = await fleet_of(members, query_pb2.GpuSelector())
        try:
            hosts, token = page(
                hosts_of(fleet),
                lambda host: host.host,
                request.page_size,
                request.page_token,
                lambda host: host.ByteSize(),
            )
        except InvalidArgumentError as error:
            raise refused(error.field, error.message) from None
        return query_pb2.ListHostsResponse(hosts=hosts, next_page_token=token, completeness=completeness)

    async def get_latest(self, request: query_pb2.GetLatestRequest) -> query_pb2.GetLatestResponse:
        """The newest values."""
        members = await self._members.current()
        if len(members) == 1:
            return await members[0].get_latest(request)
        listed = query_pb2.Completeness()
        fleet: dict[str, Holding] = {}
        if request.selector.hosts or request.selector.labels:
            fleet, listed = await fleet_of(members, request.selector)
        requests = [
            query_pb2.GetLatestRequest(selector=each, metrics=request.metrics, with_timestamps=True)
            for each in by_name(request.selector, fleet)
        ]

        async def latest(member: CollectorClient, deadline_s: float) -> query_pb2.GetLatestResponse:
            parts = [await member.get_latest(each, deadline_s) for each in requests]
            if len(parts) == 1:
                return parts[0]
            whole = newest_of(parts, request.metrics, with_timestamps=True)
            for part in parts:
                whole.completeness.MergeFrom(part.completeness)
            return whole

        answers = await ask(members, latest)
        newest = newest_of(
            [answer for _, answer in answers.given], request.metrics, with_timestamps=request.with_timestamps
        )
        newest.completeness.CopyFrom(together(listed, answers.completeness()))
        return newest

    async def records(
        self, request: query_pb2.StreamRecordsRequest
    ) -> tuple[list[query_pb2.Record], query_pb2.Completeness]:
        """All records that the request's limit allows, and how complete they are."""
        records: list[query_pb2.Record] = []
        completeness = query_pb2.Completeness()
        async with aclosing(self.stream_records(request)) as pieces:
            async for piece in pieces:
                records.extend(piece.records)
                completeness.MergeFrom(piece.completeness)
        return records, completeness

    async def stream_records(
        self, request: query_pb2.StreamRecordsRequest, *, patient: bool = False
    ) -> AsyncGenerator[query_pb2.StreamRecordsResponse]:
        """Yield records in pieces; how complete they are is in the last one.

        Args:
            request: which.
            patient: whether the deadline is that of each piece, instead of that of all together.
        """
        members = await self._members.current()
        if len(members) == 1:
            async with aclosing(members[0].stream_records(request, patient=patient)) as pieces:
                async for piece in pieces:
                    yield piece
            return
        fleet, completeness = await fleet_of(members, request.selector)
        newest_first = request.order != query_pb2.RECORD_ORDER_OLDEST_FIRST
        left = request.limit
        for selector in by_name(request.selector, fleet):
            wanted = query_pb2.StreamRecordsRequest()
            wanted.CopyFrom(request)
            wanted.selector.CopyFrom(selector)
            wanted.limit = left
            stream = merged(
                members, wanted, fleet=fleet, newest_first=newest_first, patient=patient, completeness=completeness
            )
            async with aclosing(stream) as runs:
                async for records in runs:
                    if request.limit:
                        records = records[:left]
                        left -= len(records)
                    yield query_pb2.StreamRecordsResponse(records=records)
                    if request.limit and not left:
                        yield query_pb2.StreamRecordsResponse(completeness=completeness)
                        return
        yield query_pb2.StreamRecordsResponse(completeness=completeness)

    async def query_series(self, request: query_pb2.QuerySeriesRequest) -> query_pb2.QuerySeriesResponse:
        """Metrics over time."""
        members = await self._members.current()
        if len(members) == 1:
            return await members[0].query_series(request)
        return await SeriesQuery(members, request).answer()
