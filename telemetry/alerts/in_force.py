"""What the service asks of rules in force: to take in what GPUs say, and to be evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from telemetry.alerts.rules import Group, Rule
from telemetry.alerts.state import Sample
from telemetry.live import LiveUpdate


@dataclass(frozen=True, slots=True)
class RuleResult:
    """What one evaluation of one rule gave.

    Attributes:
        rule: the rule.
        samples: one for each alert that its expression is true for; none for a recording rule.
        error: why it failed; empty when it did not.
        seconds: how long it took.
    """

    rule: Rule
    samples: Sequence[Sample]
    error: str
    seconds: float


class Rules(Protocol):
    """Rules in force with all that it takes to evaluate them. For one thread at a time."""

    @property
    def groups(self) -> Sequence[Group]:
        """The groups, in the order of the files."""
        ...

    def ingest(self, update: LiveUpdate, received_us: int) -> Sequence[str]:
        """Take in what GPUs said; returns those of which it was taken: not those whose labels are not known yet."""
        ...

    def evaluate(self, group: Group, now_us: int) -> Iterable[RuleResult]:
        """Evaluate a group's rules one after the other, as of a time."""
        ...
