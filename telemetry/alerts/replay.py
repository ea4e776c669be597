"""What rules would have done with recorded data: the same evaluation, at the times of the data. No I/O.

Everything is as in the service, but for two things: nothing is held back after a start, since there is no past to know
of, and where the data has a gap of more than :data:`GAP_US` the clock jumps over it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from telemetry.alerts.alert import Alert, State
from telemetry.alerts.evaluate import Evaluator, Limits
from telemetry.alerts.rules import RuleSet
from telemetry.alerts.state import advance
from telemetry.codec import label_columns, metric_columns
from telemetry.exposition import series_name
from telemetry.live import LiveColumn, LiveUpdate
from telemetry.model import GPU, TIMESTAMP

GAP_US: Final = 900_000_000
"""After so long without any record nothing is evaluated until the next, in microseconds."""

RECORDS_MAX: Final = 20_000_000
"""Most records that can be replayed at once; they are sorted in memory."""

_TICK: Final = "$tick"
_RANK: Final = "$rank"
_NEW: Final = "$new"


@dataclass(frozen=True, slots=True)
class Episode:
    """An alert that fired, from when it began to be true to its end.

    Attributes:
        alert: as it was last, with the times; its state is RESOLVED, or FIRING if it fired to the end of the data.
        line: the line of its rule.
        file: the file of its rule.
    """

    alert: Alert
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of it.

    Attributes:
        episodes: alerts that fired, in the order in which they did.
        errors: rules whose evaluation failed, with the first reason.
        evaluations: how often groups were evaluated.
        records: records replayed.
    """

    episodes: Sequence[Episode]
    errors: Sequence[str]
    evaluations: int
    records: int


class TooManyRecordsError(ValueError):
    """There is not memory enough to sort so many records."""


def wanted_metrics(rules: RuleSet, metrics: Sequence[str]) -> list[str]:
    """Of these metrics those that rules ask for."""
    asked = {selector.name for rule in rules for selector in rule.compiled.selectors}
    return [name for name in metrics if series_name(name) in asked]


def replay(rules: RuleSet, frame: pl.DataFrame, limits: Limits | None = None) -> Replayed:
    """Evaluate rules over a frame of records, which may be in any order.

    Raises:
        TooManyRecordsError: if there are more than :data:`RECORDS_MAX`.
    """
    if frame.height > RECORDS_MAX:
        raise TooManyRecordsError(f"{frame.height:,} records; at most {RECORDS_MAX:,} can be replayed at once")
    evaluator = Evaluator(rules, limits)
    step_us = math.gcd(*(group.interval_us for group in rules.groups)) or 1_000_000
    alerts: dict[str, dict[str, Alert]] = {}
    ended: list[Episode] = []
    errors: dict[str, str] = {}
    evaluations = 0
    for tick_us in replay_steps(evaluator, frame, step_us):
        for group in rules.groups:
            if tick_us % group.interval_us:
                continue
            evaluations += 1
            for result in evaluator.evaluate(group, tick_us):
                rule = result.rule
                if result.error:
                    errors.setdefault(rule.rule_id, result.error)
                before = alerts.get(rule.rule_id, {})
                if rule.alert and not result.error and (result.samples or before):
                    after, events = advance(rule, before, result.samples, tick_us)
                    ended += [
                        Episode(event.alert, rule.file, rule.line)
                        for event in events
                        if event.alert.state is State.RESOLVED
                    ]
                    alerts[rule.rule_id] = after
    places = {rule.rule_id: rule for rule in rules}
    firing = [
        Episode(alert, places[alert.rule_id].file, places[alert.rule_id].line)
        for mine in alerts.values()
        for alert in mine.values()
        if alert.state is State.FIRING
    ]
    episodes = sorted([*ended, *firing], key=lambda episode: (episode.alert.fired_us or 0, episode.alert.fingerprint))
    return Replayed(episodes, list(errors.values()), evaluations, frame.height)


def replay_steps(evaluator: Evaluator, frame: pl.DataFrame, step_us: int) -> Iterator[int]:
    """The times of evaluations, multiples of a step, each when what was recorded until then has been taken in."""
    tick_us: int | None = None
    for next_us, update in _updates(frame, step_us):
        if tick_us is None or next_us > tick_us:
            if tick_us is not None:
                yield tick_us
                yield from range(tick_us + step_us, min(next_us, tick_us + GAP_US), step_us)
            tick_us = next_us
        evaluator.ingest(update, next_us)
    if tick_us is not None:
        yield tick_us


def _updates(frame: pl.DataFrame, step_us: int) -> Iterator[tuple[int, LiveUpdate]]:
    """Records as live updates, each with the time of the evaluation that follows it; a GPU is in an update once."""
    if not frame.height:
        return
    labels = label_columns(frame)
    time_us = pl.col(TIMESTAMP).dt.timestamp("us")
    frame = frame.sort(TIMESTAMP, GPU).with_columns(((time_us + step_us - 1) // step_us * step_us).alias(_TICK))
    frame = frame.with_columns(pl.int_range(pl.len()).over(_TICK, GPU).alias(_RANK)).sort(_TICK, _RANK)
    frame = frame.with_columns(_changed(labels).alias(_NEW))
    ticks, ranks = frame[_TICK].to_numpy(), frame[_RANK].to_numpy()
    starts = np.flatnonzero(np.r_[True, (np.diff(ticks) != 0) | (np.diff(ranks) != 0)])
    gpus, times = frame[GPU].to_list(), frame.select(time_us).to_series().to_numpy()
    metrics = {name: frame[name].to_numpy() for name in metric_columns(frame)}
    new = frame[_NEW].to_numpy()
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), frame.height], strict=True):
        part = slice(start, end)
        columns = {name: LiveColumn(values[part].tolist(), [], []) for name, values in metrics.items()}
        rows = [start + int(offset) for offset in np.flatnonzero(new[part])]
        said = {gpus[row]: _labels(frame.row(row, named=True), labels) for row in rows}
        yield int(ticks[start]), LiveUpdate(gpus[part], times[part].tolist(), columns, said)


def _changed(labels: Sequence[str]) -> pl.Expr:
    """Whether a GPU's labels are others than in its record before."""
    if not labels:
        return pl.int_range(pl.len()).over(GPU) == 0
    mine = pl.struct(labels).struct.json_encode()
    return mine.ne_missing(mine.shift(1).over(GPU))


def _labels(row: Mapping[str, object], names: Sequence[str]) -> dict[str, str]:
    return {name: str(row[name]) for name in names if row[name] is not None}
