"""What a fleet needs of machines: cores, memory and disk of each process, from what was measured a sample."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from telemetry.console.tables import rate, seconds, size, table

# Measured as docs/performance.md tells, on cores of an AMD EPYC, with the simulator's fleet. Rounded up: a plan that is
# a little too large costs less than one that is too small.
STREAMER_S: Final = 0.2e-6
"""Seconds of a core that the streamers need a sample."""
QUEUE_S: Final = 0.03e-6
COLLECTOR_S: Final = 0.25e-6
MESSAGE_S: Final = 0.3e-3
"""Seconds of a core that a message costs queue and collector each, whatever is in it."""
ALERTS_S: Final = 20e-6
"""Seconds of a core that the rule pack needs a GPU and second."""
WIRE_BYTES: Final = 6.0
"""Bytes a sample takes in the queue: Arrow, a host's GPUs in a message."""
HOT_BYTES: Final = 27.0
"""Bytes a sample takes as JSON Lines."""
RAW_BYTES: Final = 0.6
"""Bytes a sample takes in the cold tier."""
MINUTE_BYTES: Final = 3.6
"""Bytes that a metric's minute takes: five values that are much alike from minute to minute."""
HOUR_BYTES: Final = 6.0
"""The same of an hour."""
MINUTE_RECORDS_MIN: Final = 30
"""With fewer records a minute, roll-ups by the minute are made when the records go, and not before."""

HOT_S: Final = 2 * 3600.0
"""How long records are in the hot tier, as a collector is set unless told otherwise."""
SPARE: Final = 1.3
"""How much larger a disk is to be than what is on it: merging a day writes it anew before the old goes."""
BUSY_MAX: Final = 0.5
"""How much of a core a process may be busy on average, so that it can catch up after an outage."""

