"""The live view for many viewers: a bounded past that all share, and for each viewer only a cursor and a filter.

A viewer reads the past at its own pace, so a slow one costs what a quick one does. One that falls too far behind is
told how many events it missed and goes on with the newest; it then asks for the whole fleet again.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

import orjson

from gateway.counters import LIVE_UPDATES, STREAM_CLIENTS, STREAM_GAPS
from telemetry.live import LiveColumn, LiveUpdate
from telemetry.queue.shapes import Json

EVENTS_MAX: Final = 256
"""How many events are kept for viewers that come back."""
PAST_BYTES_MAX: Final = 32 << 20
"""How many bytes of events are kept; the newest is kept whatever its size."""
LAG_S_MAX: Final = 5.0
"""A viewer further behind goes on with the newest, unless it is still being given the past that it came back for."""
DECODED_S: Final = 1.0
"""How long events are kept decoded for viewers with a filter; for later ones they are decoded again."""
VIEWERS_MAX: Final = 1_000
IDLE_S: Final = 15.0
"""How long a viewer hears nothing before it is told that nothing happened."""

Kind = Literal["update", "alerts"]

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Filter:
    """What a viewer wants to see; an empty set means all.

    Attributes:
        gpus: identities.
        hosts: names.
        metrics: canonical names.
    """

    gpus: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    metrics: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Update:
    """What changed, as JSON: of GPUs, or of alerts."""

    event_id: int
    data: bytes
    kind: Kind = "update"


@dataclass(frozen=True, slots=True)
class Gap:
    """Events that a viewer does not get: how many, or ``None`` when nobody knows."""

    event_id: int
    missed: int | None


@dataclass(slots=True)
class _Event:
    """One event of the past; ``at`` is when it came, on the hub's clock."""

    at: float
    data: bytes = b""
    update: LiveUpdate | None = None
    gap: Gap | None = None
    kind: Kind = "update"


