"""A log on disk: one sequence of segments for all topics, so that whoever waits for the disk waits together."""

from __future__ import annotations

import asyncio
import errno
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from telemetry.queue.core.batches import Block, Entry
from telemetry.queue.core.errors import ClosedError, FullError
from telemetry.queue.core.types import PRODUCER_BYTES_MAX, LogStats
from telemetry.queue.engines.files import FULL_ERRNOS, Files
from telemetry.queue.engines.fsync import FsyncPolicy
from telemetry.queue.engines.group_commit import GroupCommit
from telemetry.queue.engines.log import Append, LogOwner
from telemetry.queue.engines.quarantine import Quarantine
from telemetry.queue.engines.reading import NewestBatches, SegmentReader
from telemetry.queue.engines.records import encode, record_length
from telemetry.queue.engines.recovery import Restorer, Segment, recover
from telemetry.queue.engines.segments import (
    SEGMENT_HEADER_BYTES,
    SegmentWriter,
    segment_path,
)
from telemetry.queue.engines.summaries import Summary, summary_path, write_summary

SEGMENT_BYTES: Final = 64 << 20
"""What is set aside for a segment; one record larger than that gets a segment of its own."""
CACHE_BYTES: Final = 64 << 20
"""Newest batches kept in memory, so that subscribers who keep up never wait for the disk."""
PENDING_BYTES_MAX: Final = 256 << 20
"""Batches that wait to be written; beyond it publishing is refused."""
FSYNCS_KEPT: Final = 1000
"""How many of the last fsyncs the statistics cover."""
RETRY_AFTER_S: Final = 1.0
"""What publishers are told to wait when there is no room."""


class Pending(NamedTuple):
    """An append with the segment that it goes to."""

    append: Append
    base: int


class Written(NamedTuple):
    """What became of a round: how many appends are on the disk, and why the others are not."""

    stored: int
    full: OSError | None


