"""What the process asks of whoever tells others, and what is counted of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from prometheus_client import Counter, Gauge, Histogram

from telemetry.alerts.alert import Alert, Event

SENT: Final = Counter(
    "telemetry_alerts_notifications_total",
    "Alerts in notifications, by receiver and what became of them: delivered, failed (tried again), refused, dropped.",
    ["receiver", "outcome"],
)
WAITING: Final = Gauge(
    "telemetry_alerts_notifications_waiting", "Alerts that wait to be sent, by receiver.", ["receiver"]
)
DELAY: Final = Histogram(
    "telemetry_alerts_notification_delay_seconds",
    "From the evaluation at which an alert fired or was resolved to the receiver's answer.",
    ["receiver"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)


class Notifier(Protocol):
    """Tells somebody. It has a bound on what waits, and never holds up the evaluation."""

    @property
    def name(self) -> str:
        """What people call the receiver; without any password."""
        ...

    @property
    def waiting(self) -> int:
        """How many alerts wait to be sent."""
        ...

    @property
    def trouble(self) -> str:
        """Why the last attempt failed; empty when it did not."""
        ...

    def offer(self, events: Sequence[Event], alerts: Mapping[str, Alert]) -> None:
        """Hear what happened at a time of evaluation.

        Args:
            events: what alerts did since the last call, silenced or not.
            alerts: all alerts as they are now, by fingerprint.
        """
        ...

    async def run(self) -> None:
        """Send until cancelled."""
        ...
