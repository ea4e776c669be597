"""`telemetry size`: what a fleet needs of machines."""

from __future__ import annotations

import click

from telemetry.console import sizing
from telemetry.console.session import to_json
from telemetry.console.values import AGE


@click.command("size", context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--gpus", type=click.IntRange(1), required=True, help="GPUs in all.")
@click.option("--gpus-per-host", type=click.IntRange(1), default=8, help="GPUs that one streamer reads.")
@click.option("--interval", type=AGE, default="10s", metavar="TIME", help="Time between two records of a GPU.")
@click.option("--metrics", type=click.IntRange(1), default=28, help="Metrics a record.")
@click.option("--retention", type=AGE, default="30d", metavar="AGE", help="How long records are kept.")
@click.option("--retention-1m", type=AGE, default="90d", metavar="AGE", help="How long roll-ups by minute are kept.")
@click.option("--retention-1h", type=AGE, default="730d", metavar="AGE", help="How long roll-ups by hour are kept.")
@click.option(
    "--outage", type=AGE, default="1d", metavar="TIME", help="How long the queue holds what collectors do not take."
)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def size(
    gpus: int,
    gpus_per_host: int,
    interval: float,
    metrics: int,
    retention: float,
    retention_1m: float,
    retention_1h: float,
    outage: float,
    as_json: bool,
) -> None:
    """Say what cores, memory and disks a fleet needs, process by process.

    For example: telemetry size --gpus 10000 --interval 10s --metrics 28 --retention 30d
    """
    if not interval > 0:
        raise click.BadParameter("an interval of 0 is no interval", param_hint="--interval")
    plan = sizing.Plan(gpus, gpus_per_host, interval, metrics, retention, retention_1m, retention_1h, outage)
    try:
        answer = sizing.estimate(plan)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    click.echo(to_json(answer.to_json()) if as_json else "\n".join(sizing.lines(answer)))
