"""One run from one seed: everything is set up, goes wrong for a while, gets well again, and is checked."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from telemetry.queue.core.types import AtOffset, Place
from tests.simulation.broker import Broker
from tests.simulation.clients import Member, Producer
from tests.simulation.disk import SimulatedDisk
from tests.simulation.ledger import Ledger, Violation
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import Network
from tests.simulation.scenario import draw

RECOVERY_S = 600.0
"""How long it may take, in simulated time, until all is well again once nothing goes wrong any more."""


class Simulation:
    """A queue, its users and their troubles."""

    def __init__(self, seed: int, *, tracing: bool = False, lying_syncs: bool = False) -> None:
        self.rng = random.Random(seed)
        self.scenario = draw(self.rng)
        self.lines: list[str] = []
        self.calm = False
        self._tracing = tracing
        self.loop = SimulatedLoop(self._thread_delay)  # type: ignore[abstract]  # asks only for what it has
        self.network = Network(self.loop, self.rng, self.scenario.delay_s)
        self.disk = SimulatedDisk(self.rng)
        self.disk.lies = lying_syncs
        self.ledger = Ledger()
        self.broker = Broker(self.scenario, self.loop, self.network, self.disk, self.ledger, self.rng, self.trace)
        self.producers = [
            Producer(self, f"p{number}", idempotent=number < self.scenario.producers)
            for number in range(self.scenario.producers + self.scenario.plain_producers)
        ]
        self.members = [
            Member(self, plan, f"{plan.name}-{number}")
            for plan in self.scenario.groups
            for number in range(plan.members)
        ]
        self._checked = False

    def run(self) -> None:
        """Raise whatever is wrong."""
        self.trace("scenario", self.scenario)
        try:
            with _quiet():
                self._run()
        finally:
            self.loop.close_all(self.broker.last_process)
            self.disk.throw_away()

    def trace(self, *parts: object) -> None:
        """Note what happens."""
        if self._tracing:
            self.lines.append(f"{self.loop.time():10.6f} {' '.join(map(str, parts))}")

    def _run(self) -> None:
        self.broker.boot()
        self.loop.run_until(lambda: self.broker.engine is not None, deadline_s=30.0)
        self.disk.steps_left = None
        self._make_topics()
        for client in (*self.producers, *self.members):
            client.start()
        for every_s, trouble in (
            (self.scenario.cuts_every_s, self._cut),
            (self.scenario.crashes_every_s, self._crash),
            (self.scenario.full_every_s, self._fill),
            (self.scenario.flips_every_s, self.broker.flip_bit),
            (self.scenario.moves_every_s, self._move),
            (self.scenario.churn_every_s, self._churn),
            (2.0 if self.scenario.sync_failures else float("inf"), self._fail_disk),
            (1.0, self._jump),
        ):
            if every_s < 1000:
                self._again(every_s, trouble)
        self.loop.run_until(lambda: False, deadline_s=self.loop.time() + self.scenario.duration_s)
        self._get_well()
        self._restart_and_check()

    def _make_topics(self) -> None:
        process = self.broker.process
        if process is None or self.broker.engine is None:
            raise AssertionError("the queue did not start")
        for config in self.scenario.topics:
            task = self.loop.spawn(process, self.broker.engine.create_topic(config))
            self.loop.run_until(task.done, deadline_s=self.loop.time() + 30.0)
            task.result()

    def _get_well(self) -> None:
        """Nothing goes wrong any more: everything must come to rest, with nothing left over."""
        self.trace("calm")
        self.calm = self.network.calm = self.broker.calm = True
        self.disk.full = self.disk.fail_syncs = self.disk.fail_commits = False
        self.disk.steps_left = None
        self._rest()

    def _rest(self) -> None:
        if not self.loop.run_until(self._at_rest, deadline_s=self.loop.time() + RECOVERY_S):
            raise Violation(f"not at rest after {RECOVERY_S:.0f} s: {self._unrest()}")

    def _at_rest(self) -> bool:
        engine = self.broker.engine
        if engine is None or not all(producer.done for producer in self.producers):
            return False
        groups = engine._core.groups.values()
        return len(groups) >= len(self.scenario.groups) and all(
            cursor.acked_through >= cursor.partition.end_offset for group in groups for cursor in group.cursors.values()
        )

    def _unrest(self) -> str:
        engine = self.broker.engine
        if engine is None:
            return "the queue is down"
        late = [producer.name for producer in self.producers if not producer.done]
        behind = [
            f"{group.name} at {cursor.acked_through} of {cursor.partition.end_offset} in {cursor.partition.topic.name}"
            for group in engine._core.groups.values()
            for cursor in group.cursors.values()
            if cursor.acked_through < cursor.partition.end_offset
        ]
        return f"producers {late}, groups {behind}"

    def _restart_and_check(self) -> None:
        """Lose what can be lost once more, and read everything back."""
        for end in (lambda: self.broker.crash("at the end"), self.broker.stop):
            self._end_life(end)
            self._rest()
        assert self.broker.engine is not None
        assert self.broker.process is not None
        task: asyncio.Task[None] = self.loop.spawn(self.broker.process, self.broker.check_all(self.broker.engine))
        self.loop.run_until(task.done, deadline_s=self.loop.time() + RECOVERY_S)
        task.result()

    def _end_life(self, end: Callable[[], None]) -> None:
        life = self.broker.life
        end()
        self.loop.run_until(lambda: self.broker.life > life, deadline_s=self.loop.time() + RECOVERY_S)

    # Troubles

    def _again(self, every_s: float, trouble: Callable[[], None]) -> None:
        def happen() -> None:
            if not self.calm:
                trouble()
                self._again(every_s, trouble)

        self.loop.after(self.rng.random() * 2 * every_s, happen)

    def _thread_delay(self) -> float:
        if self.calm:
            return 0.0001
        usual = self.rng.random() * self.scenario.thread_s
        return usual if self.rng.random() < 0.98 else usual + 0.5 * self.rng.random()

    def _cut(self) -> None:
        self.rng.choice((*self.producers, *self.members)).vanish()

    def _crash(self) -> None:
        kind = self.rng.random()
        if kind < 0.4:
            self.broker.crash("out of the blue")
        elif kind < 0.9:
            self.disk.steps_left = self.rng.randint(1, 8)
        else:
            self.broker.stop()

    def _fill(self) -> None:
        self.disk.full = True
        self.trace("disk full")
        self.loop.after(self.rng.random(), self._empty)

    def _empty(self) -> None:
        self.trace("disk has room")
        self.disk.full = False

    def _fail_disk(self) -> None:
        self.trace("disk fails")
        if self.rng.random() < 0.7:
            self.disk.fail_syncs = True
        else:
            self.disk.fail_commits = True
        self.loop.after(0.5 + self.rng.random(), self._repair)

    def _repair(self) -> None:
        self.trace("disk works")
        self.disk.fail_syncs = self.disk.fail_commits = False
        self.loop.after(5.0, self.broker.check_failed)

    def _move(self) -> None:
        process = self.broker.process
        if process is None:
            return
        topic = self.rng.choice(self.scenario.topics)
        if self.rng.random() < 0.5:
            group = self.rng.choice(self.scenario.groups).name
            position = self.rng.choice((Place.EARLIEST, Place.LATEST, AtOffset(self.rng.randint(0, 20))))
            self.trace("seek", group, position)
            self.loop.schedule(process, self.loop.time(), self.broker.seek, group, position)
        else:
            before = self.rng.choice((None, self.rng.randint(0, 20)))
            partition = self.rng.randrange(topic.partitions)
            self.trace("purge", topic.name, partition, before)
            self.loop.schedule(process, self.loop.time(), self.broker.purge, topic.name, partition, before)

    def _churn(self) -> None:
        if self.rng.random() < 0.3:
            self.rng.choice(self.producers).die()
        elif self.rng.random() < 0.5:
            self.rng.choice(self.members).leave()
        else:
            self.rng.choice(self.members).vanish()

    def _jump(self) -> None:
        self.broker.wall_us += self.rng.randint(-2_000_000, 2_000_000)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings that engines log about what is done to them here."""
    logger = logging.getLogger("telemetry.queue.engines")
    before, logger.disabled = logger.level, True
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.disabled = False
