"""Keeps an Alertmanager's list of alerts as ours is, by its v2 API.

Alertmanager wants to hear again and again what fires, and takes what it does not hear of for resolved. So what waits to
be sent is not a queue but the set of alerts whose newest state it may not know: bounded by how many there are, however
long it is away, and sent as they are when it is back. Each Alertmanager has its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import orjson

from telemetry.alerts.alert import Alert, Event, State
from telemetry.alerts.notify.notifier import DELAY, SENT, WAITING
from telemetry.alerts.notify.outgoing import DeliveryError, RefusedError, post, target
from telemetry.alerts.notify.times import rfc3339
from telemetry.queue.client import Backoff

log = logging.getLogger(__name__)

RESEND_S: Final = 60.0
"""How often it hears again of what fires."""

VALID_RESENDS: Final = 4
"""An alert that it has not heard of for so many of these times is resolved for it."""

ALERTS_MAX: Final = 500
"""Most alerts in one request."""


class Alertmanager:
    """Sends to one Alertmanager."""

    def __init__(self, url: str, *, resend_s: float = RESEND_S, clock: Callable[[], float] = time.time) -> None:
        """Describe it.

        Args:
            url: its address, without ``/api/v2``.
            resend_s: how often it hears again of what fires.
            clock: seconds since 1970.

        Raises:
            ValueError: if the address is none.
        """
        self._target = target(url, "/api/v2/alerts")
        self._resend_s = resend_s
        self._clock = clock
        self._alerts: Mapping[str, Alert] = {}
        self._due: dict[str, int | None] = {}
        """Alerts that it may not know as they are, and when they became so if they just did (for the delay)."""
        self._wake = asyncio.Event()
        self._trouble = ""
        WAITING.labels(self.name).set_function(lambda: float(len(self._due)))

    @property
    def name(self) -> str:
        """Its address."""
        return self._target.name

    @property
    def waiting(self) -> int:
        """How many alerts wait to be sent."""
        return len(self._due)

    @property
    def trouble(self) -> str:
        """Why the last attempt failed; empty when it did not."""
        return self._trouble

    def offer(self, events: Sequence[Event], alerts: Mapping[str, Alert]) -> None:
        """Hear what happened; see :class:`telemetry.alerts.notify.notifier.Notifier`."""
        self._alerts = alerts
        for event in events:
            if not event.silenced:
                self._due[event.alert.fingerprint] = event.at_us
        if self._due:
            self._wake.set()

    async def run(self) -> None:
        """Send until cancelled."""
        backoff = Backoff()
        resend_at = asyncio.get_running_loop().time()
        while True:
            resend_at = await self._wait_until_due(resend_at)
            sent = {key: self._alerts.get(key) for key in islice(self._due, ALERTS_MAX)}
            wanted = self._wanted(sent.values())
            try:
                if wanted:
                    await post(self._target, self._payload(wanted))
            except DeliveryError as error:
                self._failed(error, len(wanted))
                await asyncio.sleep(max(backoff.next_s(), error.retry_after_s or 0.0))
                continue
            except RefusedError as error:
                # Tried again with everything else when it is time to, and until then it would only be refused again.
                self._trouble = str(error)
                SENT.labels(self.name, "refused").inc(len(wanted))
                log.error("notifications were refused", extra={"receiver": self.name, "error": self._trouble})
            else:
                if wanted and self._delivered(len(wanted)):
                    # It may have been started anew, and then it knows nothing of what it was told before.
                    resend_at = asyncio.get_running_loop().time()
            backoff.reset()
            self._settle(sent)

    async def _wait_until_due(self, resend_at: float) -> float:
        """Wait for something to send; returns when everything is to be sent next."""
        loop = asyncio.get_running_loop()
        while not self._due:
            self._wake.clear()
            try:
                async with asyncio.timeout_at(resend_at):
                    await self._wake.wait()
            except TimeoutError:
                break
        if loop.time() >= resend_at:
            for key, alert in self._alerts.items():
                if _is_for_receiver(alert):
                    self._due.setdefault(key, None)
            resend_at = loop.time() + self._resend_s
        return resend_at

    def _wanted(self, alerts: Iterable[Alert | None]) -> list[Alert]:
        """Those that it is to hear of.

        To Alertmanager the labels are the alert. So one that was resolved is left out if another has its labels and
        fires, as happens when a rule moves to another group.
        """
        wanted = [alert for alert in alerts if alert is not None and _is_for_receiver(alert)]
        over = {alert.name for alert in wanted if alert.state is State.RESOLVED}
        if not over:
            return wanted
        firing = {
            tuple(sorted(alert.labels.items()))
            for alert in self._alerts.values()
            if alert.state is State.FIRING and alert.name in over
        }
        return [
            alert
            for alert in wanted
            if alert.state is State.FIRING or tuple(sorted(alert.labels.items())) not in firing
        ]

    def _payload(self, alerts: Sequence[Alert]) -> bytes:
        now_us = int(self._clock() * 1e6)
        valid_until_us = now_us + int(VALID_RESENDS * self._resend_s * 1e6)
        return orjson.dumps([_posted(alert, now_us, valid_until_us) for alert in alerts], default=dict)

    def _delivered(self, count: int) -> bool:
        """Take note of a success; returns whether it is the first after failures."""
        back, self._trouble = bool(self._trouble), ""
        if back:
            log.info("notifications are delivered again", extra={"receiver": self.name})
        SENT.labels(self.name, "delivered").inc(count)
        return back

    def _failed(self, error: DeliveryError, count: int) -> None:
        if not self._trouble:
            log.warning("notifications wait", extra={"receiver": self.name, "error": str(error)})
        self._trouble = str(error)
        SENT.labels(self.name, "failed").inc(count)

    def _settle(self, sent: Mapping[str, Alert | None]) -> None:
        """Take off what it has heard of, unless something new happened to it in the meantime."""
        for key, alert in sent.items():
            now = self._alerts.get(key)
            if alert is not None and now is not None and (now.state, now.active_us) != (alert.state, alert.active_us):
                continue
            since_us = self._due.pop(key, None)
            if since_us is not None:
                DELAY.labels(self.name).observe(max(self._clock() - since_us / 1e6, 0.0))


def _is_for_receiver(alert: Alert) -> bool:
    """Whether it fires and is not silenced, or is resolved and was to be heard of before."""
    if alert.state is State.FIRING:
        return not alert.silenced_by
    return alert.state is State.RESOLVED and alert.announced


def _posted(alert: Alert, now_us: int, valid_until_us: int) -> dict[str, Any]:
    assert alert.fired_us is not None
    # An evaluation may be for a moment that is still to come. An end to come is none for Alertmanager: of two such it
    # keeps the later one.
    ends_us = valid_until_us if alert.resolved_us is None else min(alert.resolved_us, now_us)
    return {
        "labels": alert.labels,
        "annotations": alert.annotations,
        "startsAt": rfc3339(min(alert.fired_us, ends_us)),
        "endsAt": rfc3339(ends_us),
    }
