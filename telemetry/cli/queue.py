"""`telemetry queue`: the message queue."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from telemetry.queue.core.limits import Limits, flag_of
from telemetry.queue.engines.engine import QueueEngine
from telemetry.queue.engines.fsync import ALWAYS, FsyncPolicy
from telemetry.queue.engines.memory import MemoryEngine
from telemetry.queue.server import QueueServer
from telemetry.runtime.process import run_process
from telemetry.runtime.security import SecurityFlags, guarded
from telemetry.runtime.settings import process_command


def _fsync_policy(context: click.Context, parameter: click.Parameter, value: str) -> FsyncPolicy:
    try:
        return FsyncPolicy.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None


def _limits(command: Callable[..., None]) -> Callable[..., None]:
    """One option for each limit, from what :class:`Limits` says of it."""
    for limit in reversed(fields(Limits)):
        bounds = click.IntRange(1, limit.metadata["most"])
        command = click.option(flag_of(limit.name), type=bounds, default=limit.default, help=limit.metadata["text"])(
            command
        )
    return command


@process_command("queue")
@click.option(
    "--engine",
    type=click.Choice(["disk", "memory"]),
    default="disk",
    help="Where messages are kept; in memory they go with the process.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data/queue"),
    help="Where the disk engine keeps its files.",
)
@click.option(
    "--fsync",
    default=str(ALWAYS),
    metavar="always|interval:MS|never",
    callback=_fsync_policy,
    help="When the disk engine waits for the disk: before every answer, every so many milliseconds, or never.",
)
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--grpc-port", type=click.IntRange(0, 65535), default=9091, help="gRPC port; 0 means any free one.")
@click.option("--http-port", type=click.IntRange(0, 65535), default=9090, help="HTTP port; 0 means any free one.")
@click.option("--reflection/--no-reflection", default=True, help="Let clients ask for the services and their messages.")
@click.option(
    "--auto-create-topics/--no-auto-create-topics",
    default=True,
    help="Make a topic when somebody first publishes to it, and let subscribers wait for one that is not there.",
)
@_limits
@guarded
def queue(
    engine: str,
    data_dir: Path,
    fsync: FsyncPolicy,
    host: str,
    grpc_port: int,
    http_port: int,
    reflection: bool,
    auto_create_topics: bool,
    security: SecurityFlags,
    log_level: str,
    **limits: Any,
) -> None:
    """Run the message queue.

    Clients publish and subscribe over gRPC. Statistics, health and metrics are on the HTTP port, at /stats, /health,
    /topics and /metrics.
    """

    async def main(stop: asyncio.Event) -> None:
        guard = security.load(host)
        keeper: QueueEngine
        if engine == "disk":
            from telemetry.queue.engines.disk import DiskEngine

            keeper = DiskEngine(
                data_dir, fsync=fsync, create_missing_topics=auto_create_topics, limits=Limits(**limits)
            )
        else:
            keeper = MemoryEngine(create_missing_topics=auto_create_topics, limits=Limits(**limits))
        server = QueueServer(
            keeper,
            host=host,
            grpc_port=grpc_port,
            http_port=http_port,
            with_reflection=reflection,
            security=guard,
        )
        await server.run(stop)

    sys.exit(run_process("queue", main, log_level))