class DiskLog:
    """Keeps batches in segments. Positions are given on the loop; the writing happens in a thread, in rounds."""

    def __init__(
        self,
        files: Files,
        directory: Path,
        quarantine: Quarantine,
        owner: LogOwner,
        fsync: FsyncPolicy,
        monotonic_s: Callable[[], float],
        *,
        segment_bytes: int = SEGMENT_BYTES,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._files = files
        self._directory = directory
        self._quarantine = quarantine
        self._owner = owner
        self._fsync = fsync
        self._monotonic_s = monotonic_s
        self._segment_bytes = segment_bytes
        self._cache = NewestBatches(cache_bytes)
        self._reader = SegmentReader(files, directory, quarantine)
        self._commit = GroupCommit("queue-log", self._gather, self._write, self._finish)
        self._pending: list[Pending] = []
        self._pending_bytes = 0
        # As the loop sees it: the segment that the next batch goes to, and where in it.
        self._segments: list[Segment] = []
        self._bases: list[int] = []
        self._torn_bytes = 0
        self._failed = False
        self._syncer: asyncio.Task[None] | None = None
        # As the thread sees it.
        self._writer: SegmentWriter | None = None
        self._summary = Summary(0)
        self._durable = 0
        self._synced_at_s = 0.0
        self._fsync_s: deque[float] = deque(maxlen=FSYNCS_KEPT)
        self._fsyncs = 0

    def recover(self, restorer: Restorer) -> None:
        """Read what there is; see :func:`~telemetry.queue.engines.recovery.recover`. Before anything else."""
        self._files.make_directory(self._directory)
        recovered = recover(self._files, self._directory, self._quarantine, restorer)
        self._segments, self._torn_bytes = recovered.segments, recovered.torn_bytes
        self._bases = [segment.base for segment in self._segments]
        # A segment that was closed once is not written again: what was cut off it must not come back.
        self._durable = self._segments[-1].end if self._segments else 0
        self._open_segment(self._durable)

    def start(self) -> None:
        """Begin to sync at intervals, if that is the policy."""
        if self._fsync.every_s:
            self._syncer = asyncio.create_task(self._sync_at_intervals(self._fsync.every_s), name="fsync")

    async def stop(self) -> None:
        """Write and sync what is pending, and close the segment."""
        if self._syncer is not None:
            self._syncer.cancel()
        await self._commit.close()
        if self._writer is not None:
            if self._failed:
                self._writer.close()
            else:
                await asyncio.to_thread(self._seal, self._writer)
        await self._reader.close()

    # Log

    def next_position(self, size: int, producer_id: str) -> int:
        """Where the next batch will be kept."""
        return self._place(record_length(size, len(producer_id.encode())))[1]

    def append(self, append: Append) -> None:
        """Queue a batch for the next round."""
        placed = append.placed
        length = record_length(placed.entry.size, len(placed.batch.producer_id.encode()))
        base, position = self._place(length)
        assert position == placed.entry.position
        if base != self._segments[-1].base:
            self._open_segment(base)
        segment = self._segments[-1]
        segment.end = position + length
        segment.live += 1
        self._pending.append(Pending(append, base))
        self._pending_bytes += placed.entry.size
        self._cache.put(position, placed.batch.batch)
        self._commit.request()

    @property
    def overloaded(self) -> bool:
        """Whether so much waits to be written that nothing should be added."""
        return self._pending_bytes >= PENDING_BYTES_MAX

    async def read(self, entries: Sequence[Entry]) -> Sequence[bytes | None]:
        """The batches' bytes, from memory if they are new, else from disk in another thread.

        Raises:
            ClosedError: if the disk fails while what it has damaged is put aside; then nobody can rely on it any more.
        """
        batches = [self._cache.get(entry.position) for entry in entries]
        missing = [at for at, batch in enumerate(batches) if batch is None]
        if missing:
            wanted = [(self._segment_of(entries[at].position).base, entries[at]) for at in missing]
            try:
                found = await self._reader.read(wanted)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                self._failed = True
                self._owner.failed(error)
                raise ClosedError(f"the log has failed: {error}") from error
            for at, batch in zip(missing, found, strict=True):
                batches[at] = batch
        return batches

    def trim(self, blocks: Sequence[Block]) -> None:
        """Count batches as not needed any more. Their room comes back with :meth:`reclaim`."""
        for block in blocks:
            self._cache.drop(block)
            at = 0
            while at < len(block):
                number = self._number_of(block[at].position)
                after = block.at_position(self._bases[number + 1], at) if number + 1 < len(self._bases) else len(block)
                self._segments[number].live -= after - at
                at = after

    # Room

    def reclaimable(self) -> list[Segment]:
        """The segments of which nothing is needed any more."""
        written = self._writer.base if self._writer is not None else -1
        return [
            segment
            for segment in self._segments[:-1]
            if segment.live == 0 and segment.end <= self._durable and segment.base != written
        ]

    async def reclaim(self, segments: Sequence[Segment]) -> None:
        """Delete segments. Whoever calls it has seen to it that nothing of them will be missed after a restart."""
        bases = {segment.base for segment in segments}
        self._segments = [segment for segment in self._segments if segment.base not in bases]
        self._bases = [segment.base for segment in self._segments]
        await self._reader.forget(bases)
        await asyncio.to_thread(self._delete, segments)

    def stats(self) -> LogStats:
        """The counts of the log."""
        times = sorted(self._fsync_s)
        return LogStats(
            bytes=sum(segment.end - segment.base for segment in self._segments),
            segments=len(self._segments),
            fsyncs=self._fsyncs,
            fsync_p50_s=times[len(times) // 2] if times else 0.0,
            fsync_p99_s=times[len(times) * 99 // 100] if times else 0.0,
            quarantined_records=self._quarantine.count,
            torn_bytes=self._torn_bytes,
        )

    # On the loop

    def _place(self, length: int) -> tuple[int, int]:
        """The segment and the position for a record of this length."""
        segment = self._segments[-1]
        if segment.end - segment.base + length <= self._segment_bytes or segment.end == _first_position(segment.base):
            return segment.base, segment.end
        return segment.end, _first_position(segment.end)

    def _open_segment(self, base: int) -> None:
        self._segments.append(Segment(segment_path(self._directory, base), base, _first_position(base)))
        self._bases.append(base)

    def _segment_of(self, position: int) -> Segment:
        return self._segments[self._number_of(position)]

    def _number_of(self, position: int) -> int:
        return bisect_right(self._bases, position) - 1

    def _gather(self) -> list[Pending]:
        pending, self._pending = self._pending, []
        return pending

    def _finish(self, pending: list[Pending], result: Written | BaseException) -> BaseException | None:
        if isinstance(result, BaseException):
            self._failed = True
            self._owner.failed(result)
            error = ClosedError(f"the log has failed: {result}")
            for append, _ in (*pending, *self._pending):
                append.resolve(error)
            self._pending, self._pending_bytes = [], 0
            return error
        stored, refused = pending[: result.stored], pending[result.stored :]
        self._pending_bytes -= sum(append.placed.entry.size for append, _ in stored)
        if result.full is not None:
            # Those that came meanwhile were to lie behind the ones that have no room.
            refused += self._pending
            self._pending, self._pending_bytes = [], 0
            self._go_back(refused)
        if stored:
            self._owner.stored([append for append, _ in stored])
        if result.full is None:
            return None
        full = FullError(f"the disk is full: {result.full.strerror}", retry_after_s=RETRY_AFTER_S)
        self._owner.refused([append for append, _ in refused], full)
        return full

    def _go_back(self, refused: list[Pending]) -> None:
        """Give the room of refused batches to the next ones."""
        if not refused:
            return
        for append, base in refused:
            self._segment_of(base).live -= 1
            self._cache.drop(Block.of([append.placed.entry]))
        first = refused[0]
        while self._segments[-1].base > first.base:
            self._segments.pop()
            self._bases.pop()
        self._segments[-1].end = first.append.placed.entry.position

    async def _sync_at_intervals(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            if self._writer is not None and self._durable < self._writer.end:
                self._commit.request()

    # In the thread

    def _write(self, pending: list[Pending]) -> Written:
        at, full = 0, None
        try:
            while at < len(pending):
                at = self._write_segment(pending, at)
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise
            if self._writer is not None:
                self._writer.cut_back()
            full = error
        self._sync_if_due()
        return Written(at, full)

    def _write_segment(self, pending: list[Pending], at: int) -> int:
        """Write those from ``at`` on that go to one segment; returns where the next segment's begin."""
        base = pending[at].base
        if self._writer is None or self._writer.base != base:
            self._roll(base, pending[at].append.placed.entry)
        assert self._writer is not None
        assert self._writer.end == pending[at].append.placed.entry.position
        buffers: list[bytes] = []
        first = at
        while at < len(pending) and pending[at].base == base:
            placed = pending[at].append.placed
            batch, entry = placed.batch, placed.entry
            buffers += encode(
                batch.batch,
                topic_id=placed.partition.topic.topic_id,
                partition=placed.partition.number,
                base_offset=entry.base_offset,
                messages=entry.messages,
                time_us=entry.time_us,
                durable=self._durable,
                producer_id=batch.producer_id,
                producer_epoch=batch.producer_epoch if batch.producer_id else 0,
                first_sequence=batch.first_sequence if batch.producer_id else 0,
            )
            at += 1
        self._writer.write(buffers)
        for append, _ in pending[first:at]:
            batch, partition = append.placed.batch, append.placed.partition
            self._summary.add(
                partition.topic.topic_id,
                partition.number,
                append.placed.entry,
                batch.producer_id,
                batch.producer_epoch,
                batch.first_sequence,
            )
        return at

    def _roll(self, base: int, first: Entry) -> None:
        room = max(self._segment_bytes, SEGMENT_HEADER_BYTES + record_length(first.size, PRODUCER_BYTES_MAX))
        if self._writer is not None:
            before, self._writer = self._writer, None
            self._seal(before)
        self._writer = SegmentWriter(self._files, self._directory, base, room)
        self._summary = Summary(base)

    def _seal(self, writer: SegmentWriter) -> None:
        end = writer.end  # not the seal's, which the next segment's position knows nothing of
        self._sync(writer.seal)
        self._durable = end
        self._summary.end = writer.end
        if self._summary.in_order:
            write_summary(self._files, self._directory, self._summary)

    def _sync_if_due(self) -> None:
        every_s, writer = self._fsync.every_s, self._writer
        if every_s is None or writer is None or writer.end <= self._durable:
            return
        if self._monotonic_s() - self._synced_at_s >= every_s:
            self._sync(writer.sync)
            self._durable = writer.end

    def _sync(self, sync: Callable[[], None]) -> None:
        begun = self._monotonic_s()
        sync()
        self._synced_at_s = self._monotonic_s()
        self._fsync_s.append(self._synced_at_s - begun)
        self._fsyncs += 1

    def _delete(self, segments: Sequence[Segment]) -> None:
        for segment in segments:
            self._files.remove(summary_path(self._directory, segment.base))
            self._files.remove(segment.path)
        self._files.sync_directory(self._directory)


def _first_position(base: int) -> int:
    return base + SEGMENT_HEADER_BYTES