_GIB: Final = 1 << 30
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be carried and kept.

    Attributes:
        gpus: GPUs in all.
        gpus_per_host: GPUs whose records travel in one message.
        interval_s: seconds between two records of a GPU.
        metrics: metrics a record.
        raw_s: how long records are kept, in seconds, as those that follow; infinity is not a plan.
        minute_s: how long roll-ups by the minute are kept.
        hour_s: how long roll-ups by the hour are kept.
        outage_s: how long the queue is to hold what collectors do not take.
    """

    gpus: int
    gpus_per_host: int
    interval_s: float
    metrics: int
    raw_s: float
    minute_s: float
    hour_s: float
    outage_s: float

    @property
    def records_per_s(self) -> float:
        """Records a second of all GPUs."""
        return self.gpus / self.interval_s

    @property
    def samples_per_s(self) -> float:
        """Samples a second of all GPUs."""
        return self.records_per_s * self.metrics

    @property
    def messages_per_s(self) -> float:
        """Messages a second of all hosts."""
        return math.ceil(self.gpus / self.gpus_per_host) / self.interval_s


@dataclass(frozen=True, slots=True)
class Need:
    """What the processes of one kind need.

    Attributes:
        process: which.
        count: how many of them.
        cores: busy cores of all together, on average.
        memory_bytes: of each.
        disk_bytes: of each, with room to spare.
        disk: what is on the disk.
    """

    process: str
    count: int
    cores: float
    memory_bytes: int
    disk_bytes: int = 0
    disk: str = ""


@dataclass(frozen=True, slots=True)
class Size:
    """The answer.

    Attributes:
        plan: what was asked.
        needs: a line a kind of process.
        tiers: bytes in each tier of the store, of all collectors together.
        warnings: what does not go like that.
    """

    plan: Plan
    needs: Sequence[Need]
    tiers: Mapping[str, int]
    warnings: Sequence[str]

    def to_json(self) -> Mapping[str, Any]:
        """For scripts."""
        plan = asdict(self.plan)
        rates = {name: getattr(self.plan, name) for name in ("records_per_s", "samples_per_s", "messages_per_s")}
        needs = [asdict(need) for need in self.needs]
        return {"plan": plan | rates, "processes": needs, "store_bytes": self.tiers, "warnings": self.warnings}


def estimate(plan: Plan) -> Size:
    """What a plan needs.

    Raises:
        ValueError: if something is to be kept for ever: no disk is large enough.
    """
    if not all(map(math.isfinite, (plan.raw_s, plan.minute_s, plan.hour_s, plan.outage_s))):
        raise ValueError("what is kept for ever needs a disk without end; give a time, such as 365d")
    series = plan.gpus * plan.metrics
    is_dense = plan.interval_s * MINUTE_RECORDS_MIN <= 60
    minutes_s = plan.minute_s if is_dense else max(plan.minute_s - plan.raw_s, 0.0)
    tiers = {
        "hot": int(plan.samples_per_s * HOT_S * HOT_BYTES),
        "raw": int(plan.samples_per_s * plan.raw_s * RAW_BYTES),
        "1m": int(series * minutes_s / max(60.0, plan.interval_s) * MINUTE_BYTES),
        "1h": int(series * plan.hour_s / max(3600.0, plan.interval_s) * HOUR_BYTES),
    }
    collecting = plan.samples_per_s * COLLECTOR_S + plan.messages_per_s * MESSAGE_S
    collectors = max(1, math.ceil(collecting / BUSY_MAX))
    hosts = math.ceil(plan.gpus / plan.gpus_per_host)
    backlog = int(plan.samples_per_s * plan.outage_s * WIRE_BYTES)
    share = math.ceil(plan.gpus / collectors)
    needs = [
        Need("streamer, one a host", hosts, plan.samples_per_s * STREAMER_S + 0.001 * hosts, 300 * _MIB),
        Need(
            "queue",
            1,
            plan.samples_per_s * QUEUE_S + plan.messages_per_s * MESSAGE_S,
            300 * _MIB,
            int(backlog * SPARE) + _GIB,
            f"what waits for {seconds(plan.outage_s)}",
        ),
        Need(
            "collector",
            collectors,
            collecting,
            (400 + share // 50) * _MIB,
            int(sum(tiers.values()) / collectors * SPARE) + _GIB,
            "the store",
        ),
        Need("gateway", 1, 0.05 + plan.gpus * 5e-6, (200 + plan.gpus // 100) * _MIB),
        Need(
            "alerts", 1, 0.02 + plan.gpus * ALERTS_S, (150 + plan.gpus // 50) * _MIB, _GIB, "alerts and their history"
        ),
    ]
    return Size(plan, needs, tiers, list(_warnings(plan, needs)))


def _warnings(plan: Plan, needs: Sequence[Need]) -> Iterator[str]:
    """What one process cannot do, whatever the machine: each runs Python on one core."""
    busy = [f"{need.process} ({need.cores:.1f})" for need in needs if need.count == 1 and need.cores > BUSY_MAX]
    if busy:
        yield (
            f"too busy for one core: {', '.join(busy)}. Read GPUs less often, or more of them with one streamer, or "
            "run several pipelines"
        )
    if plan.records_per_s > plan.gpus:
        yield "alerts and the live view follow once a second, however often GPUs are read"


def lines(answer: Size) -> Iterator[str]:
    """For people."""
    plan = answer.plan
    yield (
        f"{plan.gpus:,} GPUs × {plan.metrics} metrics every {seconds(plan.interval_s)}: "
        f"{rate(plan.samples_per_s)} samples/s in {rate(plan.messages_per_s)} messages/s"
    )
    yield ""
    rows = [
        [
            need.process,
            f"{need.count:,}",
            f"{need.cores:.2f}",
            size(need.memory_bytes),
            size(need.disk_bytes) if need.disk_bytes else "-",
            need.disk,
        ]
        for need in answer.needs
    ]
    yield from table(["PROCESS", ">COUNT", ">BUSY CORES, ALL", ">MEMORY, EACH", ">DISK, EACH", "OF IT"], rows)
    yield ""
    kept = {"hot": HOT_S, "raw": plan.raw_s, "1m": plan.minute_s, "1h": plan.hour_s}
    rows = [[tier, seconds(kept[tier]), size(used)] for tier, used in answer.tiers.items()]
    yield from table(["TIER", ">KEPT", ">BYTES, ALL COLLECTORS"], rows)
    yield ""
    yield "Estimates from what docs/performance.md measures, rounded up."
    for warning in answer.warnings:
        yield f"Warning: {warning}."
