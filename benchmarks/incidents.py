"""What the rule pack finds of incidents whose truth is known: simulated fleets, replayed.

    python -m benchmarks.incidents --gpus 256 --hours 12 --seeds 3

An incident is found when an alert that is meant for its kind fires on its GPU while it lasts; the delay is from its
first instant to that. Precision is the part of all alerts that an incident on their GPU had fired.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import polars as pl

from telemetry.alerts.process import PACK
from telemetry.alerts.replay import Episode, replay
from telemetry.alerts.rule_files import load_rules
from telemetry.simulator.fleet import Fleet
from telemetry.simulator.incidents import Incident, Kind

MEANT_FOR: Final[Mapping[Kind, frozenset[str]]] = {
    Kind.HEAT: frozenset({"GpuOverheating", "GpuThermalThrottling", "GpuHotterThanPeers", "GpuCoolingDegraded"}),
    Kind.THROTTLE: frozenset({"GpuPowerThrottling"}),
    Kind.XID: frozenset({"GpuXidCritical"}),
    Kind.ECC: frozenset({"GpuUncorrectableEcc", "GpuXidCritical", "GpuRowRemapPending"}),
    Kind.ROW_REMAP: frozenset({"GpuRowRemapFailure", "GpuXidCritical"}),
    Kind.LOST: frozenset({"GpuLost"}),
    Kind.STRAGGLER: frozenset({"GpuStraggler"}),
    Kind.IDLE: frozenset({"GpuIdleHoldingMemory"}),
    Kind.MEMORY_FULL: frozenset({"GpuMemoryNearlyFull"}),
}
"""Which alerts say that such an incident is there."""

AFTER_S: Final = 600.0
"""So long after its end an incident may still be the cause of an alert: rules look back and wait."""


@dataclass(frozen=True, slots=True)
class Score:
    """What became of one simulated fleet.

    Attributes:
        delays_s: of each incident that was found, how long after its first instant, by kind.
        missed: incidents that were not.
        right: alerts that fired because of an incident.
        wrong: those that fired without.
    """

    delays_s: Mapping[Kind, Sequence[float]]
    missed: Sequence[Incident]
    right: Sequence[Episode]
    wrong: Sequence[Episode]


def score(fleet: Fleet) -> Score:
    """Replay a fleet and hold the rule pack against the truth."""
    replayed = replay(load_rules([PACK]), pl.concat(list(fleet.frames())))
    delays: dict[Kind, list[float]] = {}
    missed: list[Incident] = []
    right: set[int] = set()
    for incident in fleet.incidents:
        begin_s, end_s = incident.start.timestamp(), incident.end.timestamp()
        found: list[float] = []
        for number, episode in enumerate(replayed.episodes):
            alert = episode.alert
            assert alert.fired_us is not None
            fired_s = alert.fired_us / 1e6
            if alert.gpu != incident.gpu or alert.name not in MEANT_FOR[incident.kind]:
                continue
            if begin_s <= fired_s <= end_s + AFTER_S:
                right.add(number)
            if begin_s <= fired_s <= end_s:
                found.append(fired_s - begin_s)
        if found:
            delays.setdefault(incident.kind, []).append(min(found))
        else:
            missed.append(incident)
    return Score(
        delays,
        missed,
        [episode for number, episode in enumerate(replayed.episodes) if number in right],
        [episode for number, episode in enumerate(replayed.episodes) if number not in right],
    )


def main() -> None:
    """Print what is found, how precisely and how soon."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--gpus", type=int, default=256)
    parser.add_argument("--hours", type=float, default=12)
    parser.add_argument("--interval", type=float, default=15, help="seconds between records of a GPU")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    delays: dict[Kind, list[float]] = {kind: [] for kind in Kind}
    missed: dict[Kind, int] = dict.fromkeys(Kind, 0)
    right, wrong = 0, list[Episode]()
    began = time.perf_counter()
    for seed in range(arguments.seeds):
        fleet = Fleet(
            arguments.gpus,
            duration=timedelta(hours=arguments.hours),
            interval=timedelta(seconds=arguments.interval),
            seed=seed,
            incidents="random",
        )
        scored = score(fleet)
        for kind, found in scored.delays_s.items():
            delays[kind] += found
        for incident in scored.missed:
            missed[incident.kind] += 1
        right, wrong = right + len(scored.right), wrong + list(scored.wrong)
    print(f"{arguments.seeds} fleets of {arguments.gpus} GPUs, {arguments.hours:g} h each, a record every "
          f"{arguments.interval:g} s; replayed in {time.perf_counter() - began:.1f} s")  # fmt: skip
    print(f"{'incident':<12} {'there':>6} {'found':>6} {'delay, median':>14} {'longest':>9}")
    for kind in Kind:
        there = len(delays[kind]) + missed[kind]
        middle = f"{statistics.median(delays[kind]):.0f} s" if delays[kind] else "-"
        longest = f"{max(delays[kind]):.0f} s" if delays[kind] else "-"
        print(f"{kind:<12} {there:>6} {len(delays[kind]):>6} {middle:>14} {longest:>9}")
    print(
        f"alerts fired {right + len(wrong)}, by an incident {right}, precision {right / max(right + len(wrong), 1):.3f}"
    )
    for episode in wrong:
        print(f"  not by an incident: {episode.alert.annotations['summary']}")


if __name__ == "__main__":
    main()
