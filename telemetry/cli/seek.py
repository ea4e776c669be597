"""`telemetry seek`: moves a group to another place in its topics."""

from __future__ import annotations

import click

from telemetry.console.groups import seek_json, seek_lines
from telemetry.console.session import Session, on_queue, unless_forced
from telemetry.console.values import POSITION
from telemetry.queue.client import Position, QueueAdmin


@click.command("seek", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("group")
@click.option(
    "--to",
    "position",
    type=POSITION,
    required=True,
    metavar="POSITION",
    help="earliest, latest, an offset, an RFC 3339 time, or how long ago (-15m).",
)
@click.option("--topic", default="", metavar="NAME", help="Only this topic.")
@click.option("--partition", type=click.IntRange(0), metavar="N", help="Only this partition of --topic.")
@click.option("--dry-run", is_flag=True, help="Only say what would move.")
@click.option("--force", is_flag=True, help="Disconnect members that are there; they come back at the new place.")
@on_queue
def seek(
    session: Session, group: str, position: Position, topic: str, partition: int | None, dry_run: bool, force: bool
) -> None:
    """Move GROUP: back, to read messages again, or forward, to skip them."""
    if partition is not None and not topic:
        raise click.UsageError("--partition needs --topic")

    async def main(admin: QueueAdmin) -> None:
        before = (await admin.group(group)).positions
        with unless_forced(force):
            after = await admin.seek_group(
                group, position, topic=topic, partition=partition, force=force, dry_run=dry_run
            )
        session.answer(
            seek_json(group, before, after, dry_run=dry_run), lambda: seek_lines(before, after, dry_run=dry_run)
        )

    session.run(main)
