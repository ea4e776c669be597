"""Keeps the engine going beside the event loop: ticks in time, and everything else that asks it, one at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final, TypeVar

from prometheus_client import Counter, Histogram

from telemetry.alerts.engine import Engine, Outcome, Snapshot
from telemetry.alerts.feed import Feed, read_updates
from telemetry.alerts.in_force import Rules
from telemetry.alerts.notify.notifier import Notifier
from telemetry.alerts.rules import RuleError
from telemetry.alerts.silences import Silence
from telemetry.alerts.watchers import Watchers

log = logging.getLogger(__name__)

TICK_SECONDS: Final = Histogram(
    "telemetry_alerts_tick_seconds",
    "How long taking in updates, evaluating what was due and keeping what happened took together.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
EVENTS: Final = Counter("telemetry_alerts_events_total", "What alerts did.", ["state"])
LOADS: Final = Counter("telemetry_alerts_rules_loads_total", "Attempts to load rules.", ["outcome"])

_Result = TypeVar("_Result")


class Runner:
    """Everything that the process knows of alerts: the newest :attr:`snapshot`, and what may change it."""

    def __init__(
        self,
        engine: Engine,
        feed: Feed,
        notifiers: Sequence[Notifier],
        cursors: Callable[[], Mapping[str, int]],
        load: Callable[[], Rules],
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        """Prepare to run.

        Args:
            engine: the rules in force and the alerts.
            feed: what GPUs say.
            notifiers: who is told.
            cursors: how far receivers have been told.
            load: reads the rules anew; raises :class:`RuleError`.
            clock: microseconds since 1970.
        """
        self._engine = engine
        self._feed = feed
        self._notifiers = notifiers
        self._cursors = cursors
        self._load = load
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="evaluate")
        self._loading = asyncio.Lock()
        self.watchers = Watchers()
        self.snapshot = Snapshot()
        self.load_error = ""
        """Why the newest rules are not in force; empty when they are."""

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            await asyncio.sleep(self._engine.wait_us(self._clock()) / 1e6)
            await self.tick()

    async def tick(self) -> Outcome:
        """Do what is due now, and tell whoever is to hear of it."""
        outcome = await self._on_thread(self._tick, self._feed.take(), self._clock(), self._cursors())
        TICK_SECONDS.observe(outcome.seconds)
        for event in outcome.events:
            EVENTS.labels(event.alert.state.value).inc()
        self.snapshot = outcome.snapshot
        for notifier in self._notifiers:
            notifier.offer(outcome.events, outcome.snapshot.alerts)
        self.watchers.publish(outcome.changed)
        return outcome

    async def create_silence(self, silence: Silence) -> Silence:
        """Make a silence; see :meth:`telemetry.alerts.engine.Engine.create_silence`."""
        made = await self._on_thread(self._engine.create_silence, silence, self._clock())
        await self._show_silences()
        return made

    async def expire_silence(self, silence_id: str) -> Silence:
        """End a silence; see :meth:`telemetry.alerts.engine.Engine.expire_silence`."""
        ended = await self._on_thread(self._engine.expire_silence, silence_id, self._clock())
        await self._show_silences()
        return ended

    async def reload(self) -> None:
        """Read the rules anew and put them in force. If they are bad, those before stay as they are.

        Raises:
            RuleError: they are.
        """
        async with self._loading:
            try:
                rules = await asyncio.to_thread(self._load)
            except RuleError as error:
                self.load_error = str(error)
                LOADS.labels("refused").inc()
                log.error("the rules are not loaded, those before stay in force", extra={"error": self.load_error})
                raise
            await self._on_thread(self._engine.load, rules, self._clock())
            self.load_error = ""
            self.snapshot = replace(self.snapshot, groups=rules.groups, health={}, loaded_us=self._clock())
            LOADS.labels("loaded").inc()
            log.info("rules loaded", extra={"rules": sum(len(group.rules) for group in rules.groups)})

    async def close(self) -> None:
        """Keep what is to be kept; nothing ticks any more."""
        await self._on_thread(self._engine.close, self._clock(), self._cursors())
        self._thread.shutdown()

    def _tick(self, messages: list[tuple[int, bytes]], now_us: int, cursors: Mapping[str, int]) -> Outcome:
        return self._engine.tick(read_updates(messages), now_us, cursors)

    async def _show_silences(self) -> None:
        silences = await self._on_thread(self._engine.all_silences)
        self.snapshot = replace(self.snapshot, silences=silences)

    async def _on_thread(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
