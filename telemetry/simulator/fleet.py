"""A fleet of GPUs that does not exist: the same seed makes the same records, and what goes wrong in them is known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import numpy as np
import polars as pl

from telemetry.codec import TIME_TYPE
from telemetry.model import GPU, TIMESTAMP
from telemetry.simulator.incidents import LEAD, NEEDS_LOAD, Incident, Kind, checked, random_incidents
from telemetry.simulator.jobs import FORGOTTEN, LOADED, Scheduler
from telemetry.simulator.machines import GPUS_MAX, GPUS_PER_HOST_MAX, Hardware, SimulatedGpu, build_gpus
from telemetry.simulator.physics import Conditions, State, measure

FRAME_RECORDS: Final = 50_000
"""About so many records are in a frame; memory is bounded by it, or by one instant of a larger fleet."""

INTERVAL_MIN: Final = timedelta(milliseconds=100)
START: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Fleet:
    """A simulated fleet over a span of time.

    Attributes:
        gpus: its GPUs.
        incidents: what goes wrong, in order of time. What begins before the end may end after it.
        start: the first instant.
        end: the first instant that is not simulated any more.
        interval: time between two records of a GPU.
    """

    def __init__(
        self,
        gpus: int,
        *,
        duration: timedelta,
        interval: timedelta = timedelta(seconds=10),
        start: datetime = START,
        seed: int = 0,
        gpus_per_host: int = 8,
        incidents: Iterable[Incident] | Literal["random"] = (),
    ) -> None:
        """Describe a fleet; :meth:`frames` computes.

        Args:
            gpus: how many.
            duration: time simulated.
            interval: between two records of a GPU.
            start: the first instant, UTC.
            seed: decides everything else.
            gpus_per_host: GPUs in a host; the last may have fewer.
            incidents: what goes wrong; ``random`` draws some of each kind. A GPU may be named by its place, such as
                ``node-001/3``.

        Raises:
            ValueError: if a number is out of range.
            IncidentError: if an incident is not of this fleet and time.
        """
        for name, value, low, high in (
            ("gpus", gpus, 1, GPUS_MAX),
            ("gpus_per_host", gpus_per_host, 1, GPUS_PER_HOST_MAX),
            ("interval", interval, INTERVAL_MIN, timedelta(days=1)),
            ("duration", duration, interval, timedelta(days=3660)),
            ("seed", seed, 0, 2**63 - 1),
        ):
            if not low <= value <= high:  # type: ignore[operator]
                raise ValueError(f"{name} is {value}; it has to be between {low} and {high}")
        fleet_seed, incident_seed, self._run_seed = np.random.SeedSequence(seed).spawn(3)
        fleet_rng = np.random.default_rng(fleet_seed)
        self.start = start.astimezone(UTC)
        self.end = self.start + duration
        self.interval = interval
        self.gpus: Sequence[SimulatedGpu] = build_gpus(gpus, gpus_per_host, fleet_rng)
        self._hardware = Hardware(self.gpus, fleet_rng)
        if incidents == "random":
            rng = np.random.default_rng(incident_seed)
            incidents = random_incidents(self.gpus, self.start, self.end, rng)
        self.incidents: Sequence[Incident] = checked(incidents, self.gpus, self.start, self.end)

    @property
    def instants(self) -> int:
        """How many records a GPU has that is never lost."""
        return -(-(self.end - self.start) // self.interval)

    def frames(self) -> Iterator[pl.DataFrame]:
        """Yield all records, instant by instant, in frames as `telemetry/codec.py` describes them.

        Each call begins again and yields the same.
        """
        run = _Run(self, self._hardware, np.random.default_rng(self._run_seed))
        waiting: list[pl.DataFrame] = []
        records = 0
        for piece in run.pieces(self.instants):
            waiting.append(piece)
            records += piece.height
            if records >= FRAME_RECORDS:
                yield pl.concat(waiting)
                waiting, records = [], 0
        if records:
            yield pl.concat(waiting)


class _Run:
    """One pass over a fleet's time."""

    def __init__(self, fleet: Fleet, hardware: Hardware, rng: np.random.Generator) -> None:
        self._hardware = hardware
        self._rng = rng
        self._start_us = round(fleet.start.timestamp() * 1e6)
        self._step_us = fleet.interval // timedelta(microseconds=1)
        self._scheduler = Scheduler(fleet.gpus, hardware, rng)
        self._wrong = Conditions(len(fleet.gpus))
        self._state = State(hardware, rng)
        self._names = pl.DataFrame(
            {
                GPU: [gpu.uuid for gpu in fleet.gpus],
                "uuid": [gpu.uuid for gpu in fleet.gpus],
                "host": [gpu.host for gpu in fleet.gpus],
                "index": [str(gpu.index) for gpu in fleet.gpus],
                "model": [gpu.model.name for gpu in fleet.gpus],
            }
        )
        self._labels = self._with_pods()
        place = {gpu.uuid: number for number, gpu in enumerate(fleet.gpus)}
        self._turns: list[tuple[float, int, str, Incident, int]] = []
        lead_s = LEAD.total_seconds()
        for number, incident in enumerate(fleet.incidents):
            begin_s = (incident.start - fleet.start).total_seconds()
            end_s = (incident.end - fleet.start).total_seconds()
            turns = [(begin_s, "begin"), (end_s, "end")]
            if incident.kind in NEEDS_LOAD:
                turns += [(max(0.0, begin_s - lead_s), "load"), (end_s + lead_s, "unload")]
            self._turns += [(time_s, number, turn, incident, place[incident.gpu]) for time_s, turn in turns]
        # At one instant the load comes first, and what ends before what begins.
        order = ("end", "unload", "load", "begin")
        self._turns.sort(key=lambda turn: (turn[0], order.index(turn[2]), turn[1]))
        self._turns.reverse()

    def pieces(self, instants: int) -> Iterator[pl.DataFrame]:
        """Yield the records between two changes, and of not too many instants."""
        most = max(1, FRAME_RECORDS // len(self._hardware.host))
        first = 0
        while first < instants:
            # Whole microseconds, so that a change takes hold exactly where the truth says.
            self._catch_up(first * self._step_us / 1e6)
            change_s = min(self._scheduler.next_s, self._turns[-1][0] if self._turns else math.inf)
            # The change applies to the first instant that is not before it.
            end = max(first + 1, min(instants, first + most, -(-round(change_s * 1e6) // self._step_us)))
            yield self._piece(first, end)
            first = end

    def _catch_up(self, now_s: float) -> None:
        changed = False
        if self._scheduler.next_s <= now_s:
            self._scheduler.advance(now_s)
            changed = True
        while self._turns and self._turns[-1][0] <= now_s:
            time_s, _, turn, incident, gpu = self._turns.pop()
            self._turn(turn, incident, gpu, time_s)
            changed = True
        if changed:
            self._labels = self._with_pods()

    def _turn(self, turn: str, incident: Incident, gpu: int, now_s: float) -> None:
        if turn in ("load", "unload"):
            host = np.flatnonzero(self._hardware.host == self._hardware.host[gpu])
            if turn == "load":
                end_s = now_s + (incident.end - incident.start + 2 * LEAD).total_seconds()
                self._scheduler.take(host, LOADED, now_s, end_s)
            else:
                self._scheduler.give_back(host)
            return
        begins = turn == "begin"
        wrong, rng = self._wrong, self._rng
        match incident.kind:
            case Kind.HEAT:
                wrong.heat[gpu] = rng.uniform(2.2, 2.6) if begins else 1
            case Kind.THROTTLE:
                wrong.braked[gpu] = begins
            case Kind.XID:
                wrong.down[gpu] = begins
                wrong.xid[gpu] = incident.detail.get("xid", 79) if begins else 0
            case Kind.ECC:
                wrong.xid[gpu] = 48 if begins else 0
                wrong.uncorrected[gpu] = rng.integers(1, 5) if begins else 0
                wrong.remap_pending[gpu] = begins
                self._state.remapped_uncorrectable[gpu] += not begins
            case Kind.ROW_REMAP:
                wrong.down[gpu] = begins
                wrong.xid[gpu] = 64 if begins else 0
                wrong.remap_failure[gpu] = begins
            case Kind.LOST:
                wrong.silent[gpu] = begins
            case Kind.STRAGGLER:
                wrong.speed[gpu] = rng.uniform(0.4, 0.6) if begins else 1
            case Kind.IDLE if begins:
                end_s = now_s + (incident.end - incident.start).total_seconds()
                self._scheduler.take(np.array([gpu]), FORGOTTEN, now_s, end_s)
            case Kind.IDLE:
                self._scheduler.give_back(np.array([gpu]))
            case Kind.MEMORY_FULL:
                wrong.filling_since_s[gpu] = now_s if begins else np.inf

    def _with_pods(self) -> pl.DataFrame:
        work = self._scheduler.work
        columns = {"namespace": work.namespace, "pod": work.pod, "container": work.container}
        return self._names.with_columns(pl.Series(name, values.tolist(), pl.String) for name, values in columns.items())

    def _piece(self, first: int, end: int) -> pl.DataFrame:
        numbers = np.arange(first, end, dtype=np.int64)
        step_s = self._step_us / 1e6
        metrics = measure(
            self._scheduler.work, self._wrong, self._hardware, self._state, numbers * step_s, step_s, self._rng
        )
        gpus = len(self._hardware.host)
        labels = self._labels if end - first == 1 else self._labels[np.tile(np.arange(gpus), end - first)]
        times = pl.Series(TIMESTAMP, np.repeat(self._start_us + numbers * self._step_us, gpus)).cast(TIME_TYPE)
        frame = pl.DataFrame(
            [
                times,
                labels[GPU],
                *(pl.Series(name, column.ravel()) for name, column in metrics.items()),
                *(labels[name] for name in labels.columns if name != GPU),
            ]
        )
        if self._wrong.silent.any():
            return frame.filter(pl.Series(np.tile(~self._wrong.silent, end - first)))
        return frame
