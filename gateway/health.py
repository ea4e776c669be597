"""How all services are, asked at the same time and each within a second."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from time import perf_counter
from typing import Any, Final

import orjson

from gateway.alerts.upstream import AlertsClient
from gateway.upstreams import QueueClient
from telemetry import __version__
from telemetry.query.collector import CollectorClient
from telemetry.query.fanout import Collectors
from telemetry.queue.shapes import Json, instant
from telemetry.runtime.calls import HEALTH_DEADLINE_S, UpstreamError
from telemetry.runtime.credentials import Credentials
from telemetry.v1 import alerts_pb2, query_pb2, queue_admin_pb2

ANSWER_BYTES_MAX: Final = 1 << 20


class State(StrEnum):
    """How a service is. A streamer that does not answer is UNKNOWN: having read all its files, it may
    have ended. So are alerts that have never answered: they may not be wanted."""

    OK = "ok"
    DOWN = "down"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ServiceHealth:
    """How one service is.

    Attributes:
        name: ``queue``, ``collector``, ``streamer``, ``alerts`` or ``gateway``; of several collectors with the address.
        state: as above.
        latency_ms: how long it took to answer; ``None`` when it did not.
        version: its version; empty when not known.
        since: when it started; ``None`` when not known.
        detail: what is wrong, for people; empty when nothing is.
    """

    name: str
    state: State
    latency_ms: float | None = None
    version: str = ""
    since: datetime | str | None = None
    detail: str = ""


class HealthReport:
    """Asks the services."""

    def __init__(
        self,
        queue: QueueClient,
        collectors: Collectors,
        streamer_http: str,
        alerts: AlertsClient,
        credentials: Credentials | None = None,
    ) -> None:
        """Ask these; ``streamer_http`` is ``host:port`` of the streamer's HTTP port."""
        self._queue = queue
        self._collectors = collectors
        self._streamer_http = streamer_http
        self._alerts = alerts
        self._alerts_seen = False
        self._credentials = credentials
        self._since = datetime.now(UTC)

    async def report(self) -> Json:
        """How all of them are. The pipeline is ``down`` when neither queue nor any collector is well."""
        members = await self._collectors.members()
        names = [f"collector {each.address}" if len(members) > 1 else "collector" for each in members]
        queue, streamer, alerts, *collectors = await asyncio.gather(
            self._grpc_health("queue", self._queue),
            self._streamer_health(),
            self._alerts_health(),
            *(self._grpc_health(name, member) for name, member in zip(names, members, strict=True)),
        )
        services = [queue, *collectors, streamer, alerts]
        status = "ok"
        if any(service.state is State.DOWN for service in services):
            all_down = all(service.state is State.DOWN for service in (queue, *collectors))
            status = "down" if all_down else "degraded"
        gateway = ServiceHealth("gateway", State.OK, 0.0, __version__, self._since)
        return {"status": status, "services": [*services, gateway]}

    async def _alerts_health(self) -> ServiceHealth:
        """UNKNOWN until it has answered for the first time: a pipeline may be run without alerts."""
        health = await self._grpc_health("alerts", self._alerts)
        self._alerts_seen |= health.latency_ms is not None
        return health if self._alerts_seen else replace(health, state=State.UNKNOWN)

    async def _grpc_health(self, name: str, service: QueueClient | CollectorClient | AlertsClient) -> ServiceHealth:
        started = perf_counter()
        stats = asyncio.ensure_future(_stats(service))
        try:
            serving = await service.serving()
            latency_ms = _ms_since(started)
        except UpstreamError as error:
            stats.cancel()
            return ServiceHealth(name, State.DOWN, detail=error.message or f"{service.address} does not answer")
        version, since = await stats
        detail = "" if serving else "it answers, but says that it is not serving"
        return ServiceHealth(name, State.OK if serving else State.DOWN, latency_ms, version, since, detail)

    async def _streamer_health(self) -> ServiceHealth:
        started = perf_counter()
        try:
            async with asyncio.timeout(HEALTH_DEADLINE_S):
                status, answer = await asyncio.to_thread(_get, self._streamer_http, "/health", self._credentials)
                latency_ms = _ms_since(started)
        except (OSError, http.client.HTTPException, TimeoutError):
            return ServiceHealth("streamer", State.UNKNOWN, detail=f"{self._streamer_http} does not answer")
        version, since = str(answer.get("version", "")), answer.get("start_time")
        since = since if isinstance(since, str) else None
        if status != http.client.OK:
            detail = str(answer.get("detail", f"it answers with status {status}"))
            return ServiceHealth("streamer", State.DOWN, latency_ms, version, since, detail)
        return ServiceHealth("streamer", State.OK, latency_ms, version, since)


async def _stats(service: QueueClient | CollectorClient | AlertsClient) -> tuple[str, datetime | None]:
    """A service's version and when it started; nothing if it does not say so in time."""
    try:
        stats: queue_admin_pb2.QueueStats | query_pb2.CollectorStats | alerts_pb2.AlertStats = await service.stats(
            HEALTH_DEADLINE_S
        )
    except UpstreamError:
        return "", None
    return stats.version, instant(stats, "start_time")


def _get(address: str, path: str, credentials: Credentials | None) -> tuple[int, Mapping[str, Any]]:
    """Status and JSON object of an answer."""
    context = None if credentials is None else credentials.tls_context()
    connection = (
        http.client.HTTPConnection(address, timeout=HEALTH_DEADLINE_S)
        if context is None
        else http.client.HTTPSConnection(address, timeout=HEALTH_DEADLINE_S, context=context)
    )
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        try:
            content = orjson.loads(answer.read(ANSWER_BYTES_MAX))
        except orjson.JSONDecodeError:
            content = {}
        return answer.status, content if isinstance(content, dict) else {}
    finally:
        connection.close()


def _ms_since(started: float) -> float:
    return round((perf_counter() - started) * 1000, 2)
