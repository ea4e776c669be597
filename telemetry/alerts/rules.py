"""Rules as they are in force: groups of expressions that raise alerts or are recorded as series."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from telemetry.alerts.expressions import Expression
from telemetry.alerts.templates import Template

INTERVAL_US: Final = 60_000_000
"""How often a group is evaluated that does not say so itself, in microseconds; Prometheus' default."""


class RuleError(ValueError):
    """Rules that are refused; the text says where and why.

    Attributes:
        file: the file.
        line: the line, from 1; 0 when it is the whole file.
        reason: why.
    """

    def __init__(self, file: str, line: int, reason: str) -> None:
        super().__init__(f"{file}:{line}: {reason}" if line else f"{file}: {reason}")
        self.file = file
        self.line = line
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        rule_id: identifies the rule for as long as its group, name, labels and place among those alike stay the same.
        group: the name of its group.
        file: the file that it comes from.
        line: the line at which it begins, from 1.
        alert: the alert's name; empty for a recording rule.
        record: the recorded series' name; empty for an alerting rule.
        expression: the expression, as the file has it.
        for_us: how long it must be true before the alert fires, in microseconds.
        keep_firing_for_us: how long the alert fires on after it was last true.
        labels: the labels that it gives; templates as written.
        annotations: the annotations that it gives; templates as written.
        range_us: how far back the expression looks, through what others record too, besides the five minutes for which
            a sample counts; in microseconds.
        compiled: the expression, understood.
        label_templates: the labels, understood.
        annotation_templates: the annotations, understood.
    """

    rule_id: str
    group: str
    file: str
    line: int
    alert: str
    record: str
    expression: str
    for_us: int
    keep_firing_for_us: int
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    range_us: int
    compiled: Expression = field(repr=False, compare=False)
    label_templates: Mapping[str, Template] = field(repr=False, compare=False)
    annotation_templates: Mapping[str, Template] = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """The alert's name, or the recorded series'."""
        return self.alert or self.record

    def annotate(self, labels: Mapping[str, str], value: float) -> dict[str, str]:
        """The annotations of an alert with these labels (the rule's own included) and this value."""
        return {name: template.fill(labels, value) for name, template in self.annotation_templates.items()}


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated together, one after the other.

    Attributes:
        name: its name.
        file: the file that it comes from.
        line: the line at which it begins, from 1.
        interval_us: the time between evaluations, in microseconds.
        limit: the most alerts or series that one of its rules may give; 0 means no limit of its own.
        rules: the rules, in the order of the file.
    """

    name: str
    file: str
    line: int
    interval_us: int
    limit: int
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All rules in force, in the order of their files."""

    groups: tuple[Group, ...] = ()

    def __iter__(self) -> Iterator[Rule]:
        """All rules."""
        return (rule for group in self.groups for rule in group.rules)
