"""`telemetry streamer`: CSV files to the queue."""

from __future__ import annotations

import asyncio
import logging
import sys
from datetime import UTC
from pathlib import Path
from typing import Literal, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from telemetry.runtime.credentials import Credentials
from telemetry.runtime.http import HttpServer
from telemetry.runtime.process import run_process
from telemetry.runtime.security import SecurityFlags, connecting, guarded
from telemetry.runtime.settings import process_command
from telemetry.streamer.http import exported, streamer_app
from telemetry.streamer.messages import Encoding
from telemetry.streamer.stream import Streamer, StreamSettings

log = logging.getLogger(__name__)


def time_zone(context: click.Context, parameter: click.Parameter, name: str) -> object:
    """The callback of an option that takes a time zone.

    Raises:
        click.BadParameter: if there is none of that name.
    """
    try:
        return UTC if name.upper() == "UTC" else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise click.BadParameter(f"no time zone is called {name!r}; an example is Europe/Berlin") from None


@process_command("streamer")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--csv", "more_files", multiple=True, type=click.Path(path_type=Path), help="A file; may be repeated.")
@click.option("--queue", default="127.0.0.1:9091", help="The queue's gRPC address.")
@click.option("--topic", default="telemetry", help="The topic for records.")
@click.option("--workers", type=click.IntRange(1, 64), default=4, help="Threads, and files read at a time.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0),
    default=1.0,
    help="Rows a second and worker; 0 means as fast as it goes.",
)
@click.option("--duration", type=click.FloatRange(min=0, min_open=True), help="Stop after so many seconds.")
@click.option("--loop/--once", default=True, help="Begin again at the end of the files, or end the process there.")
@click.option(
    "--timestamps",
    type=click.Choice(["source", "now"]),
    help="Keep the files' times, or stamp records as they go out.  [default: now with --loop, source with --once]",
)
@click.option(
    "--timezone",
    "zone",
    default="UTC",
    callback=time_zone,
    help="Where the clock stood that wrote times without a zone.",
)
@click.option(
    "--encoding",
    type=click.Choice(["arrow", "json"]),
    default="arrow",
    help="Thousands of records a message, or one.",
)
@click.option("--stay", is_flag=True, help="With --once: go on answering HTTP when all is done, until a signal comes.")
@click.option("--host", default="127.0.0.1", help="The address that HTTP listens on.")
@click.option("--http-port", type=click.IntRange(0, 65535), default=9093, help="Port of /health, /stats and /metrics.")
@guarded
@connecting()
def streamer(
    files: tuple[Path, ...],
    more_files: tuple[Path, ...],
    queue: str,
    topic: str,
    workers: int,
    rate: float,
    duration: float | None,
    loop: bool,
    timestamps: str | None,
    zone: object,
    encoding: str,
    stay: bool,
    host: str,
    http_port: int,
    security: SecurityFlags,
    credentials: Credentials | None,
    log_level: str,
) -> None:
    """Stream FILES to the queue: nvidia-smi logs, DCGM exports, any CSV with a GPU column; JSON Lines; Parquet; Arrow.

    Rows that cannot be read go to the topic telemetry.quarantine and stop nothing. With --once the process ends with
    exit code 0 when everything is stored; started again, it goes on where it was, and stores no row twice.
    """
    paths = (*files, *more_files)
    if not paths:
        raise click.UsageError("no file to stream was given; name some, or use --csv")
    settings = StreamSettings(
        files=paths,
        queue=queue,
        topic=topic,
        encoding=cast("Encoding", encoding),
        rate=rate,
        workers=workers,
        once=not loop,
        timestamps=cast('Literal["source", "now"]', timestamps or ("now" if loop else "source")),
        duration_s=duration,
        zone=cast("ZoneInfo", zone),
        credentials=credentials,
    )

    async def main(stop: asyncio.Event) -> None:
        guard = security.load(host)
        stream = Streamer(settings)
        with exported(stream.stats):
            app = streamer_app(stream.stats)
            async with HttpServer(app, host, {"--http-port": http_port}, security=guard) as http:
                log.info("ready", extra={"http": http.ports[0], "queue": queue, "files": len(paths)})
                await stream.run(stop)
                if stay:
                    await stop.wait()

    sys.exit(run_process("streamer", main, log_level))
