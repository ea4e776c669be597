"""The one place where deliveries become durable: gather, commit, then ack, in that order."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final, Protocol

from telemetry.collector.admission import GPUS_MAX, Admission
from telemetry.collector.counters import Counters
from telemetry.collector.following import storing
from telemetry.collector.intake import INDIGESTIBLE, Contents, Delivery, Intake, batch_of, refusal, stored_through
from telemetry.queue.clients.backoff import Backoff
from telemetry.storage.store import Change, Committed, Store, StoreError

log = logging.getLogger(__name__)

COMMIT_INTERVAL_S: Final = 0.2
"""How long a delivery waits for others at most before it is committed."""

GATHER_S: Final = 0.004
"""How long one waits in any case: what was published together arrives within a moment."""

REST: Final = 3
"""After a commit the next one waits so many times as long as that took, so that commits cost little when each brings
little, and come at once when nothing is going on."""

COMMIT_BYTES: Final = 12 << 20
"""Bytes of decoded records, and of lines for the quarantine, at which a commit begins at once; it takes hardly more."""

COMMIT_CELLS: Final = 16 << 20
"""Most cells of the table that a commit makes of its records, which has a column for every metric and label that any of
them has; what would make more is committed in parts, down to one delivery."""

PENDING_BYTES_MAX: Final = 32 << 20
"""Bytes of the same that may wait; whoever brings more has to wait itself."""


class Settled(Delivery, Protocol):
    """A delivery that can be acked, unless it was lost."""

    @property
    def lost(self) -> bool: ...
    async def ack(self) -> object: ...


@dataclass(frozen=True, slots=True)
class Waiting:
    """A delivery that waits to be stored, and what was read of it."""

    intake: Intake
    delivery: Settled


class Writer:
    """Commits what workers bring and acks it. Nothing is acked that is not durable.

    Deliveries gather for a moment, or for as long as :data:`REST` says but never beyond :data:`COMMIT_INTERVAL_S` or
    :data:`COMMIT_BYTES`; while one commit runs the next batch gathers, so that a slow disk makes batches larger. When
    the store refuses, the same batch is tried again until it is stored; until then nothing is acked and memory is
    bounded.
    """

    def __init__(
        self,
        store: Store,
        counters: Counters,
        on_changes: Callable[[Sequence[Change]], None] = lambda changes: None,
        gpus_max: int = GPUS_MAX,
    ) -> None:
        """Write to ``store``.

        Args:
            store: where records go.
            counters: what is durable is counted there.
            on_changes: hears what each commit brought; must not block.
            gpus_max: records of GPUs beyond so many go to quarantine.
        """
        self._store = store
        self._admission = Admission(store, gpus_max)
        self._counters = counters
        self._on_changes = on_changes
        self._pending: deque[Waiting] = deque()
        self._pending_bytes = 0
        self._in_work = 0
        self._oldest_at: float | None = None
        self._rested_at = 0.0
        """When the next commit may begin, unless it has waited for long or is large."""
        self._room = asyncio.Condition()
        self._arrived = asyncio.Event()
        self._hurry = asyncio.Event()
        self._acking: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._draining = False
        self.trouble = ""
        """Why nothing can be stored; empty while it can."""

    @property
    def backlog(self) -> int:
        """Deliveries that are not durable yet."""
        return len(self._pending) + self._in_work

    @property
    def waiting_s(self) -> float:
        """How long the oldest delivery that is not durable yet has been here, in seconds."""
        return 0.0 if self._oldest_at is None else asyncio.get_running_loop().time() - self._oldest_at

    async def submit(self, waiting: Waiting) -> None:
        """Take a delivery, waiting while too much waits already."""
        async with self._room:
            await self._room.wait_for(lambda: self._pending_bytes < PENDING_BYTES_MAX)
        if self._oldest_at is None:
            self._oldest_at = asyncio.get_running_loop().time()
        self._pending.append(waiting)
        self._pending_bytes += waiting.intake.contents.size
        self._arrived.set()
        if self._pending_bytes >= COMMIT_BYTES:
            self._hurry.set()

    async def run(self) -> None:
        """Commit until :meth:`drain` was called and nothing is left."""
        while not (self._draining and not self._pending):
            await self._arrived.wait()
            if not self._draining:
                now = asyncio.get_running_loop().time()
                begin_at = min(max(now + GATHER_S, self._rested_at), now + COMMIT_INTERVAL_S)
                try:
                    async with asyncio.timeout_at(begin_at):
                        await self._hurry.wait()
                except TimeoutError:
                    pass
            self._hurry.clear()
            taken = await self._take()
            if taken:
                await self._store_all(taken)
        if self._acking is not None:
            await self._acking

    def drain(self) -> None:
        """Make :meth:`run` commit what waits, ack it and return. Nothing may be submitted any more."""
        self._draining = True
        self._arrived.set()
        self._hurry.set()

    def close(self) -> None:
        """Let go of the thread."""
        self._thread.shutdown(wait=True)

    async def _take(self) -> list[Waiting]:
        taken: list[Waiting] = []
        size = 0
        while self._pending and size < COMMIT_BYTES:
            waiting = self._pending.popleft()
            self._pending_bytes -= waiting.intake.contents.size
            # What was lost is delivered again to whoever owns its partition now, and would be stored twice.
            if not waiting.delivery.lost:
                taken.append(waiting)
                size += waiting.intake.contents.size
        if not taken and not self._pending:
            self._oldest_at = None
        if self._pending_bytes >= COMMIT_BYTES:
            self._hurry.set()
        self._in_work = len(taken)
        if not self._pending and not self._draining:
            self._arrived.clear()
        async with self._room:
            self._room.notify_all()
        return taken

    async def _store_all(self, taken: Sequence[Waiting]) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff()
        while True:
            intakes = [each.intake for each in taken]
            deliveries = [each.delivery for each in taken]
            begun = loop.time()
            try:
                with storing(deliveries):
                    committed = await loop.run_in_executor(self._thread, self._commit, intakes)
                self._rested_at = loop.time() + REST * (loop.time() - begun)
                break
            except StoreError as error:
                wait_s = backoff.next_s()
                self.trouble = str(error)
                log.error("nothing can be stored", extra={"error": str(error), "retry_s": round(wait_s, 3)})
                await asyncio.sleep(wait_s)
                taken = [each for each in taken if not each.delivery.lost]
                self._in_work = len(taken)
        if self.trouble:
            log.info("storing again")
            self.trouble = ""
        for outcome, messages, quarantined in committed:
            self._counters.committed(outcome, messages, quarantined)
            self._on_changes(outcome.changes)
        self._in_work = 0
        self._oldest_at = asyncio.get_running_loop().time() if self._pending else None
        if self._acking is not None:
            await self._acking
        self._acking = asyncio.create_task(_ack_all(deliveries), name="acks")

    def _commit(self, intakes: Sequence[Intake]) -> list[tuple[Committed, int, int]]:
        """Commit deliveries together; those that the store cannot digest go to quarantine, each by itself."""
        if len(intakes) > 1 and _cells(intakes) > COMMIT_CELLS:
            half = len(intakes) // 2
            return self._commit(intakes[:half]) + self._commit(intakes[half:])
        self._admission.begin()
        batch = batch_of(intakes, self._store.positions(), self._admission.pass_on)
        messages = sum(len(intake.delivery.offsets) for intake in intakes)
        try:
            return [(self._store.commit(batch), messages, len(batch.quarantine))]
        except INDIGESTIBLE as error:
            if not batch.frames:
                raise
            log.exception("records that cannot be stored", extra={"deliveries": len(intakes)})
            if len(intakes) > 1:
                return [outcome for intake in intakes for outcome in self._commit([intake])]
            return self._commit([self._refused(intakes[0], f"cannot be stored: {error}")])

    def _refused(self, intake: Intake, reason: str) -> Intake:
        """The same delivery, of which all goes to quarantine that is not stored."""
        delivery = intake.delivery
        done = stored_through(self._store.positions(), intake.partition, intake.topic_created_us)
        lines = [
            refusal(delivery, offset, message, reason)
            for offset, message in zip(delivery.offsets, delivery.messages, strict=True)
            if offset >= done
        ]
        return replace(intake, contents=Contents((), lines, 0, done))


def _cells(intakes: Sequence[Intake]) -> int:
    frames = [frame for intake in intakes for frame in intake.contents.frames]
    return sum(frame.height for frame in frames) * len({name for frame in frames for name in frame.columns})


async def _ack_all(deliveries: Sequence[Settled]) -> None:
    """Ack; what cannot be acked comes again and is then known to be stored."""
    outcomes = await asyncio.gather(*(delivery.ack() for delivery in deliveries), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            log.warning("an ack failed", extra={"error": str(outcome)})
