"""Where alerts in the live view come from: one WatchAlerts call, made again whenever it ends."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from contextlib import aclosing
from typing import Final

from gateway.alerts import shapes as alert_shapes
from gateway.alerts.upstream import AlertsClient
from gateway.live import LiveHub
from telemetry.queue.client import Backoff
from telemetry.runtime.calls import UpstreamError
from telemetry.v1 import alerts_pb2

log = logging.getLogger(__name__)

RETRY_S_MIN: Final = 0.5
RETRY_S_MAX: Final = 10.0
"""How long to wait before watching again, at most."""
EVENT_ALERTS_MAX: Final = 500
"""Most alerts in one event."""


class AlertWatch:
    """Carries changes of alerts to the hub. After a break, whatever has changed meanwhile is a change too."""

    def __init__(self, alerts: AlertsClient, hub: LiveHub) -> None:
        self._client = alerts
        self._hub = hub
        self._alerts: dict[str, alerts_pb2.Alert] = {}
        self._snapshot: dict[str, alerts_pb2.Alert] = {}

    async def run(self) -> None:
        """Feed the hub until cancelled."""
        backoff, is_away = Backoff(RETRY_S_MIN, RETRY_S_MAX), False
        while True:
            asked_to_wait_s = 0.0
            try:
                self._snapshot = {}
                async with aclosing(self._client.watch()) as responses:
                    async for response in responses:
                        self._take(response)
                        backoff.reset()
                        is_away = False
            except UpstreamError as error:
                asked_to_wait_s = error.retry_after_s or 0.0
                if not is_away:
                    log.info("waiting for the alerts", extra={"error": str(error)})
                is_away = True
            await asyncio.sleep(max(backoff.next_s(), asked_to_wait_s))

    def _take(self, response: alerts_pb2.WatchAlertsResponse) -> None:
        if not response.snapshot:
            self._change(response.alerts)
            return
        self._snapshot |= {alert.fingerprint: alert for alert in response.alerts}
        if response.snapshot_complete:
            now, self._snapshot = self._snapshot, {}
            changed = [
                alert
                for fingerprint, alert in now.items()
                if fingerprint not in self._alerts or _shown(alert) != _shown(self._alerts[fingerprint])
            ]
            gone = [alert for fingerprint, alert in self._alerts.items() if fingerprint not in now]
            for alert in gone:
                # When it was resolved nobody has said.
                alert.state = alerts_pb2.ALERT_STATE_RESOLVED
            self._change([*gone, *changed])

    def _change(self, changed: Iterable[alerts_pb2.Alert]) -> None:
        changed = list(changed)
        for alert in changed:
            if alert.state == alerts_pb2.ALERT_STATE_RESOLVED:
                self._alerts.pop(alert.fingerprint, None)
            else:
                self._alerts[alert.fingerprint] = alert
        states = Counter(alert.state for alert in self._alerts.values())
        firing, pending = states[alerts_pb2.ALERT_STATE_FIRING], states[alerts_pb2.ALERT_STATE_PENDING]
        for first in range(0, len(changed), EVENT_ALERTS_MAX):
            shown = [alert_shapes.alert(alert) for alert in changed[first : first + EVENT_ALERTS_MAX]]
            self._hub.publish_alerts(shown, firing, pending)


def _shown(alert: alerts_pb2.Alert) -> tuple[object, ...]:
    """What viewers are told changes of."""
    return alert.state, alert.fire_time.ToNanoseconds(), tuple(alert.silenced_by)
