"""What the process counts and knows of itself: one value behind `/stats`, `/health` and `/metrics`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from telemetry import __version__
from telemetry.alerts.alert import State
from telemetry.alerts.feed import Feed
from telemetry.alerts.notify.notifier import Notifier
from telemetry.alerts.notify.times import rfc3339
from telemetry.alerts.rules import Group
from telemetry.alerts.runner import Runner
from telemetry.alerts.silences import SilenceState

LATE_S: Final = 10.0
"""Evaluations that are so late are reported by `/health`."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that can be well or not, and what to say about it."""

    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is to say of a process.

    Attributes:
        runner: what it knows.
        feed: what it hears.
        notifiers: whom it tells.
        started_us: when it started, in microseconds since 1970.
    """

    runner: Runner
    feed: Feed
    notifiers: Sequence[Notifier]
    started_us: int

    def checks(self) -> Mapping[str, Check]:
        """What is well and what is not."""
        snapshot, now_s = self.runner.snapshot, time.time()
        failing = [rule.name for group in snapshot.groups for rule in group.rules if self._error(rule.rule_id)]
        late_s = now_s - snapshot.at_us / 1e6 if snapshot.at_us else 0.0
        since_s = None if snapshot.feed_us is None else now_s - snapshot.feed_us / 1e6
        heard = "no GPU has been heard of yet" if since_s is None else f"GPUs were heard of {since_s:.1f} s ago"
        troubles = [f"{each.name}: {each.trouble}" for each in self.notifiers if each.trouble]
        error = self.runner.load_error
        return {
            "queue": Check(not self.feed.trouble, self.feed.trouble or "connected"),
            "feed": Check(not snapshot.feed_silent, heard),
            "rules": Check(not error, f"not loaded: {error}" if error else f"{_count(snapshot.groups)} in force"),
            "evaluation": Check(
                not failing and late_s < LATE_S,
                f"failing: {', '.join(failing[:10])}" if failing else f"the newest was {max(late_s, 0.0):.1f} s ago",
            ),
            "state": Check(not snapshot.unsaved, snapshot.unsaved or "kept"),
            "notifications": Check(not troubles, "; ".join(troubles) or "delivered"),
        }

    def stats(self) -> Mapping[str, Any]:
        """What `/stats` shows."""
        snapshot = self.runner.snapshot
        states = self._states()
        now_us = time.time_ns() // 1000
        return {
            "version": __version__,
            "start_time": rfc3339(self.started_us),
            "rules": _count(snapshot.groups),
            "rule_groups": len(snapshot.groups),
            "rules_loaded": rfc3339(snapshot.loaded_us) if snapshot.loaded_us else None,
            "rules_error": self.runner.load_error,
            "pending": states[State.PENDING],
            "firing": states[State.FIRING],
            "silenced": sum(bool(alert.silenced_by) for alert in snapshot.alerts.values()),
            "silences_active": sum(each.state(now_us) is SilenceState.ACTIVE for each in snapshot.silences),
            "evaluated": rfc3339(snapshot.at_us) if snapshot.at_us else None,
            "evaluations_missed": snapshot.missed,
            "feed_silent": snapshot.feed_silent,
            "feed_last": None if snapshot.feed_us is None else rfc3339(snapshot.feed_us),
            "watchers": len(self.runner.watchers),
            "receivers": [
                {"name": each.name, "waiting": each.waiting, "error": each.trouble} for each in self.notifiers
            ],
        }

    def _states(self) -> Counter[State]:
        return Counter(alert.state for alert in self.runner.snapshot.alerts.values())

    def _error(self, rule_id: str) -> str:
        health = self.runner.snapshot.health.get(rule_id)
        return "" if health is None else health.error


class StatsMetrics(Collector):
    """The same as Prometheus reads it: ``telemetry_alerts_…``."""

    def __init__(self, facts: Facts) -> None:
        """Read ``facts`` at each scrape."""
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        """The metrics."""
        stats = self._facts.stats()
        active = GaugeMetricFamily("telemetry_alerts_active", "Alerts that are active now.", labels=["state"])
        for state in ("pending", "firing"):
            active.add_metric([state], stats[state])
        yield active
        gauges = {
            "rules": ("Rules in force.", stats["rules"]),
            "rules_load_failed": ("Whether newer rules were refused.", bool(stats["rules_error"])),
            "rules_failing": ("Rules whose last evaluation failed.", self._failing()),
            "silenced": ("Alerts that a silence keeps back.", stats["silenced"]),
            "silences_active": ("Silences in effect.", stats["silences_active"]),
            "feed_silent": ("Whether nothing is evaluated, because no GPU is heard of.", stats["feed_silent"]),
            "watchers": ("Clients that watch now.", stats["watchers"]),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"telemetry_alerts_{name}", text, value=float(value))
        feed_us = self._facts.runner.snapshot.feed_us
        if feed_us is not None:
            yield GaugeMetricFamily(
                "telemetry_alerts_feed_timestamp_seconds", "When a GPU was last heard of.", value=feed_us / 1e6
            )
        yield CounterMetricFamily(
            "telemetry_alerts_evaluations_missed",
            "Evaluations left out because those before took too long.",
            value=stats["evaluations_missed"],
        )

    def _failing(self) -> int:
        return sum(bool(health.error) for health in self._facts.runner.snapshot.health.values())


def _count(groups: Sequence[Group]) -> int:
    return sum(len(group.rules) for group in groups)
