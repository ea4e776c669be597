"""The life of alerts: what becomes of each when its rule is evaluated. No I/O; the time is an argument.

Theory of operation. At each evaluation of a rule, every alert that it has, and every sample that its expression gives,
meets one of the events below. :data:`TABLE` says what the alert becomes; ``None`` is an alert that is not there. It is
Prometheus' own life: ``for`` counts from the first evaluation at which the expression was true, an alert without
``for`` fires at once, one that fired stays RESOLVED for a quarter of an hour so that all get to hear of it.

What Prometheus does not have is HELD. It keeps an alert as it is while the evaluator cannot know: after a restart, or a
gap in what it is fed, it has not yet seen again what the rule looks at.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

from telemetry.alerts.alert import Alert, Event, State, fingerprint

RESOLVED_US_KEPT: Final = 15 * 60 * 1_000_000
"""How long an alert that was resolved is kept, in microseconds."""

ANNOTATED_US: Final = 5 * 1_000_000
"""How long the annotations of an alert whose state stays the same are left as they are, in microseconds. To make all of
them at every evaluation would cost most when there is most to do."""


class Evaluation(enum.Enum):
    """What an evaluation says of one alert."""

    TRUE = "the expression is true, for less than the rule's for"
    TRUE_LONG = "it has been true for the rule's for"
    FALSE = "it is not true"
    FALSE_KEPT = "it is not true, for less than the rule's keep_firing_for"
    FORGOTTEN = "it is not true, and was resolved long ago"
    HELD = "nobody can say"


TABLE: Final[Mapping[State | None, Mapping[Evaluation, State | None]]] = {
    None: {
        Evaluation.TRUE: State.PENDING,
        Evaluation.TRUE_LONG: State.FIRING,
        Evaluation.HELD: None,
    },
    State.PENDING: {
        Evaluation.TRUE: State.PENDING,
        Evaluation.TRUE_LONG: State.FIRING,
        Evaluation.FALSE: None,
        Evaluation.HELD: State.PENDING,
    },
    State.FIRING: {
        Evaluation.TRUE: State.FIRING,
        Evaluation.TRUE_LONG: State.FIRING,
        Evaluation.FALSE: State.RESOLVED,
        Evaluation.FALSE_KEPT: State.FIRING,
        Evaluation.HELD: State.FIRING,
    },
    State.RESOLVED: {
        Evaluation.TRUE: State.PENDING,
        Evaluation.TRUE_LONG: State.FIRING,
        Evaluation.FALSE: State.RESOLVED,
        Evaluation.FORGOTTEN: None,
        Evaluation.HELD: State.RESOLVED,
    },
}
"""What becomes of an alert."""


class AlertingRule(Protocol):
    """A rule as the life of its alerts sees it."""

    @property
    def rule_id(self) -> str:
        """Identifies the rule."""
        ...

    @property
    def group(self) -> str:
        """The name of its group."""
        ...

    @property
    def for_us(self) -> int:
        """How long the expression must be true before an alert fires, in microseconds."""
        ...

    @property
    def keep_firing_for_us(self) -> int:
        """How long an alert fires on after the expression was last true, in microseconds."""
        ...

    def annotate(self, labels: Mapping[str, str], value: float) -> Mapping[str, str]:
        """The annotations of an alert with these labels and this value."""
        ...


@dataclass(frozen=True, slots=True)
class Sample:
    """One result of a rule's expression.

    Attributes:
        labels: the alert's labels, the rule's own included.
        value: the value.
    """

    labels: Mapping[str, str]
    value: float


class Held:
    """Answers, for the labels of an alert, whether the evaluator cannot know yet what its expression is."""

    def activation(self, labels: Mapping[str, str]) -> bool:
        """Whether it cannot know that the expression is true."""
        return False

    def resolution(self, labels: Mapping[str, str]) -> bool:
        """Whether it cannot know that the expression is not true."""
        return False


NOTHING_HELD: Final = Held()

SilencedBy = Callable[[Mapping[str, str]], tuple[str, ...]]
"""Says which silences keep back the notifications of an alert with these labels."""


def advance(
    rule: AlertingRule,
    alerts: Mapping[str, Alert],
    samples: Iterable[Sample],
    now_us: int,
    held: Held = NOTHING_HELD,
    silenced_by: SilencedBy = lambda labels: (),
) -> tuple[dict[str, Alert], list[Event]]:
    """Take a rule's alerts through one evaluation.

    Args:
        rule: the rule.
        alerts: its alerts before, by fingerprint.
        samples: what its expression gives, each with labels of its own.
        now_us: the time of the evaluation.
        held: of which alerts the evaluator cannot know.
        silenced_by: asked once for each alert that is new.

    Returns:
        its alerts after, by fingerprint, and what they did.
    """
    after: dict[str, Alert] = {}
    events: list[Event] = []
    for sample in samples:
        key = fingerprint(rule.rule_id, sample.labels)
        before = alerts.get(key)
        alert = _true(rule, key, before, sample, now_us, held, silenced_by)
        if alert is not None:
            after[key] = alert
            if alert.state is State.FIRING and (before is None or before.state is not State.FIRING):
                events.append(Event(now_us, alert, silenced=not alert.announced))
    for key, before in alerts.items():
        if key in after:
            continue
        alert = _not_true(rule, before, now_us, held)
        if alert is not None:
            after[key] = alert
            if alert.state is State.RESOLVED and before.state is not State.RESOLVED:
                events.append(Event(now_us, alert, silenced=not alert.announced))
    return after, events


def resolve_all(alerts: Mapping[str, Alert], now_us: int) -> tuple[dict[str, Alert], list[Event]]:
    """What becomes of the alerts of a rule that is no more: those that fire are resolved, those pending are gone."""
    return advance(_NoRule(), alerts, (), now_us)


class _NoRule:
    rule_id = group = ""
    for_us = keep_firing_for_us = 0

    def annotate(self, labels: Mapping[str, str], value: float) -> Mapping[str, str]:
        raise AssertionError("a rule that is no more has no samples")


def _true(
    rule: AlertingRule,
    key: str,
    before: Alert | None,
    sample: Sample,
    now_us: int,
    held: Held,
    silenced_by: SilencedBy,
) -> Alert | None:
    was = None if before is None else before.state
    active_us = before.active_us if before is not None and was in (State.PENDING, State.FIRING) else now_us
    evaluation = Evaluation.TRUE_LONG if now_us - active_us >= rule.for_us else Evaluation.TRUE
    if was is not State.FIRING and held.activation(sample.labels):
        evaluation = Evaluation.HELD
    state = TABLE[was][evaluation]
    if state is None or (evaluation is Evaluation.HELD and before is not None):
        return before
    if before is not None and state is was:
        same = replace(before, value=sample.value, evaluated_us=now_us, kept_since_us=None)
        if now_us - before.annotated_us < ANNOTATED_US:
            return same
        return replace(same, annotations=rule.annotate(sample.labels, sample.value), annotated_us=now_us)
    silences = silenced_by(sample.labels) if before is None else before.silenced_by
    return Alert(
        fingerprint=key,
        rule_id=rule.rule_id,
        group=rule.group,
        labels=sample.labels if before is None else before.labels,
        annotations=rule.annotate(sample.labels, sample.value),
        value=sample.value,
        state=state,
        active_us=active_us,
        evaluated_us=now_us,
        annotated_us=now_us,
        fired_us=now_us if state is State.FIRING else None,
        silenced_by=silences,
        announced=state is State.FIRING and not silences,
    )


def _not_true(rule: AlertingRule, before: Alert, now_us: int, held: Held) -> Alert | None:
    kept_since_us = before.kept_since_us if before.kept_since_us is not None else now_us
    if before.state is State.RESOLVED:
        assert before.resolved_us is not None
        old = now_us - before.resolved_us > RESOLVED_US_KEPT
        evaluation = Evaluation.FORGOTTEN if old else Evaluation.FALSE
    elif held.resolution(before.labels):
        evaluation = Evaluation.HELD
    elif before.state is State.FIRING and now_us - kept_since_us < rule.keep_firing_for_us:
        evaluation = Evaluation.FALSE_KEPT
    else:
        evaluation = Evaluation.FALSE
    state = TABLE[before.state][evaluation]
    if state is None:
        return None
    if evaluation is Evaluation.FALSE_KEPT:
        return replace(before, evaluated_us=now_us, kept_since_us=kept_since_us)
    if state is before.state:
        return before
    return replace(before, state=state, evaluated_us=now_us, resolved_us=now_us)
