"""Drives the core: does what it has asked for, and wakes it when its clock says that something is due."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from telemetry.queue.core.clock import Instant
from telemetry.queue.core.delivery import SETTLED
from telemetry.queue.core.errors import ClosedError
from telemetry.queue.core.queue import QueueCore
from telemetry.queue.core.sessions import Session
from telemetry.queue.core.types import Storage
from telemetry.queue.engines.burials import Burials
from telemetry.queue.engines.catalogue import Catalogue
from telemetry.queue.engines.log import Log
from telemetry.queue.engines.subscription import LocalSubscription

KEEP_ATTEMPTS_S: Final = 0.1
"""How long attempts gather before they are kept; those of so short a time may be forgotten in a crash."""

Clock = Callable[[], Instant]


def system_clock() -> Instant:
    """The time as the machine has it."""
    return Instant(time.monotonic(), time.time_ns() // 1000)


class Driver:
    """Between the core, which only says what is to be done, and all that can do it."""

    def __init__(
        self, core: QueueCore, clock: Clock, logs: Mapping[Storage, Log], catalogue: Catalogue, burials: Burials
    ) -> None:
        """Begin within the running event loop.

        Args:
            core: what is driven.
            clock: the time.
            logs: where trims go.
            catalogue: where positions and attempts go.
            burials: where messages go that were given up.
        """
        self._core = core
        self._clock = clock
        self._logs = logs
        self._catalogue = catalogue
        self._burials = burials
        self._subscriptions: dict[Session, LocalSubscription] = {}
        self._loop = asyncio.get_running_loop()
        self._open = True
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s: float | None = None
        self._keeper: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Do what is left to do, and wake no more."""
        self._open = False
        for timer in (self._timer, self._keeper):
            if timer is not None:
                timer.cancel()
        self._keep_attempts()

    def wake(self, session: Session, subscription: LocalSubscription) -> None:
        """Wake this subscription, until its session ends, when there is something for it."""
        self._subscriptions[session] = subscription

    def run_due(self) -> None:
        """Do what the clock says is due. Called by a timer, and by whoever moves an injected clock."""
        self._timer = self._timer_s = None
        self._core.tick(self._clock())
        self.settle()

    def settle(self) -> None:
        """Do what the core has asked for."""
        effects = self._core.effects
        if effects.trims:
            trims, effects.trims = effects.trims, []
            for partition, blocks in trims:
                storage = partition.topic.config.storage
                assert storage is not None
                self._logs[storage].trim(blocks)
        if effects.moved:
            moved, effects.moved = effects.moved, {}
            for cursor in moved:
                self._catalogue.put_cursor(cursor)
        if effects.burials:
            burials, effects.burials = effects.burials, []
            self._burials.add(burials)
        if (effects.handed or effects.tried or effects.forgotten) and self._keeper is None and self._open:
            self._keeper = self._loop.call_later(KEEP_ATTEMPTS_S, self._keep_soon)
        if effects.woken:
            woken, effects.woken = effects.woken, {}
            for session in woken:
                subscription = self._subscriptions.get(session)
                if subscription is not None:
                    subscription.wake()
                if session.closed:
                    self._subscriptions.pop(session, None)
        self._arm()

    def _keep_soon(self) -> None:
        self._keeper = None
        self._keep_attempts()
        with suppress(ClosedError):
            self._catalogue.request_commit()

    def _keep_attempts(self) -> None:
        """Have the catalogue keep which messages were handed out, and how often those that come again."""
        effects = self._core.effects
        handed, tried, forgotten = effects.handed, effects.tried, effects.forgotten
        effects.handed, effects.tried, effects.forgotten = {}, {}, {}
        for cursor in forgotten:
            self._catalogue.forget_attempts(cursor)
        for piece in tried:
            if piece.state not in SETTLED and piece in piece.cursor.pieces:
                self._catalogue.put_attempts(piece)
        for cursor in handed:
            if cursor.group.cursors.get(cursor.partition) is cursor:
                self._catalogue.put_cursor(cursor)

    def _arm(self) -> None:
        due = self._core.next_tick_s()
        if due is None or not self._open or (self._timer_s is not None and self._timer_s <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_s = due
        delay = max(0.0, due - self._clock().monotonic_s)
        self._timer = self._loop.call_later(delay, self.run_due)
