"""One evaluation after the other: from what GPUs said to what alerts did, silences applied, and all of it kept.

Everything here runs on one thread, whoever calls. What it returns is never changed afterwards.
"""

from __future__ import annotations

import logging
import time
import uuid
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from telemetry.alerts.alert import Alert, Event, State
from telemetry.alerts.database import AlertDatabase, Changes, DatabaseError
from telemetry.alerts.feed_rule import FEED_RULE, feed_samples
from telemetry.alerts.in_force import Rules
from telemetry.alerts.matching import match_all
from telemetry.alerts.rules import Group
from telemetry.alerts.schedule import Schedule
from telemetry.alerts.silences import Silence, Silences
from telemetry.alerts.state import NOTHING_HELD, AlertingRule, Held, Sample, advance, resolve_all
from telemetry.alerts.warmup import Warmup
from telemetry.live import LiveUpdate
from telemetry.runtime.status import UnavailableError

log = logging.getLogger(__name__)

UNSAVED_EVENTS_MAX: Final = 10_000
"""Most events that wait for a disk that cannot be written; the oldest are missing from the history then."""

TIDY_US: Final = 60_000_000
"""How often what is over is looked for, in microseconds."""

EVALUATED_US: Final = 15_000_000
"""How often it is written down that rules were evaluated, in microseconds."""

LABELS_MAX: Final = 200_000
"""Most GPUs whose labels are known."""

_EVALUATED: Final = "evaluated"


@dataclass(frozen=True, slots=True)
class RuleHealth:
    """How the last evaluation of a rule went.

    Attributes:
        at_us: the time it was for.
        seconds: how long it took.
        error: why it failed; empty when it did not.
    """

    at_us: int
    seconds: float
    error: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything as it is after a tick.

    Attributes:
        at_us: the time of the tick.
        alerts: all alerts by fingerprint.
        silences: all silences, those that end last first.
        groups: the groups of rules.
        health: by rule, how its last evaluation went.
        loaded_us: when the rules were loaded.
        feed_silent: whether nothing is evaluated, because the feed brings nothing.
        feed_us: when the feed last brought something; ``None`` before the first time.
        unsaved: why what happened is not on disk; empty when it is.
        missed: evaluations left out because those before took too long.
    """

    at_us: int = 0
    alerts: Mapping[str, Alert] = field(default_factory=dict)
    silences: Sequence[Silence] = ()
    groups: Sequence[Group] = ()
    health: Mapping[str, RuleHealth] = field(default_factory=dict)
    loaded_us: int = 0
    feed_silent: bool = True
    feed_us: int | None = None
    unsaved: str = ""
    missed: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a tick brought.

    Attributes:
        snapshot: how everything is now.
        changed: alerts that are new or have changed in state or silences. One that was pending and is no more is
            RESOLVED without having fired.
        events: what alerts did.
        seconds: how long it took.
    """

    snapshot: Snapshot
    changed: Sequence[Alert]
    events: Sequence[Event]
    seconds: float


