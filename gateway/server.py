"""A running gateway: its connections, the live feed, and the two ports."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from gateway.app import create_app
from gateway.backends import Backends
from gateway.feed import LiveFeed
from gateway.health import HealthReport
from gateway.inventory import Inventories
from gateway.live import LiveHub
from gateway.page import STATIC_FOLDER
from gateway.upstreams import QueueClient, count_call
from telemetry.query.fanout import Collectors
from telemetry.query.members import Members
from telemetry.runtime.calls import DEADLINE_S
from telemetry.runtime.http import HttpServer


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
        deadline_s: float = DEADLINE_S,
        static_folder: Path = STATIC_FOLDER,
    ) -> None:
        """Prepare to serve; nothing is bound or connected yet.

        Args:
            host: the address to listen on.
            dashboard_port: 0 means any free one, as for ``api_port``.
            api_port: see above.
            queue: ``host:port`` of the queue's gRPC.
            collectors: ``host:port`` of each collector's gRPC; a name with several addresses stands for as many.
            streamer_http: ``host:port`` of the streamer's HTTP.
            deadline_s: how long a call to another service may take.
            static_folder: the built dashboard.
        """
        self._queue = QueueClient(queue, deadline_s)
        self._collectors = Collectors(Members(collectors, deadline_s, count_call))
        self.hub = LiveHub()
        backends = Backends(
            self._collectors,
            self._queue,
            Inventories(self._collectors),
            self.hub,
            HealthReport(self._queue, self._collectors, streamer_http),
        )
        app = create_app(backends, static_folder)
        self._http = HttpServer(app, host, {"--dashboard-port": dashboard_port, "--api-port": api_port})
        self._feed: asyncio.Task[None] | None = None

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
            StartupError: if a port cannot be bound.
        """
        await self._http.start()
        self._feed = asyncio.create_task(LiveFeed(self._queue, self.hub).run(), name="live-feed")

    async def stop(self) -> None:
        """End event streams, let requests finish for a while, and close."""
        self.hub.close()
        if self._feed is not None:
            self._feed.cancel()
            await asyncio.wait({self._feed})
        await self._http.stop()
        await self._queue.close()
        await self._collectors.close()

    async def __aenter__(self) -> GatewayServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
