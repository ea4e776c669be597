"""`telemetry up`: the whole pipeline on this machine."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import fields
from pathlib import Path

import click

from telemetry.runtime.datadir import DataDirectoryLock
from telemetry.runtime.process import run_process
from telemetry.runtime.settings import process_command
from telemetry.streamer.samples import SAMPLE_ROWS_PER_SECOND, sample_path
from telemetry.supervisor.pipeline import HOST, Ports, Replay, check_files, pipeline
from telemetry.supervisor.terminal import StatusLines, foreground
from telemetry.supervisor.watch import Supervisor

FILE_ROWS_PER_SECOND = 1000.0
"""How fast files are replayed in a loop unless said otherwise."""


def _port_options(command: click.Command) -> click.Command:
    for entry in reversed(fields(Ports)):
        flag = f"--{entry.name.replace('_', '-')}"
        what = entry.name.removesuffix("_port").replace("_http", " (HTTP)").replace("api", "API").replace("_", " ")
        option = click.Option(
            [flag], type=click.IntRange(0, 65535), default=entry.default, show_default=True, help=f"Port of the {what}."
        )
        command.params.append(option)
    return command


@process_command("up")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--once", is_flag=True, help="Stream the files a single time, with the times that are in them.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0),
    help="Rows a second and worker; 0 means as fast as it goes.  [default: 0 with --once, else a pace to watch]",
)
@click.option("--workers", type=click.IntRange(1, 64), default=4, help="Workers of the streamer.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data"),
    help="Where everything is kept.",
)
@click.option("--fsync", default="always", help="The queue's fsync policy: always, interval:MS or never.")
def up(
    files: tuple[Path, ...],
    once: bool,
    rate: float | None,
    workers: int,
    data_dir: Path,
    fsync: str,
    log_level: str,
    **ports: int,
) -> None:
    """Start queue, collector, streamer, gateway and alerts, watch over them, and stop all with Ctrl-C.

    Streams FILES (CSV, also gzipped: nvidia-smi logs, DCGM exports, or your own with a GPU column); without any, a
    sample of 32 GPUs. The dashboard is on port 8080, the API on 8081.
    """
    if rate is None:
        pace = FILE_ROWS_PER_SECOND if files else SAMPLE_ROWS_PER_SECOND
        rate = 0.0 if once else pace / workers
    replay = Replay(files or (sample_path(),), once, rate, workers)

    async def main(stop: asyncio.Event) -> None:
        check_files(replay.files)
        with DataDirectoryLock(data_dir):
            listening = Ports(**ports)
            listening.claim()
            logs = data_dir / "logs"
            logs.mkdir(exist_ok=True)
            supervisor = Supervisor(pipeline(listening, replay, data_dir, fsync, log_level), logs)
            urls = (
                f"Dashboard  http://{HOST}:{listening.dashboard_port}",
                f"API        http://{HOST}:{listening.api_port}/docs",
                f"Logs       {logs}",
            )
            lines = StatusLines(supervisor.statuses, urls)
            drawing = asyncio.create_task(lines.run())
            try:
                await supervisor.run(stop)
            finally:
                drawing.cancel()
                lines.draw()

    with foreground():
        code = run_process("up", main, log_level)
    sys.exit(code)


_port_options(up)
