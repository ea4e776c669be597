"""`telemetry alerts test`: what rules would have said of recorded data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click
import polars as pl

from telemetry.alerts.alert import State
from telemetry.alerts.process import PACK
from telemetry.alerts.replay import RECORDS_MAX, Episode, Replayed, TooManyRecordsError, replay, wanted_metrics
from telemetry.alerts.rules import RuleSet
from telemetry.cli.alerts_rules import CONTEXT, FILE, load
from telemetry.codec import label_columns, metric_columns
from telemetry.console.session import Failure, notice, to_json
from telemetry.console.tables import instant, instant_of_us, number, plural, printable, table
from telemetry.model import GPU, TIMESTAMP
from telemetry.streamer.sources.layout import SourceError
from telemetry.streamer.sources.opening import open_source

_THE_PACK: Final = "pack"
"""Stands for the rule pack where a rule file has to be named."""


@click.command("test", context_settings=CONTEXT)
@click.argument("rules_file", metavar="RULES", type=FILE)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON, one alert a line.")
def test(rules_file: Path, files: tuple[Path, ...], as_json: bool) -> None:
    """Replay recorded data and show what RULES would have fired, and when.

    RULES is a rule file, or the word pack for the rule pack. FILE is CSV, JSON Lines, Parquet or Arrow, as the streamer
    reads them; records of all files are replayed in the order of their times.
    """
    found = load([PACK if str(rules_file) == _THE_PACK and not rules_file.exists() else rules_file])
    try:
        replayed = replay(found, _read(files, found))
    except (SourceError, TooManyRecordsError, pl.exceptions.PolarsError) as error:
        raise Failure(str(error)) from None
    for complaint in replayed.errors:
        notice(complaint)
    for line in _as_json(replayed) if as_json else _as_table(replayed):
        click.echo(line)
    fired, records = len(replayed.episodes), number(replayed.records)
    notice(f"{plural(fired, 'alert')} fired; {records} records, {number(replayed.evaluations)} evaluations")


def _read(files: Sequence[Path], found: RuleSet) -> pl.DataFrame:
    """All records, with only the metrics that rules ask for."""
    frames: list[pl.DataFrame] = []
    records = 0
    for file in files:
        source = open_source(file)
        try:
            if not source.has_time:
                raise SourceError(f"{file}: no column says when, so there is nothing to replay")
            bad = 0
            for rows in source:
                bad += len(rows.bad)
                if rows.rows.height:
                    frame = source.records(rows.rows)
                    kept = wanted_metrics(found, metric_columns(frame))
                    frames.append(frame.select(TIMESTAMP, GPU, *kept, *label_columns(frame)))
                    records += frame.height
                if records > RECORDS_MAX:
                    raise TooManyRecordsError(f"more than {RECORDS_MAX:,} records; replay fewer files at once")
            if bad:
                notice(f"{file}: {plural(bad, 'row')} could not be read, wholly or in part")
        finally:
            source.close()
    if not frames:
        raise SourceError("the files have no record")
    return pl.concat(frames, how="diagonal")


def _as_table(replayed: Replayed) -> Iterator[str]:
    if replayed.episodes:
        rows = [
            (
                _time(episode.alert.fired_us),
                _time(episode.alert.resolved_us) if episode.alert.state is State.RESOLVED else "still firing",
                episode.alert.labels.get("severity", ""),
                episode.alert.name,
                printable(episode.alert.gpu or episode.alert.host),
                printable(episode.alert.annotations.get("summary", "")),
            )
            for episode in replayed.episodes
        ]
        yield from table(("fired", "resolved", "severity", "alert", "about", "summary"), rows)


def _as_json(replayed: Replayed) -> Iterator[str]:
    return (to_json(_episode(episode)) for episode in replayed.episodes)


def _episode(episode: Episode) -> dict[str, object]:
    alert = episode.alert
    return {
        "alert": alert.name,
        "file": episode.file,
        "line": episode.line,
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "value": alert.value,
        "active": _time(alert.active_us),
        "fired": _time(alert.fired_us),
        "resolved": _time(alert.resolved_us) if alert.state is State.RESOLVED else None,
    }


def _time(time_us: int | None) -> str:
    return instant(None if time_us is None else instant_of_us(time_us))
