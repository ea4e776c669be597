"""`telemetry collector`: stores what the queue delivers and answers queries."""

from __future__ import annotations

import math
import sys
from functools import partial
from pathlib import Path

import click

from telemetry.collector.admission import GPUS_MAX
from telemetry.collector.collector import CollectorSettings
from telemetry.collector.process import ProcessSettings, run_collector
from telemetry.console.values import AGE, SIZE
from telemetry.runtime.credentials import Credentials
from telemetry.runtime.process import run_process
from telemetry.runtime.security import SecurityFlags, connecting, guarded
from telemetry.runtime.settings import process_command
from telemetry.storage.compaction import Retention
from telemetry.storage.compactor import CompactionSettings

_PORT = click.IntRange(0, 65535)
_NEVER_S = 1e9


def _or_never(text: str) -> float:
    """What click takes as the type of an interval."""
    return math.inf if text == "0" else AGE(text)


def _age_us(age_s: float) -> int:
    """An age in microseconds; 0 for one that is never reached."""
    return 0 if math.isinf(age_s) else max(1, int(age_s * 1e6))


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
    "--rotate-bytes",
    type=SIZE,
    default="8MiB",
    metavar="SIZE",
    help="Close a GPU's JSONL file when it has so many bytes; closed files are moved to the cold tier.",
)
@click.option(
    "--compact-interval",
    type=_or_never,
    default="5m",
    metavar="TIME",
    help="How often to move closed files to the cold tier (Parquet) and tidy it up; 0: never.",
)
@click.option(
    "--compact-after",
    type=AGE,
    default="1h",
    metavar="AGE",
    help="Close files, too, whose first record was stored so long ago.",
)
@click.option("--retention-raw", type=AGE, default="none", metavar="AGE", help="Delete older records, such as 30d.")
@click.option(
    "--retention-1m", type=AGE, default="90d", metavar="AGE", help="Delete older roll-ups by minute; or none."
)
@click.option("--retention-1h", type=AGE, default="none", metavar="AGE", help="Delete older roll-ups by hour.")
@click.option(
    "--retention-bytes",
    type=SIZE,
    default="0",
    metavar="SIZE",
    help="Delete the oldest records in the cold tier when they take more; 0: no limit.",
)
@click.option(
    "--quarantine-bytes",
    type=SIZE,
    default="1GiB",
    metavar="SIZE",
    help="What could not be stored is kept with its reason until it takes more; then the oldest goes.",
)
@click.option(
    "--max-gpus",
    type=click.IntRange(1),
    default=GPUS_MAX,
    metavar="N",
    help="GPUs to keep; records of others go to quarantine.",
)
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
@guarded
@connecting()
def collector(
    queue: str,
    group: str,
    workers: int,
    data_dir: Path,
    max_entries: int,
    rotate_bytes: int,
    compact_interval: float,
    compact_after: float,
    retention_raw: float,
    retention_1m: float,
    retention_1h: float,
    retention_bytes: int,
    quarantine_bytes: int,
    max_gpus: int,
    checkpoint: bool,
    host: str,
    grpc_port: int,
    health_port: int,
    broker_port: int,
    security: SecurityFlags,
    credentials: Credentials | None,
    log_level: str,
) -> None:
    """Store what the queue delivers, once each, and answer queries about it."""
    if not rotate_bytes:
        raise click.BadParameter("a file of 0 bytes holds nothing", param_hint="--rotate-bytes")
    retention = Retention(_age_us(retention_raw), _age_us(retention_1m), _age_us(retention_1h), retention_bytes)
    interval_s = 0.0 if math.isinf(compact_interval) else compact_interval
    compaction = CompactionSettings(interval_s, min(compact_after, _NEVER_S), retention)
    settings = CollectorSettings(queue, group, workers, host, grpc_port, health_port, compaction, max_gpus, credentials)
    process = ProcessSettings(data_dir, max_entries, rotate_bytes, quarantine_bytes, checkpoint, broker_port, security)
    sys.exit(run_process("collector", partial(run_collector, settings, process), log_level))
