"""What runs on a simulated fleet: jobs that come and go on fixed slots, like those of a batch scheduler."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from telemetry.simulator.machines import Hardware, SimulatedGpu

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Sort:
    """A sort of job; of each range every job draws its own value.

    Attributes:
        name: what its pods are called.
        namespace: where they run.
        container: what is in them.
        hours: how long it runs, in the middle; the logarithm is normally distributed.
        level: share of time in which a kernel runs.
        daily: by which part of itself the level follows the time of day.
        slow: how far the level wanders over minutes.
        fast: how far it jumps from one instant to the next.
        period_s: how often it pauses (to write a checkpoint, to fetch data, to think); 0 for never.
        pause_s: for how long.
        ramp_s: how long it takes to load before anything runs.
        power: what it would draw, as a part of the board's limit; above 1 the limit holds it.
        sm: share of the multiprocessors that it keeps active.
        tensor: share of that for which the tensor pipes are.
        dram: how busy it keeps the memory.
        memory: memory that it holds, as a part of all.
        breathing: how much of that it lets go and takes again.
    """

    name: str
    namespace: str
    container: str
    hours: float
    level: Range
    daily: Range
    slow: float
    fast: float
    period_s: Range
    pause_s: Range
    ramp_s: Range
    power: Range
    sm: Range
    tensor: Range
    dram: Range
    memory: Range
    breathing: float = 0.0


TRAINING: Final = Sort(
    "train", "research", "pytorch", 9, (0.982, 0.998), (0, 0), 0.002, 0.006, (900, 3600), (20, 90), (120, 600),
    (0.82, 1.06), (0.55, 0.9), (0.3, 0.6), (0.3, 0.6), (0.72, 0.93),
)  # fmt: skip
TUNING: Final = Sort(
    "finetune", "research", "pytorch", 2, (0.9, 0.98), (0, 0), 0.01, 0.02, (600, 1800), (15, 60), (60, 300),
    (0.55, 0.9), (0.4, 0.75), (0.2, 0.5), (0.3, 0.6), (0.4, 0.9),
)  # fmt: skip
INFERENCE: Final = Sort(
    "serve", "serving", "vllm", 40, (0.35, 0.65), (0.2, 0.5), 0.05, 0.1, (0, 0), (0, 0), (60, 180),
    (0.45, 0.75), (0.3, 0.6), (0.1, 0.35), (0.5, 0.85), (0.8, 0.93),
)  # fmt: skip
BATCH: Final = Sort(
    "batch", "data", "rapids", 1.5, (0.55, 0.9), (0, 0), 0.05, 0.1, (120, 600), (20, 90), (20, 60),
    (0.4, 0.75), (0.3, 0.6), (0.0, 0.1), (0.4, 0.9), (0.2, 0.6), 0.4,
)  # fmt: skip
NOTEBOOK: Final = Sort(
    "notebook", "users", "jupyter", 3, (0.2, 0.8), (0, 0), 0.02, 0.15, (240, 480), (150, 220), (10, 30),
    (0.3, 0.6), (0.2, 0.5), (0.0, 0.3), (0.2, 0.5), (0.1, 0.4), 0.5,
)  # fmt: skip
FORGOTTEN: Final = Sort(
    "notebook", "users", "jupyter", 24, (0, 0), (0, 0), 0, 0, (0, 0), (0, 0), (0, 0),
    (0, 0), (0, 0), (0, 0), (0, 0), (0.5, 0.9),
)  # fmt: skip
LOADED: Final = Sort(
    "train", "research", "pytorch", 24, (0.985, 0.998), (0, 0), 0.002, 0.006, (1800, 3600), (20, 40), (60, 120),
    (0.95, 1.04), (0.6, 0.9), (0.4, 0.6), (0.4, 0.6), (0.75, 0.9),
)  # fmt: skip

_MIX: Final = {
    1: ((TUNING, 0.25), (INFERENCE, 0.35), (BATCH, 0.15), (NOTEBOOK, 0.25)),
    4: ((TRAINING, 0.35), (TUNING, 0.25), (INFERENCE, 0.3), (BATCH, 0.1)),
    8: ((TRAINING, 0.8), (INFERENCE, 0.2)),
}
"""What runs on slots of at least so many GPUs."""

_APPLICATION_XIDS: Final = (13, 31, 43)
_APPLICATION_FAULTS: Final = 0.04
"""Part of the jobs that end with one of them; the driver shows it until the next job comes."""

_GAP_S: Final = 1800.0
"""How long a slot stands empty between two jobs, on average."""

_OCCUPIED: Final = 0.85
"""How many slots have a job when the simulation begins."""

TICK_S: Final = 60.0
"""How often the scheduler looks."""


class Work:
    """What runs on each GPU now, as columns. An instant's load is computed from these alone."""

    def __init__(self, gpus: int) -> None:
        """Nothing runs."""
        self.began_s = np.zeros(gpus)
        self.level = np.zeros(gpus, np.float32)
        self.daily = np.zeros(gpus, np.float32)
        self.slow = np.zeros(gpus, np.float32)
        self.fast = np.zeros(gpus, np.float32)
        self.period_s = np.ones(gpus, np.float32)
        self.pause_s = np.zeros(gpus, np.float32)
        self.ramp_s = np.zeros(gpus, np.float32)
        self.power = np.zeros(gpus, np.float32)
        self.sm = np.zeros(gpus, np.float32)
        self.tensor = np.zeros(gpus, np.float32)
        self.dram = np.zeros(gpus, np.float32)
        self.memory_mib = np.zeros(gpus)
        self.breathing = np.zeros(gpus, np.float32)
        self.xid = np.zeros(gpus)
        self.pod = np.full(gpus, None, object)
        self.namespace = np.full(gpus, None, object)
        self.container = np.full(gpus, None, object)


