"""The store: recent records as lines in the hot tier, older ones as Parquet in the cold tier, read as one."""

from __future__ import annotations

import errno
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from telemetry.model import GPU, TIMESTAMP
from telemetry.runtime.errors import DataDirectoryError
from telemetry.storage import files, quarantine
from telemetry.storage.checkpoint import Checkpoint, Segment
from telemetry.storage.cold.files import DAY_US, HOUR_US, ColdFile, ColdFileError, HotSegment, Level
from telemetry.storage.coldset import ColdSet
from telemetry.storage.columns import Columns, combine, labels_by_gpu, oldest_by_gpu, portions
from telemetry.storage.gathering import Question, Tiers, gather, rows_of
from telemetry.storage.hot import NEWEST_US, OLDEST_US, HotTier
from telemetry.storage.leases import Leases
from telemetry.storage.merging import cold_records, merge_in_order
from telemetry.storage.plan import Plan
from telemetry.storage.samples import find_new
from telemetry.storage.segments import SUFFIX
from telemetry.storage.series import Aggregation, Steps
from telemetry.storage.store import (
    Batch,
    Committed,
    Gpu,
    Position,
    Span,
    StoreError,
    StoreStats,
    TierStats,
    TopicPartition,
)
from telemetry.storage.tails import CACHE_BYTES_MAX, TailCache

ROTATE_BYTES: Final = 8 << 20
"""A GPU's file is closed when it has so many bytes, unless told otherwise."""


_LOOKED_AT_S: Final = 1 << 20
"""GPUs times seconds that are looked at together for what is stored already: so many rows, if there is one a second."""


@dataclass(frozen=True, slots=True)
class Closed:
    """A closed segment: as the checkpoint knows it, and as a compaction job wants it."""

    segment: Segment
    file: HotSegment


@dataclass(frozen=True, slots=True)
class _Replaced:
    """What nobody finds any more and is still on disk."""

    segments: Sequence[Segment]
    files: Sequence[ColdFile]


