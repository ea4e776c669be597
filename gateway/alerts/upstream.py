"""The service that evaluates rules, as the gateway calls it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

import grpc

from gateway.upstreams import count_call
from telemetry.runtime.calls import DEADLINE_S, Upstream, UpstreamError
from telemetry.runtime.credentials import Credentials
from telemetry.v1 import alerts_pb2, alerts_pb2_grpc

GROUPS_MAX: Final = 10_000
"""Most groups of rules that are read."""


class AlertsClient(Upstream):
    """AlertService. Every method raises :class:`~telemetry.runtime.calls.UpstreamError`."""

    name = "alerts"

    def __init__(self, address: str, deadline_s: float = DEADLINE_S, credentials: Credentials | None = None) -> None:
        super().__init__(address, deadline_s, count_call, credentials)
        self._stub: Final[alerts_pb2_grpc.AlertServiceAsyncStub] = alerts_pb2_grpc.AlertServiceStub(self._channel)

    async def list_alerts(self, request: alerts_pb2.ListAlertsRequest) -> alerts_pb2.ListAlertsResponse:
        """A page of alerts."""
        return await self._call(self._stub.ListAlerts, request)

    async def all_rules(self) -> alerts_pb2.ListRulesResponse:
        """All groups of rules, in the order of their files."""
        found = alerts_pb2.ListRulesResponse()
        while True:
            request = alerts_pb2.ListRulesRequest(page_size=1000, page_token=found.next_page_token)
            # What is said once is taken from the newest page; groups add up.
            found.MergeFrom(page := await self._call(self._stub.ListRules, request))
            found.next_page_token = page.next_page_token
            if not found.next_page_token:
                return found
            if len(found.groups) > GROUPS_MAX:
                reason = f"there are more than {GROUPS_MAX} groups of rules"
                raise UpstreamError(self.name, self.address, grpc.StatusCode.RESOURCE_EXHAUSTED, reason)

    async def list_silences(self, request: alerts_pb2.ListSilencesRequest) -> alerts_pb2.ListSilencesResponse:
        """A page of silences."""
        return await self._call(self._stub.ListSilences, request)

    async def create_silence(self, silence: alerts_pb2.Silence, request_id: str) -> alerts_pb2.Silence:
        """Make a silence, or return the one that was made by the same ``request_id``."""
        request = alerts_pb2.CreateSilenceRequest(silence=silence, request_id=request_id)
        return (await self._call(self._stub.CreateSilence, request)).silence

    async def expire_silence(self, silence_id: str) -> alerts_pb2.Silence:
        """End a silence; returns it as it is now."""
        request = alerts_pb2.ExpireSilenceRequest(silence_id=silence_id)
        return (await self._call(self._stub.ExpireSilence, request)).silence

    async def history(self, request: alerts_pb2.ListAlertHistoryRequest) -> alerts_pb2.ListAlertHistoryResponse:
        """A page of what alerts did."""
        return await self._call(self._stub.ListAlertHistory, request)

    async def stats(self, deadline_s: float | None = None) -> alerts_pb2.AlertStats:
        """Which version runs since when."""
        request = alerts_pb2.AlertServiceGetStatsRequest()
        return (await self._call(self._stub.GetStats, request, deadline_s)).stats

    async def watch(self) -> AsyncGenerator[alerts_pb2.WatchAlertsResponse]:
        """All alerts, and then each that changes, for as long as the connection lasts."""
        call = self._stub.WatchAlerts(alerts_pb2.WatchAlertsRequest())
        try:
            async for response in call:
                yield response
        except grpc.aio.AioRpcError as error:
            raise self._failed(error) from None
        finally:
            call.cancel()
        self.observe(self.name, grpc.StatusCode.OK.name)