class LiveHub:
    """Keeps the recent past and lets viewers follow. Used from one event loop."""

    def __init__(self, *, events_max: int = EVENTS_MAX, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with no past.

        Events are numbered from the time in milliseconds, so that all numbers of an earlier gateway are lower.
        """
        self._events_max = events_max
        self._clock = clock
        self._first_id = int(time.time() * 1000)
        self._next_id = self._first_id
        self._past: deque[_Event] = deque()
        self._past_bytes = 0
        self._decoded: deque[_Event] = deque()
        self._hosts: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._closed = False
        self.viewers = 0
        """How many follow now."""

    @property
    def full(self) -> bool:
        """Whether there is no room for another viewer."""
        return self.viewers >= VIEWERS_MAX

    @property
    def last_id(self) -> int:
        """The number of the newest event."""
        return self._next_id - 1

    def learn_host(self, gpu: str, host: str) -> None:
        """Remember a GPU's host, so that viewers can choose by it: updates carry labels only when they are new."""
        self._hosts[gpu] = host

    def publish(self, update: LiveUpdate) -> None:
        """Add an update for all viewers."""
        LIVE_UPDATES.inc()
        for gpu, labels in update.labels.items():
            self.learn_host(gpu, labels.get("host", ""))
        event = _Event(self._clock(), _render(update), update)
        while self._decoded and self._decoded[0].at < event.at - DECODED_S:
            self._decoded.popleft().update = None
        self._decoded.append(event)
        self._append(event)

    def publish_alerts(self, alerts: Sequence[Json], firing: int, pending: int) -> None:
        """Tell all viewers of alerts that have changed, and how many fire and are pending now.

        Viewers that chose GPUs or hosts get only theirs of the alerts, but all events, because the numbers are of all.
        """
        data = orjson.dumps({"alerts": alerts, "firing": firing, "pending": pending}, option=orjson.OPT_UTC_Z)
        self._append(_Event(self._clock(), data, kind="alerts"))

    def publish_gap(self, missed: int | None) -> None:
        """Tell all viewers that updates were lost on the way here."""
        self._append(_Event(self._clock(), gap=Gap(self._next_id, missed)))

    def close(self) -> None:
        """End all viewers' streams."""
        self._closed = True
        self._changed.set()

    async def follow(
        self, wanted: Filter, last_id: int, idle_s: float = IDLE_S
    ) -> AsyncGenerator[Update | Gap | None, None]:
        """Yield what has happened since the event ``last_id`` and what happens from now on.

        ``None`` comes whenever there was nothing to yield for ``idle_s``. Ends when the hub is closed.
        """
        cursor, replayed_until = last_id + 1, self._next_id
        quiet_until = self._clock() + idle_s
        self.viewers += 1
        STREAM_CLIENTS.inc()
        try:
            if not self._first_id <= cursor <= self._next_id:
                cursor = self._next_id
                yield self._gap(cursor - 1, None)
            while not self._closed:
                seen: Update | Gap | None = None
                oldest = self._next_id - len(self._past)
                if cursor == self._next_id:
                    await self._change(quiet_until - self._clock())
                elif cursor < oldest or (replayed_until <= cursor < self.last_id and self._is_late(cursor - oldest)):
                    missed, cursor = self.last_id - cursor, self.last_id
                    seen = self._gap(cursor - 1, missed)
                else:
                    seen = self._seen(cursor, self._past[cursor - oldest], wanted)
                    cursor += 1
                if seen is not None or self._clock() >= quiet_until:
                    yield seen
                    quiet_until = self._clock() + idle_s
        finally:
            self.viewers -= 1
            STREAM_CLIENTS.dec()

    async def _change(self, wait_s: float) -> None:
        """Wait for the next event or the end, at most for ``wait_s``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._changed.wait()

    def _is_late(self, index: int) -> bool:
        """Whether an event of the past is too old for a viewer that should have seen it long ago."""
        return self._clock() - self._past[index].at > LAG_S_MAX

    def _gap(self, event_id: int, missed: int | None) -> Gap:
        STREAM_GAPS.inc()
        return Gap(event_id, missed)

    def _append(self, event: _Event) -> None:
        self._past.append(event)
        self._past_bytes += len(event.data)
        self._next_id += 1
        while len(self._past) > self._events_max or (self._past_bytes > PAST_BYTES_MAX and len(self._past) > 1):
            self._past_bytes -= len(self._past.popleft().data)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _seen(self, event_id: int, event: _Event, wanted: Filter) -> Update | Gap | None:
        if event.gap is not None:
            return self._gap(event_id, event.gap.missed)
        if event.kind == "alerts":
            return Update(event_id, _choose_alerts(event.data, wanted), event.kind)
        if wanted == Filter():
            return Update(event_id, event.data)
        chosen = self._choose(event.update or _parse(event.data), wanted)
        return Update(event_id, _render(chosen)) if chosen is not None else None

    def _choose(self, update: LiveUpdate, wanted: Filter) -> LiveUpdate | None:
        """What of an update a viewer wants to see, or ``None`` if it is nothing."""
        rows = [
            row
            for row, gpu in enumerate(update.gpus)
            if (not wanted.gpus or gpu in wanted.gpus) and (not wanted.hosts or self._hosts.get(gpu) in wanted.hosts)
        ]
        columns = {
            name: LiveColumn(_pick(column.last, rows), _pick(column.min, rows), _pick(column.max, rows))
            for name, column in update.columns.items()
            if not wanted.metrics or name in wanted.metrics
        }
        if not rows or not columns:
            return None
        gpus = _pick(update.gpus, rows)
        labels = {gpu: update.labels[gpu] for gpu in gpus if gpu in update.labels}
        return LiveUpdate(gpus, _pick(update.timestamps_us, rows), columns, labels)


def _pick(values: Sequence[_Value], rows: Sequence[int]) -> list[_Value]:
    return [values[row] for row in rows]


def _choose_alerts(data: bytes, wanted: Filter) -> bytes:
    """The alerts that a viewer wants to see."""
    if not wanted.gpus and not wanted.hosts:
        return data
    content = orjson.loads(data)
    content["alerts"] = [
        alert
        for alert in content["alerts"]
        if (not wanted.gpus or alert["gpu"] in wanted.gpus) and (not wanted.hosts or alert["host"] in wanted.hosts)
    ]
    return orjson.dumps(content)


def _render(update: LiveUpdate) -> bytes:
    return orjson.dumps(
        {
            "gpus": update.gpus,
            "timestamps": [time_us / 1e6 for time_us in update.timestamps_us],
            "columns": update.columns,
            "labels": update.labels,
        }
    )


def _parse(data: bytes) -> LiveUpdate:
    """The update that was rendered."""
    content = orjson.loads(data)
    columns = {name: LiveColumn(**column) for name, column in content["columns"].items()}
    times_us = [round(seconds * 1e6) for seconds in content["timestamps"]]
    return LiveUpdate(content["gpus"], times_us, columns, content["labels"])
