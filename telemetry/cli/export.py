"""`telemetry export`: records from collectors into a file."""

from __future__ import annotations

import click

from telemetry.console.collectors import CollectorSession, Selection, on_collectors, selecting
from telemetry.console.exporting import export as export_records
from telemetry.console.exporting import target_of
from telemetry.query.fanout import Collectors


@click.command("export", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file", default="-")
@click.option(
    "-f",
    "--format",
    "kind",
    type=click.Choice(["csv", "jsonl", "parquet", "arrow"]),
    help="What to write.  [default: by the file's name; csv on standard output]",
)
@click.option("--allow-partial", is_flag=True, help="Keep what is not complete, and exit with 0.")
@on_collectors
@selecting(metrics=True, times=True)
def export(selection: Selection, session: CollectorSession, file: str, kind: str | None, allow_partial: bool) -> None:
    """Write records into FILE, by GPU and time: CSV, JSON Lines, Parquet or Arrow. Without FILE, to standard output.

    The file is there when all is written, and not before. When a collector does not answer or something cannot be
    read, that is said, nothing is kept, and the exit code is 1. `telemetry import` reads the file back.
    """
    target = target_of(file, kind)

    async def main(collectors: Collectors) -> None:
        await export_records(collectors, selection, target, allow_partial=allow_partial)

    session.run(main)
