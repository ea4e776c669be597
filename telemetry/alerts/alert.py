"""What an alert is: one combination of labels for which a rule's expression is true, and where it is in its life."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

ALERT_NAME: Final = "alertname"
"""The label that holds the rule's name."""

GPU_LABEL: Final = "UUID"
"""The label that holds a GPU's identity."""

HOST_LABEL: Final = "Hostname"
"""The label that holds a host's name."""


class State(enum.Enum):
    """Where an alert is in its life."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert at one moment; times are microseconds since 1970, by the times of evaluations.

    Attributes:
        fingerprint: identifies the alert as long as its rule and labels stay the same: 16 hexadecimal digits.
        rule_id: identifies the rule.
        group: the name of the rule's group.
        labels: all labels, ``alertname`` and the rule's own included.
        annotations: texts for people, templates filled in.
        value: what the expression gave when it was last true.
        state: where it is in its life.
        active_us: when the expression became true.
        evaluated_us: when the expression was last evaluated for it.
        annotated_us: when the annotations were made.
        fired_us: when it began to fire; ``None`` before.
        resolved_us: when it was resolved; ``None`` before.
        kept_since_us: since when it fires only because of ``keep_firing_for``; ``None`` while the expression is true.
        silenced_by: the silences that keep its notifications back, sorted.
        announced: whether anybody was to be told that it fires: it has fired while no silence kept it back.
    """

    fingerprint: str
    rule_id: str
    group: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    value: float
    state: State
    active_us: int
    evaluated_us: int
    annotated_us: int
    fired_us: int | None = None
    resolved_us: int | None = None
    kept_since_us: int | None = None
    silenced_by: tuple[str, ...] = ()
    announced: bool = False

    @property
    def name(self) -> str:
        """The rule's name."""
        return self.labels.get(ALERT_NAME, "")

    @property
    def gpu(self) -> str:
        """The GPU's identity; empty when the alert is about no GPU or about many."""
        return self.labels.get(GPU_LABEL, "")

    @property
    def host(self) -> str:
        """The host's name; empty when the alert is about no host or about many."""
        return self.labels.get(HOST_LABEL, "")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that an alert did.

    Attributes:
        at_us: when, by the time of the evaluation.
        alert: the alert as it was then; its state is what it became, FIRING or RESOLVED.
        silenced: whether nobody is to be told. An alert whose silence ends while it fires has a second FIRING event.
        number: counts events.
    """

    at_us: int
    alert: Alert
    silenced: bool
    number: int = 0


def fingerprint(rule_id: str, labels: Mapping[str, str]) -> str:
    """The identity of an alert: the same for the same rule and labels, in any process."""
    parts = [rule_id, *(part for name in sorted(labels) for part in (name, labels[name]))]
    # 0xff is in no UTF-8 text, so no two sets of labels look the same.
    content = b"\xff".join(part.encode("utf-8", "replace") for part in parts)
    return hashlib.blake2b(content, digest_size=8).hexdigest()
