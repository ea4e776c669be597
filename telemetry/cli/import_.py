"""`telemetry import`: records from files through the queue into the store."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import cast
from zoneinfo import ZoneInfo

import click

from telemetry.cli.streamer import time_zone
from telemetry.console.importing import PROGRESS_EVERY_S, Imported, progress_of, report
from telemetry.console.progress import ProgressLine
from telemetry.console.session import Failure, Session, on_queue
from telemetry.queue.client import QueueAdmin
from telemetry.runtime.errors import StartupError
from telemetry.runtime.logs import configure_logging
from telemetry.streamer.stream import Streamer, StreamSettings


@click.command("import", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--topic", default="telemetry", show_default=True, help="The topic for records.")
@click.option(
    "--workers", type=click.IntRange(1, 64), default=4, show_default=True, help="Threads, and files read at a time."
)
@click.option(
    "--timezone",
    "zone",
    default="UTC",
    show_default=True,
    callback=time_zone,
    help="Where the clock stood that wrote times without a zone.",
)
@on_queue
def import_(session: Session, files: tuple[Path, ...], topic: str, workers: int, zone: object) -> None:
    """Import FILES through the queue: what `telemetry export` writes, what the hot tier holds, any CSV that the
    streamer reads, JSON Lines, Parquet and Arrow. What a file is, its first bytes say.

    Every row is stored once: an import that was stopped or killed goes on where it was when the same command is given
    again. Rows that cannot be read go to the topic telemetry.quarantine and stop nothing.
    """
    settings = StreamSettings(
        files=files,
        queue=session.address,
        topic=topic,
        workers=workers,
        zone=cast("ZoneInfo", zone),
        credentials=session.credentials,
    )

    async def main(admin: QueueAdmin) -> None:
        # A streamer would wait for a queue that is not there.
        await admin.topics()
        configure_logging("import", "error")
        await _run(session, Streamer(settings))

    session.run(main)


async def _run(session: Session, streamer: Streamer) -> None:
    stop = asyncio.Event()
    started = time.monotonic()
    running = asyncio.create_task(streamer.run(stop))
    stopped = False
    with ProgressLine() as progress:
        while not running.done():
            progress.update(lambda: progress_of(_imported(streamer), streamer.stats.state))
            try:
                await asyncio.wait({running}, timeout=PROGRESS_EVERY_S)
            except asyncio.CancelledError:  # Ctrl-C; a second one ends the process at once.
                stopped = True
                stop.set()
    try:
        await running
    except StartupError as error:
        raise Failure(str(error)) from None
    report(session, _imported(streamer), time.monotonic() - started, stopped=stopped)


def _imported(streamer: Streamer) -> Imported:
    counts, files = streamer.stats.counts, streamer.stats.files
    size = sum(file.size for file in files)
    return Imported(
        len(files),
        counts.rows,
        counts.records,
        counts.samples,
        counts.skipped,
        counts.quarantined,
        sum(file.size if file.passes else file.position for file in files) / size if size else 0.0,
        [file.error for file in files if file.error],
    )
