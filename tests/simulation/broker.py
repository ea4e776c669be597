"""The queue's process: the real disk engine in one life after the other, and a thin server in front of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from telemetry.queue.core.clock import Instant
from telemetry.queue.core.errors import ClosedError, FullError, PreconditionError, QueueError
from telemetry.queue.core.queue import QueueCore
from telemetry.queue.core.types import (
    PRODUCER_BYTES_MAX,
    AckEntry,
    AckStatus,
    Place,
    Position,
    PublishBatch,
    Receipt,
    StoredBatch,
    SubscribeOptions,
    SubscriptionEvent,
)
from telemetry.queue.engines.disk import DiskEngine
from telemetry.queue.engines.records import HEADER_BYTES, Header, decode_header
from telemetry.queue.engines.segments import SEGMENT_HEADER_BYTES
from telemetry.runtime.errors import DataDirectoryError
from tests.simulation.disk import SimulatedDisk
from tests.simulation.ledger import Ledger, Spot, Standing, Violation, standing
from tests.simulation.loop import Process, SimulatedLoop
from tests.simulation.network import Link, Network
from tests.simulation.scenario import Scenario

DIRECTORY: Final = Path("/queue")
DEAD_LETTERS: Final = ".dead-letter"
REASONABLE: Final = (FullError, PreconditionError, ClosedError)
"""What the queue may answer to clients who do nothing wrong."""

Answer = Receipt | QueueError


class Broker:
    """Starts, crashes, stops; serves clients while it lives."""

    def __init__(
        self,
        scenario: Scenario,
        loop: SimulatedLoop,
        network: Network,
        disk: SimulatedDisk,
        ledger: Ledger,
        rng: random.Random,
        trace: Callable[..., None],
    ) -> None:
        self.engine: DiskEngine | None = None
        self.life = 0
        self.calm = False
        self.wall_us = 1_700_000_000_000_000
        self._scenario = scenario
        self._loop = loop
        self._network = network
        self._disk = disk
        self._ledger = ledger
        self._rng = rng
        self._trace = trace
        self._process: Process | None = None
        self._acking: list[Sequence[AckEntry]] = []
        self._flipped: dict[tuple[str, int], Header] = {}
        self._failures_before = 0
        loop.on_power_cut = lambda: self.crash("in the middle of a call to the disk")

    @property
    def last_process(self) -> Process | None:
        """The process as it was begun last, whatever has become of it."""
        return self._process

    @property
    def process(self) -> Process | None:
        """Where clients may connect to, when it is up."""
        return self._process if self.engine is not None else None

    def clock(self) -> Instant:
        """The time, whose wall clock may jump."""
        now_s = self._loop.time()
        return Instant(now_s, self.wall_us + int(now_s * 1e6))

    # Life

    def boot(self) -> None:
        """Begin a life."""
        self.life += 1
        self._process = Process(f"life {self.life}")
        self._failures_before = self._disk.failures
        self._ledger.start_life()
        if not self.calm and self._scenario.crashes_every_s < 100 and self._rng.random() < 0.2:
            self._disk.steps_left = self._rng.randint(1, 12)
        self._loop.spawn(self._process, self._live())

    def crash(self, why: str) -> None:
        """End the process, and perhaps the machine."""
        if self._process is None:
            return
        power = self._scenario.power_cuts and self._rng.random() < 0.7
        self._trace("crash", why, "power" if power else "kill")
        self._end()
        if power:
            self._disk.end_power()
        if self._scenario.flips_every_s < 100 and not self.calm and self._rng.random() < 0.2:
            self.flip_bit()
        self._loop.after(self._rng.random() * 0.3, self.boot)

    def stop(self) -> None:
        """Ask it to finish and to start again."""
        if self._process is not None and self.engine is not None:
            self._loop.spawn(self._process, self._stop(self.engine))

    async def _live(self) -> None:
        engine = DiskEngine(
            DIRECTORY,
            fsync=self._scenario.fsync,
            clock=self.clock,
            segment_bytes=self._scenario.segment_bytes,
            cache_bytes=self._scenario.cache_bytes,
            files=self._disk,
            nonce=f"life{self.life}",
        )
        refusals_before = self._disk.refusals
        self._trace("start", self.life)
        try:
            await engine.start()
        except (OSError, DataDirectoryError) as error:
            if self._disk.failures == self._failures_before and self._disk.refusals == refusals_before:
                self._loop.fail(Violation(f"the queue does not start: {error!r}"))
            self._crash_soon(f"cannot start: {error}")
            return
        except Exception as error:  # noqa: BLE001  (recovery must not raise whatever the disk holds)
            self._loop.fail(error)
            return
        try:
            self._watch(engine._core)
            await self._check(engine)
        except Exception as error:  # noqa: BLE001
            self._loop.fail(error)
            return
        self.engine = engine
        failure = await engine.wait_failed()
        if self._disk.failures == self._failures_before:
            self._loop.fail(failure)
        self._crash_soon(f"failed: {failure}")

    def _crash_soon(self, why: str) -> None:
        """End the process from within."""
        life = self.life
        self._loop.after(0.0, lambda: self.crash(why) if self.life == life else None)

    async def _stop(self, engine: DiskEngine) -> None:
        self._trace("stop")
        self.engine = None
        try:
            await engine.stop()
        except Exception as error:  # noqa: BLE001
            if self._disk.failures == self._failures_before:
                self._loop.fail(error)
        self._loop.after(0.0, self._stopped, self._process)

    def _stopped(self, process: Process) -> None:
        if process is self._process:
            self._trace("stopped")
            self._end()
            if self._scenario.power_cuts:
                self._disk.end_power()  # which a stopped queue does not mind
            self._loop.after(0.1, self.boot)

    def _end(self) -> None:
        process = self._process
        assert process is not None
        self._process = self.engine = None
        self._loop.kill(process)
        self._disk.end_process()
        self._network.broker_died(process)
        for entries in self._acking:
            self._ledger.forget_acks(entries)
        self._acking.clear()

    def check_failed(self) -> None:
        """A queue whose disk has failed must not go on for long."""
        if self.engine is not None and self._disk.failures > self._failures_before:
            raise Violation("an fsync failed, and the queue goes on")

    # Checks

    def _watch(self, core: QueueCore) -> None:
        """Have the ledger see what the core does, at the moment when it does it."""
        ack, subscribe, seek, ledger = core.ack, core.subscribe, core.seek_group, self._ledger
        nonce = f"life{self.life}"

        def watched_ack(entries: Sequence[AckEntry], now: Instant) -> object:
            cursors = ledger.watched(core, entries)
            before: dict[Spot, Standing] = {spot: standing(cursor) for spot, cursor in cursors.items()}
            result = ack(entries, now)
            moved = {spot: (before[spot], standing(cursor)) for spot, cursor in cursors.items()}
            issued = core._leases._issued
            ledger.take_acks(entries, result.statuses, moved, now.monotonic_s, nonce, issued)
            return result

        def watched_subscribe(options: SubscribeOptions, now: Instant) -> object:
            known = options.group in core.groups
            session = subscribe(options, now)
            if not known and session.group is not None:
                for partition, cursor in session.group.cursors.items():
                    spot = Spot(partition.topic.name, partition.number)
                    ledger.begin_at(options.group, session.group.settings, spot, cursor.acked_through)
            return session

        def watched_seek(name: str, *args: object, **options: object) -> object:
            moved = seek(name, *args, **options)  # type: ignore[arg-type]
            for one in moved:
                spot = Spot(one.topic, one.partition)
                ledger.begin_at(name, core.groups[name].settings, spot, one.acked_through)
            return moved

        core.ack = watched_ack  # type: ignore[method-assign, assignment]
        core.subscribe = watched_subscribe  # type: ignore[method-assign, assignment]
        core.seek_group = watched_seek  # type: ignore[method-assign, assignment]

    async def _check(self, engine: DiskEngine) -> None:
        """What was recovered is what was promised."""
        core = engine._core
        if self._wrong(core):
            for topic in list(core.topics.values()):
                if topic.name.endswith(DEAD_LETTERS):
                    for stored in await self._browse(engine, topic.name, 0):
                        self._ledger.copies(stored.batch)
            if wrong := self._wrong(core):
                raise Violation("; ".join(wrong[:3]))

    def _wrong(self, core: QueueCore) -> list[str]:
        return self._ledger.missing(core) + self._ledger.unexplained(core)

    async def check_all(self, engine: DiskEngine) -> None:
        """All there is, read back."""
        await self._check(engine)
        for topic in list(engine._core.topics.values()):
            for partition in topic.partitions:
                stored = await self._browse(engine, topic.name, partition.number)
                if not topic.name.endswith(DEAD_LETTERS):
                    self._ledger.check_stored(Spot(topic.name, partition.number), partition.start_offset, stored)
        self._check_reported(engine)

    async def _browse(self, engine: DiskEngine, topic: str, partition: int) -> list[StoredBatch]:
        return [one async for one in engine.browse(topic, partition, Place.EARLIEST, 1 << 30)]

    def _check_reported(self, engine: DiskEngine) -> None:
        """Damage that is still on the disk and needed by somebody has been put aside."""
        segments = {path.name: file for path, file in self._disk.files(".segment")}
        aside = [(int(path.stem), len(file.cached) or 1 << 30) for path, file in self._disk.files(".damaged")]
        topics = {topic.topic_id: topic for topic in engine._core.topics.values()}
        for (name, position), header in self._flipped.items():
            topic = topics.get(header.topic_id)
            if name not in segments or topic is None:
                continue
            needed = header.base_offset >= topic.partitions[header.partition].start_offset
            if needed and not any(first <= position < first + size for first, size in aside):
                raise Violation(f"the record at {position} of {name} is damaged, and nobody was told: {aside}")

    def flip_bit(self) -> None:
        """Damage a record somewhere in the log, and tell the ledger what that may cost."""
        segments = self._disk.files(".segment")
        if not segments:
            return
        path, file = self._rng.choice(segments)
        records = _records(bytes(file.cached))
        if not records:
            return
        at, damaged = self._rng.choice(records)
        base = int(path.stem)
        if (path.name, base + at) in self._flipped:
            return  # the same bit again would mend it
        # Of the last segment, what no later record calls durable looks like a torn tail, and all behind it too. Only
        # what is durable itself is sure to be there to say so, and only if a cut that is not durable has not taken it.
        mark = min(
            max((one.durable for _, one in _records(bytes(data))), default=0) for data in (file.stored, file.cached)
        )
        torn = path == segments[-1][0] and base + at >= mark
        if torn and (self._process is not None or any(name == path.name for name, _ in self._flipped)):
            return  # what is confirmed from now on would be lost as well, and what was damaged before would look torn
        self._trace("flip", path.name, at, "torn" if torn else "")
        for position, one in records:
            if position == at or (torn and position > at):
                start = position + one.batch_start
                sent = self._ledger.sent.get(bytes(file.cached[start : start + one.batch_bytes]))
                if sent is not None:
                    self._ledger.lose(sent, torn=torn)
                else:
                    self._ledger.damage = self._ledger.dead_letters_damaged = True
        offset, bit = at + self._rng.randrange(damaged.batch_start + damaged.batch_bytes), 1 << self._rng.randrange(8)
        for data in (file.cached, file.stored):
            if offset < len(data):
                data[offset] ^= bit
        if not torn:
            self._flipped[path.name, base + at] = damaged

    # Serving: the methods below run in the broker's process

    def publish(self, link: Link, batch: PublishBatch, answer: Callable[[Answer], None]) -> None:
        """Serve one request of a Publish stream."""
        assert self._process is not None
        self._loop.create_task(self._publish(link, batch, answer))

    async def _publish(self, link: Link, batch: PublishBatch, answer: Callable[[Answer], None]) -> None:
        engine = self.engine
        if engine is None:
            return
        result: Answer
        try:
            result = await engine.publish(batch)
        except REASONABLE as error:
            result = error
        except Exception as error:  # noqa: BLE001
            self._loop.fail(error)
            return
        else:
            try:
                self._ledger.confirm(self._ledger.sent[batch.batch], result)
            except Violation as error:
                self._loop.fail(error)
        link.to_client(answer, result)

    def ack(self, link: Link, entries: Sequence[AckEntry], answer: Callable[[Sequence[AckStatus]], None]) -> None:
        """Serve one request of an Ack stream."""
        self._loop.create_task(self._ack(link, entries, answer))

    async def _ack(
        self, link: Link, entries: Sequence[AckEntry], answer: Callable[[Sequence[AckStatus]], None]
    ) -> None:
        engine = self.engine
        if engine is None:
            return
        self._acking.append(entries)
        try:
            statuses = await engine.ack(entries)
        except REASONABLE:
            return  # what was asked for may stand, and may be forgotten with the process
        except Exception as error:  # noqa: BLE001
            self._loop.fail(error)
            return
        self._acking.remove(entries)
        self._ledger.answer_acks(entries, statuses)
        link.to_client(answer, statuses)

    def subscribe(
        self, link: Link, options: SubscribeOptions, started: Callable[[ServerSide], None], event: Callable[..., None]
    ) -> None:
        """Serve a Subscribe stream."""
        task = self._loop.create_task(self._subscribe(link, options, started, event))
        link.on_server_close.append(task.cancel)

    async def _subscribe(
        self, link: Link, options: SubscribeOptions, started: Callable[[ServerSide], None], event: Callable[..., None]
    ) -> None:
        engine = self.engine
        if engine is None:
            return
        try:
            subscription = await engine.subscribe(options)
        except REASONABLE as error:
            self._trace("refused", options.member, error)
            link.end_from_server()
            return
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001
            self._loop.fail(error)
            return
        viewer = self._ledger.open(subscription.started.session_id, options.group, subscription.started.settings)

        def add_permits(messages: int, size: int) -> None:
            viewer.permits_messages += messages
            if size:
                viewer.permits_bytes = (viewer.permits_bytes or 0) + size
            subscription.add_permits(messages, size)

        link.to_client(started, add_permits)
        try:
            while events := await subscription.next_events():
                self._sent(options, events)
                self._ledger.events(viewer, events, self._loop.time())
                for one in events:
                    link.to_client(event, one)
            self._trace("ended", options.member, subscription.closed_reason)
            link.end_from_server()
        except Violation as error:
            self._loop.fail(error)
        except REASONABLE:
            link.end_from_server()
        finally:
            viewer.closed = True
            subscription.close(drained=False)

    def _sent(self, options: SubscribeOptions, events: Sequence[SubscriptionEvent]) -> None:
        for one in events:
            self._trace("deliver", options.group, options.member, one)

    def seek(self, group: str, position: Position) -> None:
        """Move a group."""
        self._loop.create_task(self._seek(group, position))

    async def _seek(self, group: str, position: Position) -> None:
        if self.engine is not None:
            try:
                await self.engine.seek_group(group, position, force=True)
            except QueueError as error:
                self._trace("refused", "seek", group, error)

    def purge(self, topic: str, partition: int, before: int | None) -> None:
        """Drop messages."""
        self._loop.create_task(self._purge(topic, partition, before))

    async def _purge(self, topic: str, partition: int, before: int | None) -> None:
        if self.engine is None:
            return
        state = self.engine._core.topics.get(topic)
        if state is None:
            return
        end = state.partitions[partition].visible_end
        self._ledger.purge(Spot(topic, partition), end if before is None else min(before, end))
        try:
            await self.engine.purge_topic(topic, partition, before)
        except QueueError as error:
            self._trace("refused", "purge", topic, error)


ServerSide = Callable[[int, int], None]
"""Adds permits to a session."""


def _records(data: bytes) -> list[tuple[int, Header]]:
    """The records of a segment up to the first that cannot be read."""
    found: list[tuple[int, Header]] = []
    at = SEGMENT_HEADER_BYTES
    while (header := decode_header(data[at : at + HEADER_BYTES + PRODUCER_BYTES_MAX])) is not None:
        if at + header.length > len(data):
            break
        if header.topic_id:
            found.append((at, header))
        at += header.length
    return found
