"""`telemetry gateway`: the REST API and the dashboard."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import click

from gateway.server import GatewayServer
from telemetry.runtime.credentials import Credentials
from telemetry.runtime.process import run_process
from telemetry.runtime.security import SecurityFlags, connecting, guarded
from telemetry.runtime.settings import addresses, process_command

log = logging.getLogger(__name__)


@process_command("gateway")
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option(
    "--dashboard-port", type=click.IntRange(0, 65535), default=8080, help="Port of the dashboard; 0 means any free one."
)
@click.option("--api-port", type=click.IntRange(0, 65535), default=8081, help="Port of the API; 0 means any free one.")
@click.option("--queue", default="127.0.0.1:9091", metavar="HOST:PORT", help="The queue's gRPC address.")
@click.option(
    "--collector",
    multiple=True,
    default=("127.0.0.1:9092",),
    metavar="HOST:PORT",
    callback=addresses,
    help="A collector's gRPC address; may be repeated, or be several with commas between them. A name with several "
    "IP addresses stands for as many collectors.",
)
@click.option("--streamer-http", default="127.0.0.1:9093", metavar="HOST:PORT", help="The streamer's HTTP address.")
@click.option("--alerts", default="127.0.0.1:9094", metavar="HOST:PORT", help="The gRPC address of the alerts.")
@click.option(
    "--admin",
    is_flag=True,
    help="Let everybody who reaches it change the queue and silence alerts; with --tokens, roles do.",
)
@click.option(
    "--audit-log",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File in which changes are written down, a line of JSON each; turned over at 16 MiB, five are kept.",
)
@guarded
@connecting()
def gateway(
    host: str,
    dashboard_port: int,
    api_port: int,
    queue: str,
    collector: tuple[str, ...],
    streamer_http: str,
    alerts: str,
    admin: bool,
    audit_log: Path | None,
    security: SecurityFlags,
    credentials: Credentials | None,
    log_level: str,
) -> None:
    """Serve the REST API and the dashboard.

    Both ports serve the same: the dashboard at /, the API at /api/v1, its documentation at /docs. Services that are not
    there yet are found when they come.
    """

    async def main(stop: asyncio.Event) -> None:
        guard = security.load(host)
        async with GatewayServer(
            host=host,
            dashboard_port=dashboard_port,
            api_port=api_port,
            queue=queue,
            collectors=collector,
            streamer_http=streamer_http,
            alerts=alerts,
            security=guard,
            credentials=credentials,
            admin=admin,
            audit_log=audit_log,
        ) as server:
            log.info("ready", extra={"dashboard": server.dashboard_port, "api": server.api_port})
            await stop.wait()

    sys.exit(run_process("gateway", main, log_level))
