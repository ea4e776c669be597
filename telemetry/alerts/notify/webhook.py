"""Posts what alerts do to a webhook, in the JSON of Alertmanager's own webhooks.

A webhook hears of each event once, in order, and again only when its answer was lost. What waits is bounded; beyond
that the oldest are dropped, and counted. How far it has been told is kept, so that a restart goes on from there.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from telemetry.alerts.alert import ALERT_NAME, Alert, Event, State
from telemetry.alerts.notify.notifier import DELAY, SENT, WAITING
from telemetry.alerts.notify.outgoing import DeliveryError, RefusedError, post, target
from telemetry.alerts.notify.times import NO_TIME, rfc3339
from telemetry.queue.client import Backoff

log = logging.getLogger(__name__)

WAITING_MAX: Final = 10_000
"""Most events that wait for one webhook."""

ALERTS_MAX: Final = 100
"""Most alerts in one request."""


class Webhook:
    """Sends to one webhook."""

    def __init__(
        self, url: str, after: int, missed: Sequence[Event] = (), *, clock: Callable[[], float] = time.time
    ) -> None:
        """Describe it.

        Args:
            url: its address.
            after: the number of the last event that it has been told.
            missed: events since then, oldest first.
            clock: seconds since 1970.

        Raises:
            ValueError: if the address is none.
        """
        self._target = target(url)
        self._clock = clock
        self._events = deque(missed)
        self._wake = asyncio.Event()
        self._trouble = ""
        self.told = after
        """The number of the last event that it has been told, or that was dropped."""
        WAITING.labels(self.name).set_function(lambda: float(len(self._events)))

    @property
    def name(self) -> str:
        """Its address."""
        return self._target.name

    @property
    def waiting(self) -> int:
        """How many events wait to be sent."""
        return len(self._events)

    @property
    def trouble(self) -> str:
        """Why the last attempt failed; empty when it did not."""
        return self._trouble

    def offer(self, events: Sequence[Event], alerts: Mapping[str, Alert]) -> None:
        """Hear what happened; see :class:`telemetry.alerts.notify.notifier.Notifier`."""
        self._events.extend(event for event in events if not event.silenced)
        surplus = len(self._events) - WAITING_MAX
        if surplus > 0:
            for _ in range(surplus):
                self.told = self._events.popleft().number
            SENT.labels(self.name, "dropped").inc(surplus)
            log.error("notifications were dropped", extra={"receiver": self.name, "dropped": surplus})
        if self._events:
            self._wake.set()

    async def run(self) -> None:
        """Send until cancelled."""
        backoff = Backoff()
        while True:
            while not self._events:
                self._wake.clear()
                await self._wake.wait()
            batch = self._next_batch()
            try:
                await post(self._target, webhook_body([event.alert for event in batch]))
            except DeliveryError as error:
                if not self._trouble:
                    log.warning("notifications wait", extra={"receiver": self.name, "error": str(error)})
                self._trouble = str(error)
                SENT.labels(self.name, "failed").inc(len(batch))
                await asyncio.sleep(max(backoff.next_s(), error.retry_after_s or 0.0))
                continue
            except RefusedError as error:
                self._trouble = str(error)
                SENT.labels(self.name, "refused").inc(len(batch))
                log.error("notifications were refused", extra={"receiver": self.name, "error": self._trouble})
            else:
                self._trouble = ""
                SENT.labels(self.name, "delivered").inc(len(batch))
                for event in batch:
                    DELAY.labels(self.name).observe(max(self._clock() - event.at_us / 1e6, 0.0))
            backoff.reset()
            self.told = max(self.told, batch[-1].number)
            while self._events and self._events[0].number <= batch[-1].number:
                self._events.popleft()

    def _next_batch(self) -> list[Event]:
        """The events to send next: of one alert name and state, which a receiver has once each."""
        batch: list[Event] = []
        for event in self._events:
            first = batch[0] if batch else event
            if event.alert.name != first.alert.name or event.alert.state is not first.alert.state:
                break
            batch.append(event)
            if len(batch) == ALERTS_MAX:
                break
        return batch


def webhook_body(alerts: Sequence[Alert]) -> bytes:
    """Alerts of one name and state, at least one, as version 4 of Alertmanager's webhook has them."""
    name, state = alerts[0].name, alerts[0].state
    status = "resolved" if state is State.RESOLVED else "firing"
    return orjson.dumps(
        {
            "version": "4",
            "groupKey": f"{{}}:{{{ALERT_NAME}={orjson.dumps(name).decode()}}}",
            "truncatedAlerts": 0,
            "status": status,
            "receiver": "telemetry",
            "groupLabels": {ALERT_NAME: name},
            "commonLabels": _common([alert.labels for alert in alerts]),
            "commonAnnotations": _common([alert.annotations for alert in alerts]),
            "externalURL": "",
            "alerts": [_alert(alert, status) for alert in alerts],
        },
        default=dict,
    )


def _alert(alert: Alert, status: str) -> dict[str, Any]:
    assert alert.fired_us is not None
    return {
        "status": status,
        "labels": alert.labels,
        "annotations": alert.annotations,
        "startsAt": rfc3339(alert.fired_us),
        "endsAt": NO_TIME if alert.resolved_us is None else rfc3339(alert.resolved_us),
        "generatorURL": "",
        "fingerprint": alert.fingerprint,
    }


def _common(texts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    first, *rest = texts
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in rest)}


def cursor_name(url: str) -> str:
    """Under which name it is kept how far a webhook has been told: not its address, which may hold a password."""
    return f"webhook-{hashlib.blake2b(url.encode(), digest_size=8).hexdigest()}"
