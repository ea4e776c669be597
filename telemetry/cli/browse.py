"""`telemetry browse`: reads messages where they lie."""

from __future__ import annotations

from contextlib import aclosing

import click

from telemetry.console.messages import MessagePrinter
from telemetry.console.session import Session, notice, on_queue
from telemetry.console.values import POSITION
from telemetry.queue.client import Position, QueueAdmin


@click.command("browse", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("topic")
@click.option("--partition", type=click.IntRange(0), metavar="N", help="Only this partition.")
@click.option(
    "--from",
    "position",
    type=POSITION,
    default="earliest",
    show_default=True,
    metavar="POSITION",
    help="earliest, latest, an offset, an RFC 3339 time, or how long ago (-15m).",
)
@click.option(
    "--limit", type=click.IntRange(1), default=100, show_default=True, metavar="N", help="The most messages to read."
)
@click.option("--raw", is_flag=True, help="Print data as it is; with --json, as base64.")
@on_queue
def browse(session: Session, topic: str, partition: int | None, position: Position, limit: int, raw: bool) -> None:
    """Read messages of TOPIC, a partition after the other. Nothing is consumed."""

    async def main(admin: QueueAdmin) -> None:
        printer = MessagePrinter(as_json=session.as_json, raw=raw)
        found = 0
        async with aclosing(admin.browse(topic, partition, position, limit)) as messages:
            async for stored in messages:
                printer.show(stored)
                found += 1
        printer.flush()
        if not found:
            notice("there are no messages there")

    session.run(main)
