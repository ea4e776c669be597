"""`telemetry alerts serve`, which is also `telemetry-alerts`: evaluates rules over the live stream and tells others."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import click

from telemetry.alerts.process import ProcessSettings, run_alerts
from telemetry.alerts.server import AlertsSettings
from telemetry.runtime.credentials import Credentials
from telemetry.runtime.process import run_process
from telemetry.runtime.security import SecurityFlags, connecting, guarded
from telemetry.runtime.settings import process_command

_PORT = click.IntRange(0, 65535)


@process_command("alerts")
@click.option("--queue", default="127.0.0.1:9091", metavar="ADDRESS", help="The queue, host:port.")
@click.option(
    "--rules",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    help="A file with rules, in Prometheus' format; may be repeated.  [default: the rule pack]",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data/alerts"),
    help="Where active alerts, silences and history are kept.",
)
@click.option(
    "--alertmanager",
    multiple=True,
    metavar="URL",
    help="An Alertmanager to tell, such as http://127.0.0.1:9093; may be repeated, and each is told everything.",
)
@click.option(
    "--webhook", multiple=True, metavar="URL", help="A webhook to tell, in Alertmanager's JSON; may be repeated."
)
@click.option("--host", default="127.0.0.1", help="The address to listen on.")
@click.option("--grpc-port", type=_PORT, default=9094, help="Port of the AlertService; 0 means any free one.")
@click.option("--http-port", type=_PORT, default=9095, help="Port of health, statistics, metrics and reload (HTTP).")
@guarded
@connecting()
def serve(
    queue: str,
    rules: tuple[Path, ...],
    data_dir: Path,
    alertmanager: tuple[str, ...],
    webhook: tuple[str, ...],
    host: str,
    grpc_port: int,
    http_port: int,
    security: SecurityFlags,
    credentials: Credentials | None,
    log_level: str,
) -> None:
    """Evaluate rules over what GPUs say now, keep the alerts, and tell Alertmanagers, webhooks and the log.

    SIGHUP, or POST /-/reload, reads the rules anew; if they are bad, those before stay in force.
    """
    settings = AlertsSettings(queue, alertmanager, webhook, host, grpc_port, http_port, credentials)
    process = ProcessSettings(data_dir, rules, security)
    sys.exit(run_process("alerts", partial(run_alerts, settings, process), log_level))