class Scheduler:
    """Starts and ends jobs on slots, each a range of GPUs that belong together."""

    def __init__(self, gpus: Sequence[SimulatedGpu], hardware: Hardware, rng: np.random.Generator) -> None:
        """Divide the fleet into slots; at the start most of them are in the middle of a job."""
        self.work = Work(len(gpus))
        self._hardware = hardware
        self._rng = rng
        self._slots = _slots(hardware.host, rng)
        self._busy = [False] * len(self._slots)
        self._taken_until_s = np.zeros(len(gpus))
        self._jobs = 0
        self._due: list[tuple[float, int]] = []
        for slot in range(len(self._slots)):
            if rng.random() < _OCCUPIED:
                self._begin(slot, 0.0, running=True)
            else:
                heapq.heappush(self._due, (_tick(float(rng.exponential(_GAP_S))), slot))

    @property
    def next_s(self) -> float:
        """When the next job begins or ends, in seconds since the simulation's start."""
        return self._due[0][0]

    def advance(self, now_s: float) -> None:
        """Begin and end what is due."""
        while self._due[0][0] <= now_s:
            due_s, slot = heapq.heappop(self._due)
            if self._busy[slot]:
                self._busy[slot] = False
                self._vacate(self._free(slot, due_s), fault=True)
                heapq.heappush(self._due, (_tick(due_s + float(self._rng.exponential(_GAP_S))), slot))
            else:
                self._begin(slot, due_s)

    def take(self, gpus: np.ndarray, sort: Sort, now_s: float, until_s: float) -> None:
        """Give ``gpus`` to one job of ``sort`` in the scheduler's place."""
        self._taken_until_s[gpus] = until_s
        self._place(gpus, sort, now_s, now_s)

    def give_back(self, gpus: np.ndarray) -> None:
        """End what runs on ``gpus``; they stay empty until their slots get the next job."""
        self._taken_until_s[gpus] = 0
        self._vacate(gpus, fault=False)

    def _free(self, slot: int, now_s: float) -> np.ndarray:
        """The slot's GPUs, without those that were taken from it."""
        gpus = np.arange(*self._slots[slot])
        return gpus[self._taken_until_s[gpus] <= now_s]

    def _begin(self, slot: int, now_s: float, *, running: bool = False) -> None:
        first, end = self._slots[slot]
        mix = _MIX[max(size for size in _MIX if size <= end - first)]
        sort = mix[int(self._rng.choice(len(mix), p=[share for _, share in mix]))][0]
        length_s = 3600 * sort.hours * float(self._rng.lognormal(0, 0.8))
        gone_s = length_s * float(self._rng.random()) if running else 0.0
        self._busy[slot] = True
        self._place(self._free(slot, now_s), sort, now_s - gone_s, now_s)
        heapq.heappush(self._due, (_tick(now_s + max(300.0, length_s - gone_s)), slot))

    def _place(self, gpus: np.ndarray, sort: Sort, began_s: float, now_s: float) -> None:
        """Write a job into the columns. Its GPUs do the same, each a little differently."""
        rng, work = self._rng, self.work
        if not len(gpus):
            return
        self._jobs += 1
        alike = 1 + 0.01 * rng.standard_normal((4, len(gpus)))
        period_s = rng.uniform(*sort.period_s)
        work.began_s[gpus] = began_s
        work.level[gpus] = rng.uniform(*sort.level)
        work.daily[gpus] = rng.uniform(*sort.daily)
        work.slow[gpus] = sort.slow
        work.fast[gpus] = sort.fast
        work.period_s[gpus] = period_s or 1.0
        work.pause_s[gpus] = rng.uniform(*sort.pause_s)
        work.ramp_s[gpus] = rng.uniform(*sort.ramp_s)
        work.power[gpus] = rng.uniform(*sort.power) * alike[0]
        work.sm[gpus] = rng.uniform(*sort.sm) * alike[1]
        work.tensor[gpus] = rng.uniform(*sort.tensor) * alike[2]
        work.dram[gpus] = rng.uniform(*sort.dram) * alike[3]
        held = self._hardware.memory_mib[gpus] * rng.uniform(*sort.memory)
        # Allocators round up; ranks differ by a few blocks.
        work.memory_mib[gpus] = np.rint(held / 2) * 2 + 2 * rng.integers(0, 60, len(gpus))
        work.breathing[gpus] = sort.breathing
        work.xid[gpus] = 0
        name = f"{sort.name}-{rng.integers(1 << 20):05x}-{self._jobs}"
        hosts = self._hardware.host[gpus]
        work.pod[gpus] = [f"{name}-{host}" for host in hosts - hosts.min()]
        work.namespace[gpus] = sort.namespace
        work.container[gpus] = sort.container

    def _vacate(self, gpus: np.ndarray, *, fault: bool) -> None:
        work = self.work
        for column in (work.level, work.daily, work.slow, work.fast, work.pause_s, work.power, work.memory_mib):
            column[gpus] = 0
        for column in (work.sm, work.tensor, work.dram, work.breathing, work.ramp_s):
            column[gpus] = 0
        for names in (work.pod, work.namespace, work.container):
            names[gpus] = None
        if fault and self._rng.random() < _APPLICATION_FAULTS:
            work.xid[gpus] = self._rng.choice(_APPLICATION_XIDS)


def _tick(time_s: float) -> float:
    """The scheduler's next look after ``time_s``."""
    return (int(time_s / TICK_S) + 1) * TICK_S


def _slots(host: np.ndarray, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Cut the fleet: some slots span hosts, most are one, the others are halves, quarters and single GPUs."""
    starts = [*np.flatnonzero(np.diff(host, prepend=-1)).tolist(), len(host)]
    slots: list[tuple[int, int]] = []
    number = 0
    while number < len(starts) - 1:
        hosts = min(int(rng.choice([1, 2, 4, 8], p=[0.86, 0.08, 0.04, 0.02])), len(starts) - 1 - number)
        first, end = starts[number], starts[number + hosts]
        slots += [(first, end)] if hosts > 1 else _halved(first, end, rng)
        number += hosts
    return slots


def _halved(first: int, end: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    if end - first == 1 or rng.random() < 0.5:
        return [(first, end)]
    middle = (first + end) // 2
    return _halved(first, middle, rng) + _halved(middle, end, rng)
