"""Alerts, rules and silences as the messages of the AlertService."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from telemetry.alerts.alert import Alert, Event, State
from telemetry.alerts.engine import Snapshot
from telemetry.alerts.matching import Comparison, match_all
from telemetry.alerts.rules import Group, Rule
from telemetry.alerts.silences import Silence, SilenceState
from telemetry.v1 import alerts_pb2

STATES: Final = {
    State.PENDING: alerts_pb2.ALERT_STATE_PENDING,
    State.FIRING: alerts_pb2.ALERT_STATE_FIRING,
    State.RESOLVED: alerts_pb2.ALERT_STATE_RESOLVED,
}
_MATCHES: Final = {
    Comparison.EQUAL: alerts_pb2.LABEL_MATCH_EQUAL,
    Comparison.NOT_EQUAL: alerts_pb2.LABEL_MATCH_NOT_EQUAL,
    Comparison.REGEX: alerts_pb2.LABEL_MATCH_REGEX,
    Comparison.NOT_REGEX: alerts_pb2.LABEL_MATCH_NOT_REGEX,
}
_SILENCE_STATES: Final = {
    SilenceState.PENDING: alerts_pb2.SILENCE_STATE_PENDING,
    SilenceState.ACTIVE: alerts_pb2.SILENCE_STATE_ACTIVE,
    SilenceState.EXPIRED: alerts_pb2.SILENCE_STATE_EXPIRED,
}


def alert_message(alert: Alert) -> alerts_pb2.Alert:
    """An alert."""
    return alerts_pb2.Alert(
        fingerprint=alert.fingerprint,
        alert=alert.name,
        rule_group=alert.group,
        state=STATES[alert.state],
        labels=alert.labels,
        annotations=alert.annotations,
        value=alert.value,
        gpu=alert.gpu,
        host=alert.host,
        active_time=timestamp(alert.active_us),
        fire_time=None if alert.fired_us is None else timestamp(alert.fired_us),
        resolve_time=None if alert.resolved_us is None else timestamp(alert.resolved_us),
        evaluation_time=timestamp(alert.evaluated_us),
        silenced_by=alert.silenced_by,
    )


def event_message(event: Event) -> alerts_pb2.AlertEvent:
    """Something that an alert did."""
    alert = event.alert
    return alerts_pb2.AlertEvent(
        event_id=event.number,
        time=timestamp(event.at_us),
        state=STATES[alert.state],
        fingerprint=alert.fingerprint,
        alert=alert.name,
        labels=alert.labels,
        annotations=alert.annotations,
        value=alert.value,
        gpu=alert.gpu,
        host=alert.host,
        active_time=timestamp(alert.active_us),
        fire_time=None if alert.fired_us is None else timestamp(alert.fired_us),
        silenced=event.silenced,
    )


def silence_message(silence: Silence, alerts: Iterable[Alert], now_us: int) -> alerts_pb2.Silence:
    """A silence, and how many of these alerts it means."""
    state = silence.state(now_us)
    matching = 0
    if state is SilenceState.ACTIVE:
        matching = sum(
            alert.state is not State.RESOLVED and match_all(silence.matchers, alert.labels) for alert in alerts
        )
    return alerts_pb2.Silence(
        silence_id=silence.silence_id,
        matchers=[
            alerts_pb2.LabelMatcher(name=each.name, match=_MATCHES[each.comparison], value=each.value)
            for each in silence.matchers
        ],
        start_time=timestamp(silence.start_us),
        end_time=timestamp(silence.end_us),
        author=silence.author,
        comment=silence.comment,
        state=_SILENCE_STATES[state],
        create_time=timestamp(silence.created_us),
        matching=matching,
    )


def group_message(group: Group, snapshot: Snapshot) -> alerts_pb2.AlertRuleGroup:
    """A group of rules, and how it went the last time."""
    health = [snapshot.health[rule.rule_id] for rule in group.rules if rule.rule_id in snapshot.health]
    message = alerts_pb2.AlertRuleGroup(
        name=group.name, file=group.file, interval=duration(group.interval_us), rules=_rules(group.rules, snapshot)
    )
    if health:
        message.evaluation_time.CopyFrom(timestamp(max(each.at_us for each in health)))
        message.evaluation_duration.CopyFrom(duration(round(sum(each.seconds for each in health) * 1e6)))
    return message


def timestamp(instant_us: int) -> Timestamp:
    """Microseconds since 1970."""
    return Timestamp(seconds=instant_us // 1_000_000, nanos=instant_us % 1_000_000 * 1000)


def duration(length_us: int) -> Duration:
    """Microseconds."""
    return Duration(seconds=length_us // 1_000_000, nanos=length_us % 1_000_000 * 1000)


def _rules(rules: Iterable[Rule], snapshot: Snapshot) -> list[alerts_pb2.AlertRule]:
    counts: dict[tuple[str, State], int] = {}
    for alert in snapshot.alerts.values():
        counts[alert.rule_id, alert.state] = counts.get((alert.rule_id, alert.state), 0) + 1
    messages = []
    for rule in rules:
        rule_id = rule.rule_id
        message = alerts_pb2.AlertRule(
            rule_id=rule_id,
            alert=rule.alert,
            record=rule.record,
            expression=rule.expression,
            hold_duration=duration(rule.for_us),
            keep_firing_for=duration(rule.keep_firing_for_us),
            labels=rule.labels,
            annotations=rule.annotations,
            line=rule.line,
            pending=counts.get((rule_id, State.PENDING), 0),
            firing=counts.get((rule_id, State.FIRING), 0),
        )
        health = snapshot.health.get(rule_id)
        if health is not None:
            message.error = health.error
            message.evaluation_time.CopyFrom(timestamp(health.at_us))
            message.evaluation_duration.CopyFrom(duration(round(health.seconds * 1e6)))
        messages.append(message)
    return messages