class Engine:
    """Rules, the alerts that they have, and silences."""

    def __init__(self, rules: Rules, database: AlertDatabase, now_us: int) -> None:
        """Go on from what the database has.

        Raises:
            DatabaseError: if it cannot be read.
        """
        self._rules = rules
        self._database = database
        self._loaded_us = now_us
        self._silences = Silences(database.silences())
        self._alerts: dict[str, dict[str, Alert]] = {}
        self._evaluated_us = database.cursors().get(_EVALUATED, now_us)
        away_us = max(now_us - self._evaluated_us, 0)
        for alert in database.alerts():
            if alert.state is State.PENDING:  # nobody knows of that time, so it does not count
                alert = replace(alert, active_us=alert.active_us + away_us)
            self._alerts.setdefault(alert.rule_id, {})[alert.fingerprint] = alert
        self._last_number = database.last_number()
        self._warmup = Warmup(now_us)
        self._schedule = Schedule(now_us)
        self._turns: dict[str, int] = {}
        self._health: dict[str, RuleHealth] = {}
        self._changes = Changes()
        self._cursors: dict[str, int] = {}
        self._unsaved = ""
        self._tidy_us = now_us
        self._labels: dict[str, Mapping[str, str]] = {}
        self._changed: dict[str, Alert] = {}
        self._events: list[Event] = []

    def wait_us(self, now_us: int) -> int:
        """How long to wait for the next tick, in microseconds."""
        return self._schedule.wait_us(now_us)

    def tick(self, updates: Iterable[tuple[int, LiveUpdate]], now_us: int, cursors: Mapping[str, int]) -> Outcome:
        """Take in what came, evaluate what is due, keep what happened.

        Args:
            updates: what the feed brought since the tick before, each with the time at which it came.
            now_us: the time now.
            cursors: how far receivers have been told.
        """
        began = time.perf_counter()
        arrived_us = None
        for received_us, update in updates:
            heard = self._rules.ingest(update, received_us)
            self._labels.update(update.labels)
            if update.gpus:
                self._warmup.hear(heard, self._hosts_of(heard), received_us)
                arrived_us = received_us
        tick_us = self._schedule.tick(now_us, arrived_us)
        self._move_silences(now_us)
        if now_us >= self._tidy_us:
            self._tidy(now_us)
        silent = self._warmup.is_silent(now_us)
        if not silent:
            if tick_us >= self._evaluated_us + EVALUATED_US:
                self._evaluated_us = self._changes.cursors[_EVALUATED] = tick_us
            for group in self._rules.groups:
                self._evaluate(group, tick_us)
        samples = feed_samples(self._warmup.started, now_us - self._warmup.last_us)
        self._advance(FEED_RULE, samples, tick_us, NOTHING_HELD)
        self._take_cursors(cursors)
        self._save(now_us)
        changed, events = list(self._changed.values()), self._events
        self._changed, self._events = {}, []
        return Outcome(self._snapshot(tick_us, silent), changed, events, time.perf_counter() - began)

    def load(self, rules: Rules, now_us: int) -> None:
        """Put other rules in force. Alerts of rules that stay go on; those of rules that do not are resolved."""
        # Who the GPUs are is said only once a minute.
        rules.ingest(LiveUpdate([], [], {}, self._labels), now_us)
        self._rules = rules
        self._loaded_us = now_us
        self._turns, self._health = {}, {}
        self._warmup.forget(now_us)
        self._tidy(now_us)

    def create_silence(self, silence: Silence, now_us: int) -> Silence:
        """Make a silence, durably; it takes effect with the next tick. Its identifier is chosen here.

        Raises:
            TooManySilencesError: there is no room for it.
            UnavailableError: it cannot be kept.
        """
        known = self._silences.find_request(silence.request_id)
        if known is not None:
            return known
        self._silences.check_room(now_us)
        return self._keep(replace(silence, silence_id=str(uuid.uuid4()), created_us=now_us), now_us)

    def expire_silence(self, silence_id: str, now_us: int) -> Silence:
        """End a silence, durably; it takes effect with the next tick.

        Raises:
            NotFoundError: there is none.
            SilenceEndedError: it has ended.
            UnavailableError: it cannot be kept.
        """
        return self._keep(self._silences.expired(silence_id, now_us), now_us)

    def all_silences(self) -> Sequence[Silence]:
        """Every silence, those that end last first."""
        return self._silences.all()

    def close(self, now_us: int, cursors: Mapping[str, int]) -> None:
        """Keep how far receivers have been told, and close the database."""
        self._take_cursors(cursors)
        self._save(now_us)
        self._database.close()

    def _keep(self, silence: Silence, now_us: int) -> Silence:
        try:
            self._database.save(Changes(silences={silence.silence_id: silence}), now_us)
        except DatabaseError as error:
            raise UnavailableError(f"the silence cannot be kept: {error}", retry_after_s=5.0) from None
        self._silences.put(silence)
        return silence

    def _hosts_of(self, gpus: Iterable[str]) -> set[str]:
        return {self._labels[gpu].get("host", "") for gpu in gpus if gpu in self._labels}

    def _evaluate(self, group: Group, tick_us: int) -> None:
        key = f"{group.file}\xff{group.name}"
        turn = self._schedule.turn(group.interval_us, zlib.crc32(key.encode()))
        if turn == self._turns.get(key):
            return
        self._turns[key] = turn
        for result in self._rules.evaluate(group, tick_us):
            rule = result.rule
            self._health[rule.rule_id] = RuleHealth(tick_us, result.seconds, result.error)
            # A rule that failed says nothing of its alerts: they stay as they are.
            if rule.alert and not result.error:
                self._advance(rule, result.samples, tick_us, self._warmup.held(rule.range_us, tick_us))

    def _advance(self, rule: AlertingRule, samples: Sequence[Sample], tick_us: int, held: Held) -> None:
        before = self._alerts.get(rule.rule_id, {})
        if before or samples:
            after, events = advance(rule, before, samples, tick_us, held, self._silences.silenced_by)
            self._take(rule.rule_id, before, after, events)

    def _take(
        self, rule_id: str, before: Mapping[str, Alert], after: dict[str, Alert], events: Iterable[Event]
    ) -> None:
        """Make ``after`` what is, and take note of what differs."""
        for key, alert in after.items():
            was = before.get(key)
            if was is alert:
                continue
            if was is None or _kept_part(was) != _kept_part(alert):
                self._changes.alerts[key] = alert
            if was is None or was.state is not alert.state or was.silenced_by != alert.silenced_by:
                self._changed[key] = alert
        for key in before.keys() - after.keys():
            self._changes.alerts[key] = None
            gone = before[key]
            if gone.state is State.PENDING:
                self._changed[key] = replace(gone, state=State.RESOLVED, resolved_us=gone.evaluated_us)
        if after:
            self._alerts[rule_id] = after
        else:
            self._alerts.pop(rule_id, None)
        for event in events:
            self._record(event)

    def _record(self, event: Event) -> None:
        self._last_number += 1
        numbered = replace(event, number=self._last_number)
        self._events.append(numbered)
        self._changes.events.append(numbered)

    def _move_silences(self, now_us: int) -> None:
        begun, any_over = self._silences.advance(now_us)
        if begun or any_over:
            for rule_id, alerts in list(self._alerts.items()):
                after = {key: self._silenced(alert, begun, now_us) for key, alert in alerts.items()}
                self._take(rule_id, alerts, after, ())

    def _silenced(self, alert: Alert, begun: Sequence[Silence], now_us: int) -> Alert:
        """An alert with the silences that are in effect now. If it fires, and nobody was told, they are now."""
        still = {key for key in alert.silenced_by if self._silences.is_active(key)}
        new = {silence.silence_id for silence in begun if match_all(silence.matchers, alert.labels)}
        silences = tuple(sorted(still | new))
        if silences == alert.silenced_by or alert.state is State.RESOLVED:
            return alert
        moved = replace(alert, silenced_by=silences)
        if alert.state is State.FIRING and not silences and not alert.announced:
            moved = replace(moved, announced=True)
            self._record(Event(now_us, moved, silenced=False))
        return moved

    def _tidy(self, now_us: int) -> None:
        """Drop labels of too many GPUs, silences that ended long ago, and resolve alerts whose rules are no more."""
        self._tidy_us = now_us + TIDY_US
        for gpu in list(self._labels)[: max(len(self._labels) - LABELS_MAX, 0)]:
            del self._labels[gpu]
        self._changes.silences.update(dict.fromkeys(self._silences.forget(now_us)))
        known = {rule.rule_id for group in self._rules.groups for rule in group.rules} | {FEED_RULE.rule_id}
        for rule_id in self._alerts.keys() - known:
            before = self._alerts[rule_id]
            after, events = resolve_all(before, now_us)
            self._take(rule_id, before, after, events)

    def _take_cursors(self, cursors: Mapping[str, int]) -> None:
        self._changes.cursors.update(cursors.items() - self._cursors.items())
        self._cursors = dict(cursors)

    def _save(self, now_us: int) -> None:
        """Write what has changed. If that fails, alerts go out all the same, and the next tick tries again."""
        if not self._changes:
            return
        del self._changes.events[:-UNSAVED_EVENTS_MAX]
        try:
            self._database.save(self._changes, now_us)
        except DatabaseError as error:
            if not self._unsaved:
                log.error("what alerts did cannot be kept", extra={"error": str(error)})
            self._unsaved = str(error)
            return
        self._unsaved = ""
        self._changes = Changes()

    def _snapshot(self, tick_us: int, silent: bool) -> Snapshot:
        alerts: dict[str, Alert] = {}
        for mine in self._alerts.values():
            alerts.update(mine)
        return Snapshot(
            at_us=tick_us,
            alerts=alerts,
            silences=self._silences.all(),
            groups=self._rules.groups,
            health=dict(self._health),
            loaded_us=self._loaded_us,
            feed_silent=silent,
            feed_us=self._warmup.last_us if self._warmup.started else None,
            unsaved=self._unsaved,
            missed=self._schedule.missed,
        )


def _kept_part(alert: Alert) -> tuple[object, ...]:
    """What must not be lost: not the value and times that every evaluation brings anew."""
    return (alert.state, alert.active_us, alert.kept_since_us, alert.silenced_by, alert.announced)
