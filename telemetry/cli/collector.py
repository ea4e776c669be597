"""`telemetry collector`: stores what the queue delivers and answers queries."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import click

from telemetry.collector.collector import CollectorSettings
from telemetry.collector.process import ProcessSettings, run_collector
from telemetry.runtime.process import run_process
from telemetry.runtime.settings import process_command

_PORT = click.IntRange(0, 65535)


@process_command("collector")
@click.option("--queue", default="", metavar="ADDRESS", help="The queue, host:port. Without it, brings its own.")
@click.option("--group", default="collectors", help="The subscription group that collectors share.")
@click.option("--workers", type=click.IntRange(1, 64), default=4, help="Members of the group in this process.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data"),
    help="Where records are kept.",
)
@click.option("--max-entries", type=click.IntRange(0), default=1000, help="Records of each GPU to keep in memory.")
@click.option(
    "--checkpoint/--no-checkpoint",
    default=True,
    help="Whether records are synced to disk before they are acknowledged. Without, a power failure may lose records "
    "that the queue no longer has; the death of the process still loses and doubles nothing.",
)
@click.option("--host", default="127.0.0.1", help="The address to listen on.")
@click.option("--grpc-port", type=_PORT, default=9092, help="Port of the QueryService; 0 means any free one.")
@click.option("--health-port", type=_PORT, default=8080, help="Port of health, statistics and metrics (HTTP).")
@click.option(
    "--broker-port",
    type=click.IntRange(0, 65534),
    default=9090,
    help="HTTP port of its own queue; the gRPC port is the one after it. Not used with --queue.",
)
@click.option("--insecure", is_flag=True, help="Allow a --host that other machines can reach.")
def collector(
    queue: str,
    group: str,
    workers: int,
    data_dir: Path,
    max_entries: int,
    checkpoint: bool,
    host: str,
    grpc_port: int,
    health_port: int,
    broker_port: int,
    insecure: bool,
    log_level: str,
) -> None:
    """Store what the queue delivers, once each, and answer queries about it."""
    settings = CollectorSettings(queue, group, workers, host, grpc_port, health_port)
    process = ProcessSettings(data_dir, max_entries, checkpoint, broker_port, insecure)
    sys.exit(run_process("collector", partial(run_collector, settings, process), log_level))
