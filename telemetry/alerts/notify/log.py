"""Writes what alerts do to the log of the process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final

from telemetry.alerts.alert import Alert, Event, State

log = logging.getLogger(__name__)

LINES_MAX: Final = 100
"""Most lines at one time of evaluation; the rest are only counted. The history has them all."""


class AlertLog:
    """A line for each event, silenced or not."""

    name = "log"
    waiting = 0
    trouble = ""

    def offer(self, events: Sequence[Event], alerts: Mapping[str, Alert]) -> None:
        """Write what happened."""
        for event in events[:LINES_MAX]:
            alert = event.alert
            fires = alert.state is State.FIRING
            extra = {
                "alert": alert.name,
                "labels": dict(alert.labels),
                "summary": alert.annotations.get("summary", ""),
                "value": alert.value,
                "fingerprint": alert.fingerprint,
                "silenced": event.silenced,
            }
            log.log(logging.WARNING if fires else logging.INFO, f"alert {alert.state.value}", extra=extra)
        if len(events) > LINES_MAX:
            log.warning("more alerts fired or were resolved", extra={"events": len(events) - LINES_MAX})

    async def run(self) -> None:
        """Do nothing: whatever is offered is written at once."""
        await asyncio.Event().wait()
