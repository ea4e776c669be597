"""Rules and live updates in few words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from telemetry.alerts.evaluate import Evaluator, Limits
from telemetry.alerts.rule_files import parse_rules
from telemetry.alerts.rules import RuleSet
from telemetry.live import LiveColumn, LiveUpdate

SECOND = 1_000_000
NOW = 1_750_000_000 * SECOND


def rules_of(*rules: Mapping[str, object]) -> RuleSet:
    """One group of rules."""
    return parse_rules([("rules.yaml", json.dumps({"groups": [{"name": "g", "interval": "1s", "rules": rules}]}))])


def evaluator_of(*expressions: str, limits: Limits | None = None) -> Evaluator:
    """Alerts A0, A1 and so on, each with an expression."""
    return Evaluator(rules_of(*({"alert": f"A{i}", "expr": text} for i, text in enumerate(expressions))), limits)


def update(
    values: Mapping[str, float | None],
    at_us: int = NOW,
    metric: str = "a",
    labels: Mapping[str, Mapping[str, str]] | None = None,
) -> LiveUpdate:
    """A metric of some GPUs at one time; their labels, unless others are given, are a host each."""
    column = list(values.values())
    named = {gpu: {"uuid": gpu, "host": f"host-of-{gpu}"} for gpu in values} if labels is None else labels
    return LiveUpdate(list(values), [at_us] * len(values), {metric: LiveColumn(column, column, column)}, named)


def results(evaluator: Evaluator, now_us: int = NOW) -> Sequence[Mapping[str, float]]:
    """Of each rule, the value by GPU."""
    (group,) = evaluator.groups
    found = []
    for result in evaluator.evaluate(group, now_us):
        assert not result.error, result.error
        found.append({sample.labels.get("UUID", ""): sample.value for sample in result.samples})
    return found


def error(evaluator: Evaluator, now_us: int = NOW) -> str:
    """Why the last rule has no result."""
    (group,) = evaluator.groups
    *_, result = evaluator.evaluate(group, now_us)
    assert not result.samples
    return result.error
