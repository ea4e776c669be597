"""`telemetry import` as people see it: how far it is, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import click

from telemetry.console.session import INTERRUPTED, Failure, Session, notice
from telemetry.console.tables import number, plural, rate

PROGRESS_EVERY_S: Final = 0.2
"""How often the line on the terminal is renewed."""


@dataclass(frozen=True, slots=True)
class Imported:
    """Where an import stands.

    Attributes:
        files: how many files there are.
        rows: rows read and handed on.
        records: records that the queue has confirmed.
        samples: values in them.
        skipped_messages: messages that the queue had from an earlier run.
        quarantined: rows that could not be read, wholly or in part.
        share: how much of all files is read, from 0 to 1.
        failed: why files could not be imported at all, or not to the end.
    """

    files: int
    rows: int
    records: int
    samples: int
    skipped_messages: int
    quarantined: int
    share: float
    failed: Sequence[str]


def progress_of(state: Imported, state_name: str) -> str:
    """One line while it runs."""
    if state_name != "streaming":
        return state_name
    return f"{state.share:.0%}  {plural(state.rows, 'row')} read, {plural(state.records, 'record')} in the queue"


def report(session: Session, state: Imported, seconds: float, *, stopped: bool) -> None:
    """Say what came of it.

    Raises:
        Failure: if files are not imported.
        click.exceptions.Exit: if it was stopped.
    """
    session.answer(
        asdict(state) | {"seconds": round(seconds, 3), "finished": not stopped and not state.failed},
        lambda: [_summary(state, seconds)],
    )
    if state.quarantined:
        notice(
            f"{plural(state.quarantined, 'row')} could not be read, wholly or in part, and went to quarantine; "
            "`telemetry browse telemetry.quarantine` shows each with file, line and reason"
        )
    if state.failed:
        raise Failure("; ".join(state.failed))
    if stopped:
        notice("stopped before the end; the same command goes on from here")
        raise click.exceptions.Exit(INTERRUPTED)


def _summary(state: Imported, seconds: float) -> str:
    text = (
        f"{plural(state.records, 'record')} with {plural(state.samples, 'sample')} of {plural(state.rows, 'row')} "
        f"in {plural(state.files - len(state.failed), 'file')} imported; {rate(state.rows / max(seconds, 1e-3))} rows/s"
    )
    if state.skipped_messages:
        text += f"; {number(state.skipped_messages)} messages were in the queue already, from an earlier run"
    return text
