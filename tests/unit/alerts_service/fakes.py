"""Rules whose results a test decides, and what it takes to build alerts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from telemetry.alerts.in_force import RuleResult
from telemetry.alerts.rules import Group, Rule
from telemetry.alerts.state import Sample
from telemetry.live import LiveColumn, LiveUpdate

SECOND = 1_000_000
MINUTE = 60 * SECOND
START = 1_700_000_000 * SECOND


@dataclass(frozen=True)
class _Text:
    """A template that only knows the value."""

    text: str

    def fill(self, labels: Mapping[str, str], value: float) -> str:
        return self.text.replace("VALUE", f"{value:g}")


def rule(
    name: str,
    *,
    for_s: float = 0,
    keep_s: float = 0,
    range_s: float = 0,
    group: str = "gpus",
    rule_id: str = "",
    record: str = "",
) -> Rule:
    """A rule; its annotations have a summary with the value."""
    templates = {"summary": _Text("it is VALUE")}
    return Rule(
        rule_id=rule_id or f"{group}/{name or record}",
        group=group,
        file="test.yaml",
        line=3,
        alert=name,
        record=record,
        expression="DCGM_FI_DEV_GPU_TEMP > 90",
        for_us=int(for_s * SECOND),
        keep_firing_for_us=int(keep_s * SECOND),
        labels={"severity": "critical"},
        annotations={"summary": "it is VALUE"},
        range_us=int(range_s * SECOND),
        compiled=cast("Any", None),
        label_templates={},
        annotation_templates=cast("Any", templates),
    )


def group(name: str, rules: Iterable[Rule], interval_s: float = 1) -> Group:
    return Group(name, "test.yaml", 1, int(interval_s * SECOND), 0, tuple(rules))


@dataclass
class ScriptedRules:
    """Rules that are true for what a test says: by rule name, values by GPU, or samples as they are."""

    groups: Sequence[Group]
    true: dict[str, dict[str, float]] = field(default_factory=dict)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    ingested: list[LiveUpdate] = field(default_factory=list)
    evaluated: list[tuple[str, int]] = field(default_factory=list)

    def ingest(self, update: LiveUpdate, received_us: int) -> list[str]:
        self.ingested.append(update)
        return update.gpus

    def evaluate(self, group: Group, now_us: int) -> Iterator[RuleResult]:
        self.evaluated.append((group.name, now_us))
        for each in group.rules:
            found = [sample(each.name, gpu, value) for gpu, value in self.true.get(each.name, {}).items()]
            found += self.samples.get(each.name, [])
            yield RuleResult(each, [] if each.record else found, self.errors.get(each.name, ""), 0.001)


def scripted(*names: str, **options: Any) -> ScriptedRules:
    """One group with rules of these names, all with the same options."""
    return ScriptedRules([group("gpus", [rule(name, **options) for name in names])])


def labels(name: str, gpu: str) -> dict[str, str]:
    return {"alertname": name, "severity": "critical", "UUID": gpu, "Hostname": "node-1"}


def sample(name: str, gpu: str, value: float = 95.0) -> Sample:
    return Sample(labels(name, gpu), value)


def update(*gpus: str, temperature: float = 50.0, now_us: int = START) -> LiveUpdate:
    """What GPUs say."""
    values: list[float | None] = [temperature] * len(gpus)
    column = LiveColumn(values, values, values)
    names = {gpu: {"host": "node-1", "index": str(place)} for place, gpu in enumerate(gpus)}
    return LiveUpdate(list(gpus), [now_us] * len(gpus), {"temperature": column}, names)
