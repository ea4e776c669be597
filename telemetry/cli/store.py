"""`telemetry store`: examine, repair, back up and restore a collector's data directory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import click
import orjson

from telemetry.console import upkeep as view
from telemetry.console.session import Failure
from telemetry.runtime.errors import DataDirectoryError
from telemetry.storage.upkeep.backup import Copied
from telemetry.storage.upkeep.backup import backup as back_up
from telemetry.storage.upkeep.backup import restore as restore_to
from telemetry.storage.upkeep.check import check as examine

_Answer = TypeVar("_Answer")
_FOLDER = click.Path(path_type=Path, file_okay=False)

_data_dir = click.option(
    "--data-dir",
    type=_FOLDER,
    default=Path("data"),
    show_default=True,
    envvar="TELEMETRY_COLLECTOR_DATA_DIR",
    show_envvar=True,
    help="The collector's data directory.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")


@click.group("store", context_settings={"help_option_names": ["-h", "--help"]})
def store() -> None:
    """Look after a collector's data directory. The exit code is 1 when anything in it is damaged."""
    # What a repair logs on its way, the report says.
    logging.getLogger("telemetry").addHandler(logging.NullHandler())


@store.command("check")
@click.option("--repair", is_flag=True, help="Mend what can be mended; only while no collector runs.")
@_data_dir
@_json
def check(data_dir: Path, repair: bool, as_json: bool) -> None:
    """Examine every file and checksum, and say what --repair would do.

    Without --repair nothing is changed, and a collector may go on working.
    """
    report = _or_fail(lambda: examine(data_dir, repair=repair))
    _say(report.to_json(), view.report_lines(report), as_json)
    if not report.is_sound:
        raise click.exceptions.Exit(1)


@store.command("backup")
@click.argument("target", type=_FOLDER)
@_data_dir
@_json
def backup(target: Path, data_dir: Path, as_json: bool) -> None:
    """Copy what is committed into TARGET, a new or empty directory. A collector may go on working.

    Files that never change are linked where TARGET is on the same file system.
    """
    _finish(_or_fail(lambda: back_up(data_dir, target)), target, "backed up", as_json)


@store.command("restore")
@click.argument("source", type=_FOLDER)
@_data_dir
@_json
def restore(source: Path, data_dir: Path, as_json: bool) -> None:
    """Copy the backup SOURCE into a new or empty data directory, and examine every file of it."""
    _finish(_or_fail(lambda: restore_to(source, data_dir)), data_dir, "restored", as_json)


def _finish(copied: Copied, target: Path, verb: str, as_json: bool) -> None:
    _say(copied.to_json(), view.copied_lines(copied, target, verb), as_json)
    if copied.damaged:
        raise click.exceptions.Exit(1)


def _or_fail(action: Callable[[], _Answer]) -> _Answer:
    try:
        return action()
    except DataDirectoryError as error:
        raise Failure(str(error)) from None


def _say(value: object, lines: Iterable[str], as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2))
    else:
        for line in lines:
            click.echo(line)
