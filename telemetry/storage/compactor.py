"""Moves records from the hot to the cold tier, merges cold files and deletes what is too old, round by round.

The work is done by a process of its own, so that it neither holds up commits nor takes memory from the collector.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from telemetry.storage.cold.child import run_in_child
from telemetry.storage.cold.files import ColdFileError
from telemetry.storage.cold.job import Job, JobError, JobResult
from telemetry.storage.compaction import GRACE_US, Merge, Retention, departures, expired, merges, moves
from telemetry.storage.store import StoreError
from telemetry.storage.tiered import TieredStore

log = logging.getLogger(__name__)

JOB_MEMORY_BYTES: Final = 128 << 20
"""Memory that a job's rows may take, about."""

BACKOFF_S_MAX: Final = 3600.0
"""The longest wait after rounds that failed."""

BLAMED_MAX: Final = 10
"""So many files may turn out to be damaged in a round before it is given up."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class CompactionSettings:
    """When to compact what.

    Attributes:
        interval_s: from the end of a round to the next; 0 means that there are none.
        after_s: records move this long after the first of their file came.
        retention: what is deleted.
    """

    interval_s: float = 300.0
    after_s: float = 3600.0
    retention: Retention = field(default_factory=Retention)


@dataclass(slots=True)
class CompactionStats:
    """What has come of it since the start of the process.

    Attributes:
        jobs: jobs that succeeded.
        failures: rounds that failed.
        damaged_lines: lines of hot files that were no records; they are kept in `cold/damaged/`.
        last_us: when the last round ended that did not fail; ``None`` before.
        trouble: why the last round failed; empty if it did not.
    """

    jobs: int = 0
    failures: int = 0
    damaged_lines: int = 0
    last_us: int | None = None
    trouble: str = ""


class Compactor:
    """Runs rounds. A round that fails is reported and tried again later; what it had finished stays."""

    def __init__(
        self,
        store: TieredStore,
        settings: CompactionSettings,
        *,
        run: Callable[[Job], Awaitable[JobResult]] = run_in_child,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        """Prepare.

        Args:
            store: what to compact.
            settings: when and what.
            run: does a job.
            clock_us: what time it is, in microseconds since 1970.
        """
        self._store, self._settings = store, settings
        self._run, self._clock_us = run, clock_us
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compact")
        self._unreadable: dict[str, str] = {}
        """GPUs whose closed files cannot be read, and why; they are left alone until the store is opened again."""
        self.stats: Final = CompactionStats()

    async def run(self) -> None:
        """Run rounds until cancelled."""
        if not self._settings.interval_s:
            await asyncio.get_running_loop().create_future()
        wait_s = self._settings.interval_s
        while True:
            await asyncio.sleep(wait_s)
            try:
                await self.round()
            except Exception as error:  # Whatever is wrong with it, records are stored as before.
                self.stats.failures += 1
                self.stats.trouble = str(error)
                wait_s = min(2 * wait_s, max(BACKOFF_S_MAX, self._settings.interval_s))
                expected = isinstance(error, JobError | StoreError)
                extra = {"error": str(error), "retry_s": round(wait_s, 3)}
                log.error("compaction failed", exc_info=None if expected else error, extra=extra)
            else:
                wait_s = self._settings.interval_s

    async def round(self) -> None:
        """Do all there is to do now.

        Raises:
            JobError: a job failed.
            StoreError: something could not be written.
        """
        now_us = self._clock_us()
        after_us = int(self._settings.after_s * 1e6)
        await self._in_thread(self._store.close_files, now_us - after_us)
        await self._all(lambda: list(self._moves()), now_us, after_us)
        await self._all(lambda: list(self._merges(now_us, after_us)), now_us, after_us)
        newest_us = max((gpu.last_us for gpu in self._store.gpus()), default=0)
        await self._all(lambda: list(self._departures(now_us, newest_us)), now_us, after_us)
        await self._in_thread(self._expire, now_us, newest_us)
        await self._in_thread(self._store.sweep)
        self.stats.last_us = self._clock_us()
        self.stats.trouble = "; ".join(f"GPU {gpu} cannot be compacted: {why}" for gpu, why in self._unreadable.items())

    def close(self) -> None:
        """Wait for what is being written. Cancel :meth:`run` before."""
        self._thread.shutdown(wait=True)

    def _moves(self) -> Iterator[Merge]:
        return moves([each for each in self._store.closed() if each.file.gpu not in self._unreadable])

    def _merges(self, now_us: int, after_us: int) -> Iterator[Merge]:
        files = [file for file, _ in self._store.cold_files()]
        return merges(files, now_us, after_us, self._store.damaged_files())

    def _departures(self, now_us: int, newest_us: int) -> Iterator[Merge]:
        files, damaged = self._store.cold_files(), self._store.damaged_files()
        return departures(files, self._settings.retention, now_us, newest_us, damaged)

    async def _all(self, plan: Callable[[], Sequence[Merge]], now_us: int, after_us: int) -> None:
        """Do all that ``plan`` says. When a file is to blame for a failure there is a new plan, without that file."""
        blamed = 0
        todo = deque(await self._in_thread(plan))
        while todo:
            merge = todo.popleft()
            try:
                await self._do(merge, now_us, after_us + GRACE_US)
            except JobError as error:
                blamed += 1
                if blamed > BLAMED_MAX or not self._blame(merge, error):
                    raise
                todo = deque(await self._in_thread(plan))

    async def _do(self, merge: Merge, now_us: int, grace_us: int) -> None:
        job = Job(
            directory=self._store.cold_directory,
            segments=[each.file for each in merge.segments],
            files=merge.files,
            minutes_of=merge.minutes_of,
            next_id=self._store.next_cold_number(),
            now_us=now_us,
            grace_us=grace_us,
            memory_bytes=JOB_MEMORY_BYTES,
        )
        started = time.perf_counter()
        result = await self._run(job)
        adopt = partial(
            self._store.exchange,
            result.files,
            segments=[each.segment for each in merge.segments],
            gone=[*merge.files, *merge.rollups],
            now_us=now_us,
            # Even a job that wrote no file has given its number to the damaged lines that it kept.
            next_number=job.next_id + 1,
        )
        await self._in_thread(adopt)
        await self._in_thread(self._store.sweep)
        self.stats.jobs += 1
        self.stats.damaged_lines += result.damaged_lines
        for damage in result.damaged:
            log.error("a line is no record", extra=damage.to_json())
        log.info(
            "compacted",
            extra={
                "segments": len(job.segments),
                "files": len(job.files) + len(job.minutes_of),
                "into": len(result.files),
                "bytes": sum(file.size for file in result.files),
                "seconds": round(time.perf_counter() - started, 3),
            },
        )

    def _blame(self, merge: Merge, error: JobError) -> bool:
        """Whether the error names a file that plans can do without from now on."""
        for file in (*merge.files, *merge.minutes_of):
            if file.path == error.path:
                self._store.report(ColdFileError(file.path, str(error)))
                return True
        for each in merge.segments:
            if str(each.file.path) == error.path:
                log.error("a closed file cannot be read", extra={"file": error.path, "error": str(error)})
                self._unreadable[each.file.gpu] = str(error)
                return True
        return False

    def _expire(self, now_us: int, newest_us: int) -> None:
        gone = expired(self._store.cold_files(), self._settings.retention, now_us, newest_us)
        if gone:
            log.info("deleting old files", extra={"files": len(gone), "bytes": sum(file.size for file in gone)})
            self._store.exchange((), gone=gone, now_us=now_us)

    async def _in_thread(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
