"""What one seed draws: how large the queue is, who uses it how, and what goes wrong how often."""

from __future__ import annotations

import random
from dataclasses import dataclass

from telemetry.queue.core.types import Mode, Retention, TopicConfig, TopicLimits
from telemetry.queue.engines.fsync import ALWAYS, NEVER, FsyncPolicy


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """A group and how many members it has."""

    name: str
    topics: tuple[str, ...]
    mode: Mode
    members: int
    ack_wait_s: float
    max_deliver: int
    backoff_s: tuple[float, ...]
    max_unacked: int | None
    from_latest: bool


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run. Rates are chances, or events a second of simulated time."""

    duration_s: float
    fsync: FsyncPolicy
    segment_bytes: int
    cache_bytes: int
    topics: tuple[TopicConfig, ...]
    producers: int
    plain_producers: int
    groups: tuple[GroupPlan, ...]
    publish_every_s: float
    message_bytes: int
    delay_s: float
    """Of a message on the network, usually."""
    thread_s: float
    """Of what runs in a thread, usually."""
    cuts_every_s: float
    crashes_every_s: float
    power_cuts: bool
    """Whether crashes take the machine along, or only the process."""
    full_every_s: float
    sync_failures: bool
    flips_every_s: float
    moves_every_s: float
    """Seeks and purges."""
    churn_every_s: float
    """Members and producers that leave, vanish and come back."""
    care: float
    """How often a member acks what it is given; else it does something else with it."""


def draw(rng: random.Random) -> Scenario:
    """A scenario in which some things go wrong often, and some never."""

    def every(*choices: float) -> float:
        return rng.choice((float("inf"), *choices))

    fsync = rng.choice((ALWAYS, ALWAYS, ALWAYS, ALWAYS, NEVER, FsyncPolicy(0.5)))
    groups_read_all = rng.random() < 0.5
    topics = tuple(
        TopicConfig(
            name,
            partitions=rng.randint(1, 3),
            retention=Retention(drop_acked=rng.random() < 0.4),
            limits=TopicLimits(partition_bytes=3000 if groups_read_all and rng.random() < 0.5 else 0),
        )
        for name in ("a", "b.c")[: rng.randint(1, 2)]
    )
    groups = tuple(
        GroupPlan(
            name=f"g{number}",
            topics=(">",) if groups_read_all else rng.choice((("a",), tuple(topic.name for topic in topics))),
            mode=rng.choice((Mode.SHARED, Mode.ORDERED)),
            members=rng.randint(1, 3),
            ack_wait_s=rng.choice((0.3, 1.0, 10.0)),
            max_deliver=rng.choice((1, 2, 3, 10)),
            backoff_s=rng.choice(((), (), (0.1, 1.0))),
            max_unacked=rng.choice((None, None, 3)),
            from_latest=rng.random() < 0.15,
        )
        for number in range(rng.randint(1, 2))
    )
    return Scenario(
        duration_s=rng.uniform(1.0, 4.0),
        fsync=fsync,
        segment_bytes=rng.choice((700, 2000, 8000)),
        cache_bytes=rng.choice((0, 600, 1 << 20)),
        topics=topics,
        producers=rng.randint(1, 2),
        plain_producers=rng.randint(0, 1),
        groups=groups,
        publish_every_s=rng.choice((0.1, 0.3, 0.6)),
        message_bytes=rng.choice((10, 60, 200)),
        delay_s=rng.choice((0.001, 0.02, 0.1)),
        thread_s=rng.choice((0.0005, 0.01, 0.05)),
        cuts_every_s=every(0.5, 2.0),
        crashes_every_s=every(0.5, 1.0, 2.0),
        power_cuts=fsync == ALWAYS and rng.random() < 0.8,
        full_every_s=every(1.5),
        sync_failures=rng.random() < 0.2,
        flips_every_s=every(1.0) if rng.random() < 0.3 else float("inf"),
        moves_every_s=every(1.0) if rng.random() < 0.4 else float("inf"),
        churn_every_s=every(0.5, 1.5),
        care=rng.choice((0.4, 0.8, 0.95)),
    )
