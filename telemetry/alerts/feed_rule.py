"""The one rule that is not in any file: the pipeline itself brings nothing, so no other rule can say anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from telemetry.alerts.alert import ALERT_NAME
from telemetry.alerts.state import Sample

FEED_ALERT: Final = "TelemetryFeedSilent"

FEED_SILENT_US: Final = 120_000_000
"""After so long without news of any GPU the alert fires, in microseconds."""

_LABELS: Final = {ALERT_NAME: FEED_ALERT, "severity": "critical"}


class FeedRule:
    """Fires without ``for``: the time that the feed must be silent is part of its condition."""

    rule_id = "feed"
    group = "telemetry"
    for_us = keep_firing_for_us = 0

    def annotate(self, labels: Mapping[str, str], value: float) -> Mapping[str, str]:
        """What to say to people; ``value`` is for how many seconds nothing has come."""
        return {
            "summary": "No GPU is heard of any more",
            "description": f"For {value:.0f} s no live update of any GPU has come. Queue, collector or sources are"
            " down; until they are back no rule is evaluated, and alerts stay as they are.",
            "runbook_url": "docs/alerting-service.md#when-nothing-is-heard",
        }


FEED_RULE: Final = FeedRule()


def feed_samples(started: bool, silent_us: int) -> Sequence[Sample]:
    """What the rule's expression gives.

    Args:
        started: whether the feed ever brought anything.
        silent_us: since when it does not.
    """
    return [Sample(_LABELS, silent_us / 1e6)] if silent_us >= FEED_SILENT_US else []