class TieredStore:
    """Keeps lines in ``<directory>/hot/``, Parquet in ``<directory>/cold/``, the quarantine in ``quarantine.jsonl``.

    A batch is written to the files, synced, and then vouched for by one transaction. When the store is opened, files
    are brought back to what the last transaction vouched for. Whoever opens it holds the directory's lock.
    """

    def __init__(
        self,
        directory: Path,
        *,
        cache_entries: int = 1000,
        cache_bytes: int = CACHE_BYTES_MAX,
        synced: bool = True,
        rotate_bytes: int = ROTATE_BYTES,
        quarantine_bytes: int = quarantine.BYTES_MAX,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        """Open the store and undo what was not committed.

        Args:
            directory: where the files are; made if it is not there.
            cache_entries: how many records of each GPU to keep in memory.
            cache_bytes: how many bytes of records to keep in memory, at most.
            synced: whether :meth:`commit` waits for the disk. If not, a power failure can take back what was committed;
                the death of the process cannot.
            rotate_bytes: a GPU's file is closed, and may be compacted, once it has so many bytes.
            quarantine_bytes: what the quarantine may take before its oldest file goes.
            clock_us: what time it is, in microseconds since 1970.

        Raises:
            DataDirectoryError: if the files cannot be used.
        """
        hot = directory / "hot"
        self._synced = synced
        self._clock_us = clock_us
        self._tails = TailCache(cache_entries, cache_bytes)
        self._committing = threading.Lock()
        """Held while anything is written."""
        self._state = threading.Lock()
        """Held, for a moment, to change what is here or to look at several things at once."""
        self._leases: Leases[_Replaced] = Leases()
        self._checkpoint_us: int | None = None
        try:
            hot.mkdir(parents=True, exist_ok=True)
            database = directory / "checkpoint.sqlite"
            if not database.exists() and any(files.file_sizes(hot, SUFFIX)):
                raise DataDirectoryError(
                    f"{hot} holds records but {database} is missing; put it back or move the records away"
                )
            with ExitStack() as opened:
                self._checkpoint = Checkpoint(database, synced=synced)
                opened.callback(self._checkpoint.close)
                self._positions = self._checkpoint.positions()
                extent = self._checkpoint.quarantine()
                self._quarantine = quarantine.Quarantine(directory, extent, synced=synced, bytes_max=quarantine_bytes)
                self._hot = HotTier(hot, self._checkpoint, self._tails, synced=synced, rotate_bytes=rotate_bytes)
                self._cold = ColdSet(directory / "cold", self._checkpoint)
                opened.pop_all()
        except (OSError, StoreError) as error:
            raise DataDirectoryError(f"data directory {directory} cannot be used: {error}") from None

    def positions(self) -> Mapping[TopicPartition, Position]:
        """How far each partition has been stored."""
        return self._positions

    def commit(self, batch: Batch) -> Committed:
        """Store a batch; when this returns, it survives a crash as a whole.

        Raises:
            StoreError: nothing of it is stored.
        """
        with self._committing:
            columns, duplicates, conflicts = self._novel(combine(batch.frames))
            now_us = self._clock_us()
            growths = self._hot.growths(portions(columns), labels_by_gpu(batch.frames), now_us)
            refused = b"".join(line + b"\n" for line in batch.quarantine)
            with _store_errors(self._hot.directory):
                self._hot.write(growths)
                extent = self._quarantine.write(refused)
            self._checkpoint.commit(
                [growth.entry for growth in growths],
                [(growth.entry.number, block) for growth in growths for block in growth.finished],
                [growth.closed for growth in growths if growth.closed],
                batch.positions,
                extent,
            )
            with self._state:
                self._hot.apply(growths)
                self._quarantine.apply(extent)
                self._positions = {**self._positions, **batch.positions}
                self._checkpoint_us = now_us
        samples = sum(columns.frame.select(pl.col(columns.places).count()).row(0)) if columns.metrics else 0
        return Committed(columns.frame.height, samples, duplicates, conflicts, [growth.change for growth in growths])

    def gpus(self) -> Sequence[Gpu]:
        """All GPUs, by identity."""
        return self._hot.gpus()

    def find(self, gpu: str) -> Gpu | None:
        """One GPU."""
        return self._hot.find(gpu)

    def records(
        self,
        gpu: str,
        span: Span,
        *,
        metrics: Sequence[str] | None = None,
        newest_first: bool = False,
        plan: Plan | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Yield a GPU's records in order of time, in pieces; see :class:`~telemetry.storage.store.Store`."""
        with self._leases.hold():
            with self._state:
                view, cold = self._hot.view(gpu), self._cold.files
            if view is None:
                return
            names = sorted(view.entry.gpu.latest) if metrics is None else list(metrics)
            start_us = OLDEST_US if span.start_us is None else span.start_us
            end_us = NEWEST_US if span.end_us is None else span.end_us
            mine = [
                file
                for file in cold
                if file.derived_from is None
                and file.gpu_min <= gpu <= file.gpu_max
                and file.first_us < end_us
                and file.last_us >= start_us
            ]
            on_damage = self._on_damage(plan)
            # Only where cold files have anything do the tiers have to be merged.
            first = max(start_us, min((file.first_us for file in mine), default=end_us))
            last = min(end_us, max((file.last_us + 1 for file in mine), default=end_us))
            stretches = [(start_us, first, False), (first, last, True), (last, end_us, False)]
            for low, high, is_mixed in reversed(stretches) if newest_first else stretches:
                if low >= high:
                    continue
                blocks = self._hot.blocks([view], low, high).get(view.entry.number, [])
                hot = self._hot.records(view, blocks, low, high, names, newest_first=newest_first)
                if not is_mixed:
                    yield from hot
                    continue
                older = cold_records(
                    self._cold.reader, mine, gpu, Span(low, high), names, newest_first=newest_first, on_damage=on_damage
                )
                yield from merge_in_order(older, hot, newest_first=newest_first) if blocks else older

    def series(
        self,
        gpus: Sequence[str],
        span: Span,
        steps: Steps,
        metrics: Sequence[str],
        aggregation: Aggregation,
        *,
        plan: Plan | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Yield metrics of GPUs over time, some GPUs at a time; see :class:`~telemetry.storage.store.Store`."""
        with self._leases.hold():
            with self._state:
                found = [self._hot.view(gpu) for gpu in sorted(gpus)]
                cold = self._cold.files
            views = [view for view in found if view]
            start_us = steps.start_us if span.start_us is None else span.start_us
            end_us = steps.start_us + steps.count * steps.width_us if span.end_us is None else span.end_us
            if start_us >= end_us or not views:
                return
            question = Question(start_us, end_us, steps, metrics, aggregation)
            tiers = Tiers(self._hot, self._cold.reader, cold)
            yield from gather(tiers, views, question, Plan() if plan is None else plan, self._on_damage(plan))

    def stats(self) -> StoreStats:
        """What the store holds."""
        cached_counts, cached_bytes = self._tails.usage()
        with self._state:
            cold, hot = self._cold.files, TierStats(self._hot.files_count, self._hot.size, 0)
            damaged = len(self._cold.damaged)
            quarantine_bytes, dropped_bytes = self._quarantine.size, self._quarantine.dropped_bytes
        tiers = {"hot": hot}
        for name, levels in _TIERS.items():
            mine = [file for file in cold if file.level in levels]
            tiers[name] = TierStats(len(mine), sum(file.size for file in mine), sum(file.rows for file in mine))
        return StoreStats(
            gpus=len(self._hot),
            stored_bytes=sum(tier.size for tier in tiers.values()),
            cached_counts=cached_counts,
            cached_bytes=cached_bytes,
            cache_entries_max=self._tails.entries_max,
            cache_bytes_max=self._tails.bytes_max,
            quarantine_bytes=quarantine_bytes,
            checkpoint_us=self._checkpoint_us,
            tiers=tiers,
            damaged_files=damaged,
            quarantine_dropped_bytes=dropped_bytes,
        )

    def close(self) -> None:
        """Let go of the files. Those that do not count (any more) go: others find each record once in the rest.

        What cannot be deleted now goes when the store is opened the next time.
        """
        with suppress(StoreError):
            self.sweep()
        with self._committing:
            with suppress(OSError, sqlite3.Error):
                self._cold.remove_strays()
            self._checkpoint.close()

    # For compaction. Nothing of it holds up readers; what writes waits for its turn with commits.

    @property
    def cold_directory(self) -> Path:
        """Where cold files are."""
        return self._cold.directory

    def close_files(self, opened_before_us: int) -> None:
        """Close the growing files whose first line came before ``opened_before_us``.

        Raises:
            StoreError: none is closed.
        """
        with self._committing:
            closings = self._hot.closings(opened_before_us)
            if not closings:
                return
            with _store_errors(self._hot.directory):
                self._hot.close_files(closings)
            self._checkpoint.commit(
                [closing.entry for closing in closings],
                [(closing.entry.number, closing.finished) for closing in closings if closing.finished],
                [closing.segment for closing in closings],
                {},
                self._quarantine.extent,
            )
            with self._state:
                self._hot.apply_closings(closings)

    def closed(self) -> list[Closed]:
        """All closed segments by GPU, those of a GPU in their order."""
        with self._state:
            segments = [(self._hot.name_of(segment.gpu), segment) for segment in self._hot.segments()]
        segments.sort(key=lambda each: each[0])
        return [
            Closed(segment, HotSegment(gpu, self._hot.path(segment), segment.end - segment.start))
            for gpu, segment in segments
        ]

    def cold_files(self) -> list[tuple[ColdFile, int]]:
        """All cold files, and when each was taken in."""
        with self._state:
            files, adopted_us = self._cold.files, self._cold.adopted_us
        return [(file, adopted_us[file.id]) for file in files]

    def damaged_files(self) -> Mapping[str, str]:
        """Path of each cold file that could not be read, and why."""
        return dict(self._cold.damaged)

    def report(self, error: ColdFileError) -> None:
        """Take note of a cold file that cannot be read."""
        with self._state:
            self._cold.report(error)

    def next_cold_number(self) -> int:
        """The first number for the files of a job."""
        return self._cold.next_number()

    def exchange(
        self,
        new: Sequence[ColdFile],
        *,
        segments: Sequence[Segment] = (),
        gone: Sequence[ColdFile] = (),
        now_us: int,
        next_number: int = 0,
    ) -> None:
        """Take in cold files and let go of what they replace, in one transaction, for readers in one moment.

        Args:
            new: files that are on disk.
            segments: closed segments, of each GPU the oldest.
            gone: cold files.
            now_us: what time it is.
            next_number: numbers below are never given again.

        Raises:
            StoreError: nothing has changed.
        """
        numbers = {file.id for file in gone}
        with self._committing:
            following = max(next_number, self._cold.next_number(), *(file.id + 1 for file in new), 0)
            self._checkpoint.exchange(new, gone=numbers, segments=segments, now_us=now_us, next_number=following)
            with self._state:
                self._hot.let_go(segments)
                self._cold.exchange(new, numbers, now_us)
                self._cold.reserve(following)
            self._leases.put_aside(_Replaced(segments, gone))

    def sweep(self) -> None:
        """Delete what has been replaced and is no longer read.

        Raises:
            StoreError: something could not be deleted; opening the store the next time will try again.
        """
        for replaced in self._leases.due():
            with _store_errors(self._hot.directory):
                self._hot.delete(replaced.segments)
                self._cold.delete(replaced.files)
            with self._committing:
                self._checkpoint.forget_blocks(replaced.segments)

    def _on_damage(self, plan: Plan | None) -> Callable[[ColdFileError], None]:
        def note(error: ColdFileError) -> None:
            self.report(error)
            if plan is not None:
                plan.warn(f"cold/{error.path} cannot be read and is left out: {error.reason}")

        return note

    def _novel(self, columns: Columns) -> tuple[Columns, int, int]:
        """Leave out what is stored already. Only GPUs with instants not after their newest one need a close look."""
        suspects = [
            gpu
            for gpu, (oldest, increasing) in oldest_by_gpu(columns).items()
            if not increasing or ((known := self._hot.find(gpu)) and oldest <= known.last_us)
        ]
        if not suspects:
            return columns, 0, 0
        is_suspect = pl.col(GPU).is_in(suspects)
        doubtful = columns.frame.filter(is_suspect)
        novelty = find_new(doubtful, self._stored_like(doubtful, columns), columns.places)
        frame = pl.concat([columns.frame.filter(~is_suspect), novelty.frame.select(columns.frame.columns)])
        return Columns(frame, columns.metrics), novelty.duplicates, novelty.conflicts

    def _stored_like(self, doubtful: pl.DataFrame, columns: Columns) -> pl.DataFrame:
        """What is stored for the GPUs and instants of ``doubtful``, in the same columns.

        Old and new records may come together: what lies between them is not looked at.
        """
        at = pl.col("at")
        begins = ((at.diff() > HOUR_US) | ((at // DAY_US).diff() != 0)).fill_null(True)
        stretches = (
            doubtful.select(GPU, pl.col(TIMESTAMP).dt.timestamp("us").alias("at"))
            .sort(GPU, "at")
            .with_columns(begins.cum_sum().over(GPU).alias("stretch"))
            .group_by(GPU, "stretch")
            .agg(at.min().alias("min"), at.max().alias("max"))
            .sort(GPU, "stretch")
        )
        # GPUs that go back about as far are looked at together.
        together: dict[int, list[tuple[str, int, int]]] = {}
        for gpu, _, oldest, newest in stretches.iter_rows():
            together.setdefault(oldest // HOUR_US, []).append((gpu, oldest, newest))
        instants = doubtful.select(GPU, TIMESTAMP).unique()
        parts = [doubtful.clear()]
        with self._leases.hold():
            with self._state:
                tiers = Tiers(self._hot, self._cold.reader, self._cold.files)
            for group in together.values():
                views = [view for gpu, _, _ in group if (view := self._hot.view(gpu))]
                start_us, end_us = min(each[1] for each in group), max(each[2] for each in group) + 1
                count = max(1, _LOOKED_AT_S // (1 + (end_us - start_us) // 1_000_000))
                for first in range(0, len(views), count):
                    some = views[first : first + count]
                    for rows in rows_of(tiers, some, start_us, end_us, columns.metrics, self._on_damage(None)):
                        parts.append(rows.join(instants, on=[GPU, TIMESTAMP], how="semi").select(doubtful.columns))
        return pl.concat(parts)


_TIERS: Final = {
    "raw": (Level.HOUR, Level.DAY),
    "1m": (Level.MINUTE_ROLLUP,),
    "1h": (Level.HOUR_ROLLUP,),
}
"""The cold tiers by name, and where their files are."""


@contextmanager
def _store_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise StoreError(f"{error.filename or directory}: {error.strerror}", full=full) from None
