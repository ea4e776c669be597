"""A running gateway: its connections, what feeds the live view, and the two ports."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from gateway.access import Access
from gateway.alerts.upstream import AlertsClient
from gateway.alerts.watch import AlertWatch
from gateway.app import create_app
from gateway.audit import AuditLog
from gateway.backends import Backends
from gateway.feed import LiveFeed
from gateway.health import HealthReport
from gateway.inventory import Inventories
from gateway.latest import LatestValues
from gateway.live import LiveHub
from gateway.page import STATIC_FOLDER
from gateway.queue.tasks import Tasks
from gateway.upstreams import QueueClient, count_call
from telemetry.query.fanout import Collectors
from telemetry.query.members import Members
from telemetry.runtime.calls import DEADLINE_S
from telemetry.runtime.credentials import Credentials
from telemetry.runtime.http import HttpServer
from telemetry.runtime.listen import is_loopback
from telemetry.runtime.security import OPEN, Security


class GatewayServer:
    """Serves one application on two ports, the dashboard's and the API's."""

    def __init__(
        self,
        *,
        host: str,
        dashboard_port: int,
        api_port: int,
        queue: str,
        collectors: Sequence[str],
        streamer_http: str,
        alerts: str = "127.0.0.1:9094",
        deadline_s: float = DEADLINE_S,
        static_folder: Path = STATIC_FOLDER,
        security: Security = OPEN,
        credentials: Credentials | None = None,
        admin: bool = False,
        audit_log: Path | None = None,
    ) -> None:
        """Prepare to serve; nothing is bound or connected yet.

        Args:
            host: the address to listen on.
            dashboard_port: 0 means any free one, as for ``api_port``.
            api_port: see above.
            queue: ``host:port`` of the queue's gRPC.
            collectors: ``host:port`` of each collector's gRPC; a name with several addresses stands for as many.
            streamer_http: ``host:port`` of the streamer's HTTP.
            alerts: ``host:port`` of the alerts' gRPC.
            deadline_s: how long a call to another service may take.
            static_folder: the built dashboard.
            security: what guards both ports.
            credentials: for queue, collectors and streamer with TLS or tokens.
            admin: whether everybody may change things; without effect where there are tokens.
            audit_log: the file in which changes are written down; without, they are only logged.
        """
        self._queue = QueueClient(queue, deadline_s, credentials)
        self._alerts = AlertsClient(alerts, deadline_s, credentials)
        self._collectors = Collectors(Members(collectors, deadline_s, count_call, credentials))
        self.hub = LiveHub()
        self._audit = AuditLog(audit_log)
        self._tasks = Tasks()
        backends = Backends(
            self._collectors,
            self._queue,
            self._alerts,
            Inventories(self._collectors),
            self.hub,
            HealthReport(self._queue, self._collectors, streamer_http, self._alerts, credentials),
            self._audit,
            self._tasks,
            LatestValues(self._collectors),
        )
        access = Access(admin=admin, tokens=security.tokens)
        app = create_app(backends, static_folder, access, only_loopback=is_loopback(host), rates=security.rates)
        ports = {"--dashboard-port": dashboard_port, "--api-port": api_port}
        self._http = HttpServer(app, host, ports, security=security, guards_itself=True)
        self._credentials = credentials
        self._following: list[asyncio.Task[None]] = []

    @property
    def dashboard_port(self) -> int:
        """The dashboard's port, once started."""
        return self._http.ports[0]

    @property
    def api_port(self) -> int:
        """The API's port, once started."""
        return self._http.ports[1]

    async def start(self) -> None:
        """Bind and serve, whether or not the other services are there yet.

        Raises:
            StartupError: if a port cannot be bound, or the audit log not be written.
        """
        await self._audit.open()
        await self._http.start()
        followers = (LiveFeed(self._queue, self.hub, self._credentials), AlertWatch(self._alerts, self.hub))
        self._following = [asyncio.create_task(each.run(), name=type(each).__name__) for each in followers]

    async def stop(self) -> None:
        """End event streams, let requests finish for a while, and close."""
        self.hub.close()
        for task in self._following:
            task.cancel()
        if self._following:
            await asyncio.wait(self._following)
        await self._tasks.close()
        await self._http.stop()
        await self._audit.close()
        await self._queue.close()
        await self._alerts.close()
        await self._collectors.close()

    async def __aenter__(self) -> GatewayServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
