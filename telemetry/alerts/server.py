"""Alerts as a whole: what evaluates rules, what tells others, and the two ports."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from telemetry.alerts.database import AlertDatabase, DatabaseError
from telemetry.alerts.engine import Engine
from telemetry.alerts.feed import Feed
from telemetry.alerts.http_app import alerts_app
from telemetry.alerts.in_force import Rules
from telemetry.alerts.notify.alertmanager import Alertmanager
from telemetry.alerts.notify.log import AlertLog
from telemetry.alerts.notify.notifier import Notifier
from telemetry.alerts.notify.outgoing import target
from telemetry.alerts.notify.webhook import WAITING_MAX, Webhook, cursor_name
from telemetry.alerts.rules import RuleError
from telemetry.alerts.runner import Runner
from telemetry.alerts.service import AlertService
from telemetry.alerts.stats import Facts
from telemetry.runtime.credentials import Credentials
from telemetry.runtime.errors import DataDirectoryError, StartupError
from telemetry.runtime.grpc_server import GrpcServer
from telemetry.runtime.http import HttpServer
from telemetry.runtime.security import OPEN, Security
from telemetry.runtime.tokens import Role
from telemetry.v1 import alerts_pb2, alerts_pb2_grpc

log = logging.getLogger(__name__)

DATABASE_FILE: Final = "alerts.sqlite"

_CHANGES: Final = ("/telemetry.v1.AlertService/CreateSilence", "/telemetry.v1.AlertService/ExpireSilence")
"""Methods that need the role to operate, where there are tokens."""

DRAIN_S_MAX: Final = 5.0
"""How long the last notifications may take."""


@dataclass(frozen=True, slots=True)
class AlertsSettings:
    """How alerts run.

    Attributes:
        queue: the queue's gRPC address.
        alertmanagers: addresses of Alertmanagers, each of which is told everything.
        webhooks: addresses of webhooks.
        host: the address to listen on.
        grpc_port: port of the AlertService; 0 means any free one.
        http_port: port of health, statistics and metrics; 0 means any free one.
        credentials: for a queue with TLS or tokens.
    """

    queue: str
    alertmanagers: Sequence[str] = ()
    webhooks: Sequence[str] = ()
    host: str = "127.0.0.1"
    grpc_port: int = 9094
    http_port: int = 9095
    credentials: Credentials | None = None


class AlertsServer:
    """Evaluates rules over what the queue brings, tells others, and answers."""

    def __init__(
        self, settings: AlertsSettings, data_dir: Path, load: Callable[[], Rules], security: Security = OPEN
    ) -> None:
        """Prepare; the directory is held by the caller.

        Args:
            settings: how to run.
            data_dir: where the state is kept.
            load: reads the rules; raises RuleError.
            security: what guards both ports.

        Raises:
            StartupError: if rules, addresses or the state that was kept are of no use.
        """
        now_us = time.time_ns() // 1000
        _check(settings.webhooks, "--webhook")
        _check(settings.alertmanagers, "--alertmanager")
        try:
            rules = load()
            self._database = AlertDatabase(data_dir / DATABASE_FILE)
            engine = Engine(rules, self._database, now_us)
            self._webhooks = _webhooks(settings.webhooks, self._database)
        except RuleError as error:
            raise StartupError(str(error)) from None
        except DatabaseError as error:
            raise DataDirectoryError(str(error)) from None
        alertmanagers = [Alertmanager(url) for url in dict.fromkeys(settings.alertmanagers)]
        self._notifiers: list[Notifier] = [AlertLog(), *alertmanagers, *self._webhooks.values()]
        self._feed = Feed(settings.queue, credentials=settings.credentials)
        self.runner = Runner(engine, self._feed, self._notifiers, self._cursors, load)
        facts = Facts(self.runner, self._feed, self._notifiers, now_us)
        service = AlertService(self.runner, self._database, now_us)
        register = partial(alerts_pb2_grpc.add_AlertServiceServicer_to_server, service)
        self._grpc = GrpcServer(
            [(alerts_pb2.DESCRIPTOR.services_by_name["AlertService"], register)],
            host=settings.host,
            port=settings.grpc_port,
            security=security,
            roles=dict.fromkeys(_CHANGES, Role.OPERATE),
        )
        app = alerts_app(self.runner, facts)
        self._http = HttpServer(app, settings.host, {"--http-port": settings.http_port}, security=security)

    @property
    def grpc_port(self) -> int:
        """The port bound."""
        return self._grpc.port

    @property
    def http_port(self) -> int:
        """The port bound."""
        return self._http.ports[0]

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop`` is set, then tell what is still to be told, keep the state, and return.

        Raises:
            StartupError: if a port cannot be bound.
        """
        try:
            await self._grpc.start()
            try:
                async with self._http:
                    await self._run(stop)
            finally:
                self.runner.watchers.close()
                await self._grpc.stop()
        finally:
            await self.runner.close()

    async def reload(self) -> None:
        """Read the rules anew; if they are bad, the log says why and those before stay in force."""
        with suppress(RuleError):
            await self.runner.reload()

    async def _run(self, stop: asyncio.Event) -> None:
        await self.runner.tick()  # so that what was kept is there when the first client asks
        await self._grpc.set_serving()
        log.info("ready", extra={"grpc": self.grpc_port, "http": self.http_port})
        ticking = asyncio.create_task(self.runner.run(), name="ticks")
        feeding = asyncio.create_task(self._feed.run(), name="feed")
        telling = [asyncio.create_task(each.run(), name=each.name) for each in self._notifiers]
        stopping = asyncio.create_task(stop.wait(), name="stop")
        tasks = [ticking, feeding, stopping, *telling]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()
            await self._grpc.begin_drain()
            for task in (ticking, feeding):
                task.cancel()
            await self._drain()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _drain(self) -> None:
        """Wait a moment for notifications on their way. What cannot be delivered now is after the next start."""
        loop = asyncio.get_running_loop()
        until = loop.time() + DRAIN_S_MAX
        while loop.time() < until and any(each.waiting and not each.trouble for each in self._notifiers):  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    def _cursors(self) -> Mapping[str, int]:
        return {name: webhook.told for name, webhook in self._webhooks.items()}


def _check(urls: Sequence[str], flag: str) -> None:
    for url in urls:
        try:
            target(url)
        except ValueError as error:
            raise StartupError(f"{flag} is no address: {error}") from None


def _webhooks(urls: Sequence[str], database: AlertDatabase) -> dict[str, Webhook]:
    """The webhooks by the names under which it is kept how far they have been told."""
    cursors, newest = database.cursors(), database.last_number()
    webhooks = {}
    for url in urls:
        name = cursor_name(url)
        told = cursors.get(name, newest)
        webhooks[name] = Webhook(url, told, database.events_after(told, WAITING_MAX))
    return webhooks
