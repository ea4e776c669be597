"""`telemetry quarantine`: looks at what a collector could not store, and tries it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from telemetry.cli.streamer import time_zone
from telemetry.console import quarantine as view
from telemetry.console.session import DefaultGroup, Failure, Session, on_queue, to_json
from telemetry.console.values import SINCE
from telemetry.queue.client import QueueAdmin
from telemetry.runtime.errors import DataDirectoryError
from telemetry.storage.quarantined import Entry, Retries, entries
from telemetry.streamer.reread import reread

_Command = TypeVar("_Command", bound=Callable[..., Any])
_Answer = TypeVar("_Answer")

_data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data"),
    show_default=True,
    envvar="TELEMETRY_COLLECTOR_DATA_DIR",
    show_envvar=True,
    help="The collector's data directory.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for scripts.")


def _filters(command: _Command) -> _Command:
    """Options that say which entries are meant."""
    for option in (
        click.option("--since", type=SINCE, metavar="TIME", help="Published then or later: RFC 3339, or -15m."),
        click.option("--source", default="", metavar="TEXT", help="Whose source, such as a file, has this in it."),
        click.option("--reason", default="", metavar="TEXT", help="Whose reason has this in it."),
    ):
        command = option(command)
    return command


@click.group("quarantine", cls=DefaultGroup, context_settings={"help_option_names": ["-h", "--help"]})
def quarantine() -> None:
    """Look at what a collector could not store, and try it again.

    The commands read the data directory; the collector may go on working.
    """


@quarantine.command("list")
@_filters
@click.option(
    "--limit", type=click.IntRange(1), default=100, show_default=True, metavar="N", help="The most entries to show."
)
@_data_dir
@_json
def list_entries(reason: str, source: str, since: datetime | None, limit: int, data_dir: Path, as_json: bool) -> None:
    """List the newest entries: when and where they came from, and why they are here."""
    wanted = view.Wanted(reason, source, since)
    found, count = _or_fail(lambda: view.newest(data_dir, wanted, limit))
    retries = _or_fail(lambda: Retries(data_dir))
    if as_json:
        click.echo(to_json(view.entries_json(found, count, retries)))
    else:
        for line in view.entries_table(found, count, retries):
            click.echo(line)


@quarantine.command("show")
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
@_data_dir
@_json
def show_entries(ids: tuple[str, ...], data_dir: Path, as_json: bool) -> None:
    """Show all of some entries: the row with the names of its columns, or what the message holds."""
    found, retries = _named(data_dir, frozenset(ids)), _or_fail(lambda: Retries(data_dir))
    if as_json:
        click.echo(to_json({"entries": [view.entry_json(entry, retries) for entry in found]}))
        return
    for place, entry in enumerate(found):
        for line in ("", *view.entry_lines(entry, retries)) if place else view.entry_lines(entry, retries):
            click.echo(line)


@quarantine.command("retry")
@click.argument("ids", nargs=-1, metavar="ID…")
@click.option("--all", "everything", is_flag=True, help="All entries, or all that the filters leave.")
@_filters
@click.option("--again", is_flag=True, help="Even those that have been retried.")
@click.option(
    "--timezone",
    "zone",
    default="UTC",
    show_default=True,
    callback=time_zone,
    help="Where the clock stood that wrote times without a zone.",
)
@_data_dir
@on_queue
def retry_entries(
    session: Session,
    ids: tuple[str, ...],
    everything: bool,
    reason: str,
    source: str,
    since: datetime | None,
    again: bool,
    zone: object,
    data_dir: Path,
) -> None:
    """Publish entries again, when what kept them from being stored is mended.

    A message goes back as it was; a row of a file is read again, by the names of its file's columns. What cannot be
    read even now stays here. Entries stay in the list, marked as retried, and are not retried again unless --again is
    given.
    """
    if bool(ids) == (everything or bool(reason or source or since)):
        raise click.UsageError("say which: by ID, by --reason, --source or --since, or --all")
    wanted = view.Wanted(reason, source, since)
    chosen = _named(data_dir, frozenset(ids)) if ids else filter(wanted.holds, entries(data_dir))
    read_rows = partial(_read_rows, zone=cast("tzinfo", zone))

    async def main(admin: QueueAdmin) -> None:
        # A publisher would wait for a queue that is not there.
        await admin.topics()
        try:
            outcome = await view.retry(session, data_dir, chosen, again=again, read_rows=read_rows)
        except DataDirectoryError as error:
            raise Failure(str(error)) from None
        session.answer(view.outcome_json(outcome), lambda: view.outcome_lines(outcome))
        if outcome.wrong:
            raise click.exceptions.Exit(1)

    session.run(main)


def _named(data_dir: Path, ids: frozenset[str]) -> list[Entry]:
    """Entries by their IDs.

    Raises:
        Failure: if there is no such entry.
    """
    found = _or_fail(lambda: [entry for entry in entries(data_dir) if entry.id in ids])
    missing = sorted(ids - {entry.id for entry in found})
    if missing:
        raise Failure(f"there is no entry {missing[0]}; `telemetry quarantine list` shows those that there are")
    return found


def _read_rows(rows: Mapping[int, str], source: str, header: str, partitions: int, *, zone: tzinfo) -> view.RowsAgain:
    again = reread(rows, header, partitions, zone)
    messages = [(part.partition, part.encode("arrow", source)) for part in again.slices]
    return view.RowsAgain(messages, again.wrong)


def _or_fail(action: Callable[[], _Answer]) -> _Answer:
    try:
        return action()
    except DataDirectoryError as error:
        raise Failure(str(error)) from None
