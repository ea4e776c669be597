"""`telemetry tail`: shows messages as they are published."""

from __future__ import annotations

import click

from telemetry.console.session import Session, on_queue
from telemetry.console.tailing import tail_topics
from telemetry.console.values import POSITION
from telemetry.queue.client import Position, QueueAdmin


@click.command("tail", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("topics", nargs=-1, required=True)
@click.option(
    "--from",
    "position",
    type=POSITION,
    default="latest",
    show_default=True,
    metavar="POSITION",
    help="earliest, latest, an offset, an RFC 3339 time, or how long ago (-15m).",
)
@click.option("-n", "--count", type=click.IntRange(1), metavar="N", help="End after so many messages.")
@click.option("--raw", is_flag=True, help="Print data as it is; with --json, as base64.")
@on_queue
def tail(session: Session, topics: tuple[str, ...], position: Position, count: int | None, raw: bool) -> None:
    """Show messages of TOPICS until Ctrl-C. Nothing is consumed, and no group is made.

    Topics are names or patterns: * stands for one part of a name, > at the end for the rest. Topics that a pattern
    matches later are joined when they appear.
    """

    async def main(admin: QueueAdmin) -> None:
        await tail_topics(session, admin, topics, position, count, raw=raw)

    session.run(main)
