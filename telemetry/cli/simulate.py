"""`telemetry simulate`: a fleet that does not exist, into a file or the queue."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import click

from telemetry.console.progress import ProgressLine
from telemetry.console.session import INTERRUPTED, Failure
from telemetry.console.values import parse_duration
from telemetry.queue.client import Credentials, Publisher, QueueClientError
from telemetry.runtime.errors import StartupError
from telemetry.runtime.process import run_process
from telemetry.runtime.security import connecting
from telemetry.runtime.settings import process_command
from telemetry.simulator.fleet import START, Fleet
from telemetry.simulator.incidents import Incident, IncidentError, incidents_to_json, read_incidents
from telemetry.simulator.output import FORMS, written
from telemetry.simulator.publish import FleetPublisher, Rate
from telemetry.tabular import read_time


def _length(context: click.Context, parameter: click.Parameter, text: str) -> timedelta:
    try:
        return timedelta(seconds=parse_duration(text))
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(str(error)) from None


def _time(context: click.Context, parameter: click.Parameter, text: str | None) -> datetime | None:
    try:
        return None if text is None else read_time(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}; an example is 2026-01-01T00:00:00Z") from None


def _rate(context: click.Context, parameter: click.Parameter, text: str) -> Rate:
    if text == "realtime":
        return "realtime"
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate < float("inf"):
        raise click.BadParameter(f"{text!r} is neither realtime nor a number of records a second, or 0")
    return rate


@process_command("simulate")
@click.option("--gpus", type=click.IntRange(1), default=64, help="GPUs in the fleet.")
@click.option("--gpus-per-host", type=click.IntRange(1), default=8, help="GPUs in a host.")
@click.option("--interval", callback=_length, default="10s", help="Time between two records of a GPU.")
@click.option("--duration", callback=_length, default="1h", help="Time that is simulated, such as 90s, 6h or 30d.")
@click.option("--start", callback=_time, help="The first instant.  [default: 2026-01-01, with --rate realtime now]")
@click.option("--seed", type=click.IntRange(0), default=0, help="The same seed makes the same records.")
@click.option("--incidents", metavar="FILE|random", help="What goes wrong: a JSON file, or random.  [default: nothing]")
@click.option("--out", type=click.Path(path_type=Path), help=f"The file to write; its name ends in {', '.join(FORMS)}.")
@click.option(
    "--truth", type=click.Path(path_type=Path), help="Where to write what went wrong.  [default: beside --out]"
)
@click.option("--queue", metavar="HOST:PORT", help="Publish to the queue at this gRPC address instead.")
@click.option("--topic", default="telemetry", help="The topic to publish to.")
@click.option(
    "--rate",
    callback=_rate,
    default="realtime",
    metavar="realtime|N",
    help="With --queue: each record at its own time, or so many records a second; 0 means as fast as it goes.",
)
@connecting()
def simulate(
    gpus: int,
    gpus_per_host: int,
    interval: timedelta,
    duration: timedelta,
    start: datetime | None,
    seed: int,
    incidents: str | None,
    out: Path | None,
    truth: Path | None,
    queue: str | None,
    topic: str,
    rate: Rate,
    credentials: Credentials | None,
    log_level: str,
) -> None:
    """Simulate a fleet of GPUs: jobs that come and go, heat, power, clocks, memory, errors.

    What goes wrong is chosen by --incidents, and the truth about it (which GPU, what, from when to when) is written as
    JSON, so that alerts can be held against it. A file is complete when it appears.
    """
    if (out is None) == (queue is None):
        raise click.UsageError("name either a file with --out or a queue with --queue")
    if out is not None and not out.name.endswith(tuple(FORMS)):
        raise click.UsageError(f"--out {out}: the name has to end in one of {', '.join(FORMS)}")
    if start is None and queue is not None and rate == "realtime":
        start = datetime.now(UTC)
    try:
        fleet = Fleet(
            gpus,
            duration=duration,
            interval=interval,
            start=START if start is None else start,
            seed=seed,
            gpus_per_host=gpus_per_host,
            incidents=_planned(incidents),
        )
    except (IncidentError, OSError) as error:
        raise Failure(f"--incidents: {error}") from None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if out is not None:
        _write(fleet, out)
        if truth is None and incidents is not None:
            truth = out.with_name(f"{out.name.split('.')[0]}.incidents.json")
    if truth is not None:
        _write_truth(fleet, truth)
    if queue is not None:
        sys.exit(_publish(fleet, queue, credentials, topic, rate, log_level))


def _planned(incidents: str | None) -> Sequence[Incident] | Literal["random"]:
    if incidents is None:
        return ()
    return "random" if incidents == "random" else read_incidents(Path(incidents))


def _write_truth(fleet: Fleet, truth: Path) -> None:
    try:
        truth.write_bytes(incidents_to_json(fleet.incidents, fleet.gpus))
    except OSError as error:
        raise Failure(f"--truth {truth}: {error.strerror}") from None
    click.echo(f"{len(fleet.incidents)} incidents in {truth}")


def _write(fleet: Fleet, out: Path) -> None:
    total, records = fleet.instants * len(fleet.gpus), 0
    try:
        with ProgressLine() as progress, written(out) as write:
            for frame in fleet.frames():
                write(frame)
                records += frame.height
                progress.update(lambda: f"{records:,} of {total:,} records")  # noqa: B023 - drawn at once
    except OSError as error:
        raise Failure(f"--out {out}: {error.strerror or error}") from None
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None
    click.echo(f"{records:,} records of {len(fleet.gpus):,} GPUs in {out}")


def _publish(fleet: Fleet, queue: str, credentials: Credentials | None, topic: str, rate: Rate, log_level: str) -> int:
    async def main(stop: asyncio.Event) -> None:
        try:
            async with Publisher(queue, credentials=credentials) as publisher:
                run = FleetPublisher(fleet, publisher, topic, rate)
                await run.run(stop)
        except QueueClientError as error:
            raise StartupError(f"the queue at {queue}: {error.message}") from None
        click.echo(f"{run.done.records:,} records ({run.done.samples:,} samples) of {len(fleet.gpus):,} GPUs published")

    return run_process("simulate", main, log_level)
