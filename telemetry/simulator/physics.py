"""What the instruments of a GPU show, from what runs on it: load, power, heat, clocks and counters as columns of time.

Everything here is an array of T instants by G GPUs, between two changes of what runs; what has to be remembered from
one such piece to the next is in :class:`State`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from telemetry.simulator.jobs import Work
from telemetry.simulator.machines import Hardware

Columns = Mapping[str, np.ndarray]

PLACES: Final[Mapping[str, int]] = {
    "power_draw": 2, "energy": 3, "graphics_active": 4, "sm_active": 4, "tensor_active": 4, "dram_active": 4,
}  # fmt: skip
"""Decimal places of the metrics that are no whole numbers."""

IDLE_BIT: Final = 0x1
POWER_CAP_BIT: Final = 0x4
HW_SLOWDOWN_BIT: Final = 0x8
SW_THERMAL_BIT: Final = 0x20
HW_THERMAL_BIT: Final = 0x40
POWER_BRAKE_BIT: Final = 0x80
"""Bits of ``throttle_reasons``, as the driver gives them."""

_WANDER_S: Final = 240.0
"""How long the load remembers where it was."""
_HEAT_S: Final = 50.0
"""How long a heat sink takes to get two thirds of the way."""
_DAY_S: Final = 86400.0
_BRAKE: Final = 0.5
"""What the power brake leaves of the limit."""
_HOT_POWER: Final = 0.72
"""What heat leaves of the power."""
_FULL: Final = 0.995
"""What a job that takes too much memory takes of it."""
_FILLING_S: Final = 300.0

_NOTHING: Final = np.zeros(1)
"""No job of these encodes or decodes video."""

_CORRECTED_A_DAY: Final = 0.2
_REPLAYS_A_DAY: Final = 0.3
_REMAPS_A_DAY: Final = 0.0005


class Conditions:
    """What is wrong with each GPU now, as columns; incidents set and clear it."""

    def __init__(self, gpus: int) -> None:
        """Nothing is wrong."""
        self.heat = np.ones(gpus, np.float32)
        """By how much it gets warmer than it should."""
        self.speed = np.ones(gpus, np.float32)
        """How much of its work it gets done."""
        self.braked = np.zeros(gpus, bool)
        self.down = np.zeros(gpus, bool)
        """Its job is gone, and no other can run."""
        self.silent = np.zeros(gpus, bool)
        self.filling_since_s = np.full(gpus, np.inf)
        """Since when its memory fills up."""
        self.xid = np.zeros(gpus)
        self.uncorrected = np.zeros(gpus)
        self.remap_pending = np.zeros(gpus)
        self.remap_failure = np.zeros(gpus)


class State:
    """What a GPU remembers: heat, energy, counters, and where its load had wandered."""

    def __init__(self, hardware: Hardware, rng: np.random.Generator) -> None:
        """A fleet that has been running for a while."""
        gpus = len(hardware.host)
        self.wander = np.zeros(gpus, np.float32)
        self.temperature = hardware.inlet_c + hardware.rise_c_per_w * hardware.idle_w
        self.energy_j = np.round(rng.uniform(1e8, 5e9, gpus), 3)
        self.corrected = rng.poisson(0.5, gpus).astype(np.float64)
        self.replays = rng.poisson(2.0, gpus).astype(np.float64)
        self.remapped_correctable = rng.poisson(0.03, gpus).astype(np.float64)
        self.remapped_uncorrectable = rng.poisson(0.02, gpus).astype(np.float64)


def measure(
    work: Work,
    wrong: Conditions,
    hardware: Hardware,
    state: State,
    times_s: np.ndarray,
    step_s: float,
    rng: np.random.Generator,
) -> Columns:
    """Compute all metrics for ``times_s``, seconds since the start and ``step_s`` apart, and move ``state`` on.

    Returns:
        By metric, an array of float64 with a row an instant and a column a GPU; constants may have one row.
    """
    shape = (len(times_s), len(hardware.host))
    load = _load(work, wrong, state, times_s, step_s, rng, shape)
    busy = load > 0.01

    noise = _noise(rng, shape)
    limit_w = np.where(wrong.braked, hardware.limit_w * np.float32(_BRAKE), hardware.limit_w)
    # What the job would draw, were there no limit: with less load less of it, but not in proportion.
    drawn_w = load * (1.3 - 0.3 * load)
    drawn_w *= (work.power * hardware.limit_w - hardware.idle_w).clip(0)
    drawn_w *= 1 + np.float32(0.012) * noise
    drawn_w += hardware.idle_w + np.float32(0.25) * noise
    capped = drawn_w > limit_w
    over = np.where(capped, limit_w / drawn_w, np.float32(1))
    # At the limit the board hovers a little under it.
    power_w = np.where(capped, limit_w * (1 - np.float32(0.004) * np.abs(noise)), drawn_w)

    heating = hardware.inlet_c + _daily(times_s, 1.2, 15.0) + wrong.heat * hardware.rise_c_per_w * power_w
    keep = float(np.exp(-step_s / _HEAT_S))
    warm = _follow(heating, keep, state.temperature)
    # A GPU that has got too hot slows down until it stays just there.
    hot = warm >= hardware.slowdown_c
    np.minimum(warm, hardware.slowdown_c + np.float32(1.2) + np.float32(0.5) * noise, out=warm, where=hot)
    state.temperature = warm[-1].copy()
    power_w = np.where(hot, power_w * np.float32(_HOT_POWER), power_w)
    power = np.rint(power_w.astype(np.float64) * 100) / 100
    energy_j = state.energy_j + np.cumsum(power * step_s, axis=0)
    state.energy_j = energy_j[-1].copy()

    clock = over ** np.float32(0.6)
    clock *= np.where(wrong.braked, np.float32(0.75), np.float32(1))
    clock = np.where(hot, clock * np.float32(0.68), clock)
    clock *= hardware.clock_mhz
    clock -= np.abs(noise) * np.where(capped | hot, np.float32(18), np.float32(2))
    reasons = np.where(busy, 0, IDLE_BIT)
    reasons |= np.where(capped & ~wrong.braked, POWER_CAP_BIT, 0)
    reasons |= np.where(wrong.braked & capped, POWER_BRAKE_BIT | HW_SLOWDOWN_BIT, 0)
    reasons |= np.where(hot, SW_THERMAL_BIT | HW_THERMAL_BIT | HW_SLOWDOWN_BIT, 0)

    used = _memory(work, wrong, hardware, times_s, busy)
    activity = _noise(rng, shape)
    activity *= np.float32(0.02)
    activity += 1
    activity *= load
    columns = {
        "temperature": np.rint(warm),
        "memory_temperature": np.rint(warm + 2 + 9 * activity * work.dram),
        "utilization": np.rint(load * 100),
        "memory_utilization": np.rint(activity * (work.dram * 100)),
        "encoder_utilization": _NOTHING,
        "decoder_utilization": _NOTHING,
        "memory_used": used,
        "memory_free": hardware.memory_mib - hardware.reserved_mib - used,
        "memory_total": hardware.memory_mib,
        "power_draw": power,
        "power_limit": limit_w,
        "energy": np.rint(energy_j * 1000) / 1000,
        "sm_clock": np.where(busy, np.rint(clock / 15) * 15, hardware.idle_clock_mhz),
        "memory_clock": hardware.memory_clock_mhz,
        "graphics_active": _percent(load),
        "sm_active": _percent(activity * work.sm),
        "tensor_active": _percent(activity * (work.sm * work.tensor)),
        "dram_active": _percent(activity * work.dram),
        "throttle_reasons": reasons,
        "slowdown_temperature": hardware.slowdown_c,
        "xid_error": np.where(wrong.xid > 0, wrong.xid, work.xid),
        "pcie_replays": _count(state.replays, _REPLAYS_A_DAY, step_s, rng, shape),
        "ecc_corrected": _count(state.corrected, _CORRECTED_A_DAY, step_s, rng, shape),
        "ecc_uncorrected": wrong.uncorrected,
        "remapped_rows_correctable": _count(state.remapped_correctable, _REMAPS_A_DAY, step_s, rng, shape),
        "remapped_rows_uncorrectable": state.remapped_uncorrectable,
        "row_remap_pending": wrong.remap_pending,
        "row_remap_failure": wrong.remap_failure,
    }
    return {name: _whole(column, shape) for name, column in columns.items()}


def _load(
    work: Work,
    wrong: Conditions,
    state: State,
    times_s: np.ndarray,
    step_s: float,
    rng: np.random.Generator,
    shape: tuple[int, int],
) -> np.ndarray:
    """The share of time in which a kernel runs."""
    keep = float(np.exp(-step_s / _WANDER_S))
    wander = _noise(rng, shape)
    wander *= np.float32((1 - keep * keep) ** 0.5)
    wander = _follow_sum(wander, keep, state.wander)
    state.wander = wander[-1].copy()
    wander *= work.slow
    load = _noise(rng, shape)
    load *= work.fast
    load += wander
    load += work.level
    if work.daily.any():
        load += _daily(times_s, 1.0, 14.0) * (work.level * work.daily)
    age_s = (times_s[:, None] - work.began_s).astype(np.float32)
    if work.pause_s.any():
        turn = age_s / work.period_s
        turn -= np.floor(turn)
        # A pause is as long as it takes; what it saw of the GPU in between depends on when one looks.
        np.multiply(load, np.float32(0.02), out=load, where=turn < work.pause_s / work.period_s)
    loading = age_s < work.ramp_s
    if loading.any():
        np.multiply(load, np.float32(0.04), out=load, where=loading)
    load *= np.where(wrong.down, np.float32(0), wrong.speed)
    load = np.clip(load, 0, 1, out=load)
    # Where nothing can run, nothing is measured either.
    load[:, work.level == 0] = 0
    return load


def _memory(work: Work, wrong: Conditions, hardware: Hardware, times_s: np.ndarray, busy: np.ndarray) -> np.ndarray:
    """Memory in use: taken in steps while a job loads, then held, or taken and given back in quarters."""
    age_s = times_s[:, None] - work.began_s
    part = np.minimum(1, np.floor(4 * age_s / np.maximum(work.ramp_s, 1) + 1) / 4)
    part[:, work.ramp_s == 0] = 1
    if work.breathing.any():
        turn = age_s / np.maximum(2 * work.period_s, 600)
        part -= work.breathing * np.floor(4 * (turn - np.floor(turn))) / 4
    used = np.rint(part * work.memory_mib)
    used = np.where(wrong.down, 0, used)
    filling = np.isfinite(wrong.filling_since_s)
    if filling.any():
        since = (times_s[:, None] - wrong.filling_since_s[filling]) / _FILLING_S
        whole = hardware.memory_mib[filling] - hardware.reserved_mib[filling]
        held = used[:, filling]
        used[:, filling] = np.rint(held + (whole * _FULL - held) * np.clip(since, 0, 1))
    return used


def _noise(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.standard_normal(shape, np.float32)


def _daily(times_s: np.ndarray, height: float, peak_hour: float) -> np.ndarray:
    """A column that is highest at ``peak_hour`` of each day."""
    wave = height * np.cos(2 * np.pi * (times_s - peak_hour * 3600) / _DAY_S)
    return wave.astype(np.float32)[:, None]


def _follow(target: np.ndarray, keep: float, before: np.ndarray) -> np.ndarray:
    """What lags behind ``target``, keeping so much of where it was at each step."""
    return _follow_sum(target * np.float32(1 - keep), keep, before)


def _follow_sum(values: np.ndarray, keep: float, before: np.ndarray) -> np.ndarray:
    """``y[t] = keep * y[t-1] + values[t]`` without a loop over time: each turn doubles how far back a row looks."""
    result = values.astype(np.float32)
    result[0] += np.float32(keep) * before
    reach, weight = 1, keep
    while reach < len(result) and weight > 1e-6:
        result[reach:] += np.float32(weight) * result[:-reach]
        reach, weight = 2 * reach, weight * weight
    return result


def _count(
    counter: np.ndarray, a_day: float, step_s: float, rng: np.random.Generator, shape: tuple[int, int]
) -> np.ndarray:
    """A counter to which something happens so often a day; it goes up in place."""
    events = int(rng.poisson(a_day * step_s / _DAY_S * shape[0] * shape[1]))
    if not events:
        return counter.copy()
    counts = np.broadcast_to(counter, shape).copy()
    for row, gpu in zip(rng.integers(0, shape[0], events), rng.integers(0, shape[1], events), strict=True):
        counts[row:, gpu] += 1
        counter[gpu] += 1
    return counts


def _percent(part: np.ndarray) -> np.ndarray:
    """As DCGM gives its ratios, to six places, in percent."""
    return np.rint(part.clip(0, 1).astype(np.float64) * 1e6) / 1e4


def _whole(column: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A column of its own: what it was made of changes with the next incident, and frames keep what they are given."""
    return np.array(np.broadcast_to(column, shape), np.float64, order="C")
