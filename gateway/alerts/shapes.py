"""AlertService's messages as the plain dictionaries that become JSON, and silences the other way round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.alerts.schemas import NewSilence
from gateway.times import timestamp
from telemetry.queue.shapes import Json, instant, seconds
from telemetry.v1 import alerts_pb2

STATES: Final[Mapping[int, str]] = {
    alerts_pb2.ALERT_STATE_FIRING: "firing",
    alerts_pb2.ALERT_STATE_PENDING: "pending",
    alerts_pb2.ALERT_STATE_RESOLVED: "resolved",
}
SILENCE_STATES: Final[Mapping[int, str]] = {
    alerts_pb2.SILENCE_STATE_ACTIVE: "active",
    alerts_pb2.SILENCE_STATE_PENDING: "pending",
    alerts_pb2.SILENCE_STATE_EXPIRED: "expired",
}
OPERATORS: Final[Mapping[alerts_pb2.LabelMatch.ValueType, str]] = {
    alerts_pb2.LABEL_MATCH_EQUAL: "=",
    alerts_pb2.LABEL_MATCH_NOT_EQUAL: "!=",
    alerts_pb2.LABEL_MATCH_REGEX: "=~",
    alerts_pb2.LABEL_MATCH_NOT_REGEX: "!~",
}
_MATCHES: Final = {operator: match for match, operator in OPERATORS.items()}
SEVERITY: Final = "severity"
"""The label that says how bad an alert is."""


def alert(message: alerts_pb2.Alert) -> Json:
    """One alert."""
    return {
        "id": message.fingerprint,
        "rule": message.alert,
        "group": message.rule_group,
        "state": STATES[message.state],
        "severity": message.labels.get(SEVERITY, ""),
        "gpu": message.gpu,
        "host": message.host,
        "labels": dict(message.labels),
        "annotations": dict(message.annotations),
        "value": message.value,
        "active_since": instant(message, "active_time"),
        "firing_since": instant(message, "fire_time"),
        "resolved_at": instant(message, "resolve_time"),
        "silenced_by": list(message.silenced_by),
    }


def rules(message: alerts_pb2.ListRulesResponse) -> Json:
    """The rules in force."""
    return {
        "groups": [
            {
                "name": group.name,
                "file": group.file,
                "interval_s": seconds(group, "interval"),
                "rules": [_rule(rule) for rule in group.rules],
            }
            for group in message.groups
        ],
        "loaded_at": instant(message, "load_time"),
        "error": message.load_error,
    }


def _rule(message: alerts_pb2.AlertRule) -> Json:
    return {
        "id": message.rule_id,
        "type": "recording" if message.record else "alerting",
        "name": message.alert or message.record,
        "expr": message.expression,
        "for_s": seconds(message, "hold_duration") or 0.0,
        "keep_firing_for_s": seconds(message, "keep_firing_for") or 0.0,
        "labels": dict(message.labels),
        "annotations": dict(message.annotations),
        "line": message.line,
        "state": "firing" if message.firing else "pending" if message.pending else "inactive",
        "health": "err" if message.error else "ok",
        "last_error": message.error,
        "last_evaluation": instant(message, "evaluation_time"),
        "evaluation_s": seconds(message, "evaluation_duration"),
        "active": message.pending + message.firing,
    }


def silence(message: alerts_pb2.Silence) -> Json:
    """One silence."""
    return {
        "id": message.silence_id,
        "matchers": [
            {"name": each.name, "value": each.value, "op": OPERATORS[each.match]} for each in message.matchers
        ],
        "starts_at": instant(message, "start_time"),
        "ends_at": instant(message, "end_time"),
        "author": message.author,
        "comment": message.comment,
        "state": SILENCE_STATES[message.state],
        "created_at": instant(message, "create_time"),
        "matching": message.matching,
    }


def event(message: alerts_pb2.AlertEvent) -> Json:
    """One thing that an alert did."""
    return {
        "id": str(message.event_id),
        "alert_id": message.fingerprint,
        "rule": message.alert,
        "gpu": message.gpu,
        "host": message.host,
        "labels": dict(message.labels),
        "annotations": dict(message.annotations),
        "state": STATES[message.state],
        "at": instant(message, "time"),
        "value": message.value,
        "silenced": message.silenced,
    }


def silence_message(body: NewSilence) -> alerts_pb2.Silence:
    """The silence that the body of a request asks for."""
    return alerts_pb2.Silence(
        matchers=[
            alerts_pb2.LabelMatcher(name=each.name, match=_MATCHES[each.op], value=each.value) for each in body.matchers
        ],
        start_time=None if body.starts_at is None else timestamp(body.starts_at),
        end_time=timestamp(body.ends_at),
        author=body.author,
        comment=body.comment,
    )
