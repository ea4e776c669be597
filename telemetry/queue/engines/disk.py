"""The disk engine: messages in a log of segments, positions in SQLite, nothing confirmed before the disk has it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from telemetry.queue.core.errors import FullError
from telemetry.queue.core.limits import DEFAULT_LIMITS, Limits
from telemetry.queue.core.topics import TopicDefaults
from telemetry.queue.core.types import LogStats, Storage
from telemetry.queue.engines.disk_log import CACHE_BYTES, SEGMENT_BYTES, DiskLog
from telemetry.queue.engines.driver import Clock, system_clock
from telemetry.queue.engines.files import SYSTEM_FILES, Files, Lock
from telemetry.queue.engines.fsync import ALWAYS, NEVER, FsyncPolicy
from telemetry.queue.engines.local import LocalEngine
from telemetry.queue.engines.memory_log import MemoryLog
from telemetry.queue.engines.quarantine import Quarantine
from telemetry.queue.engines.restoring import Restoring
from telemetry.queue.engines.segments import list_segments
from telemetry.queue.engines.sqlite_catalogue import SqliteCatalogue
from telemetry.runtime.errors import DataDirectoryError

__all__ = ["ALWAYS", "NEVER", "DiskEngine", "FsyncPolicy"]

_log = logging.getLogger(__name__)


class DiskEngine(LocalEngine):
    """A `QueueEngine` on disk. Topics may still be in memory where they are made so."""

    name = "disk"
    _catalogue: SqliteCatalogue

    def __init__(
        self,
        directory: Path,
        *,
        fsync: FsyncPolicy = ALWAYS,
        create_missing_topics: bool = True,
        limits: Limits = DEFAULT_LIMITS,
        clock: Clock = system_clock,
        segment_bytes: int = SEGMENT_BYTES,
        cache_bytes: int = CACHE_BYTES,
        files: Files = SYSTEM_FILES,
        nonce: str | None = None,
    ) -> None:
        """Make an engine; nothing is touched before :meth:`start`.

        Args:
            directory: is made when it does not exist, and held exclusively.
            fsync: when publishing waits for the disk. Positions are always synced.
            create_missing_topics: whether publishing and subscribing to a topic that does not exist makes it.
            limits: what is refused because it is too much.
            clock: the time, for tests.
            segment_bytes: size of the log's files.
            cache_bytes: how much of the newest batches is kept in memory.
            files: the disk, for tests.
            nonce: tells this start of the queue from all others; at random unless a test must be repeatable.
        """
        partition_bytes = {Storage.DISK: limits.partition_bytes, Storage.MEMORY: limits.memory_partition_bytes}
        defaults = TopicDefaults(Storage.DISK, partition_bytes, limits)
        super().__init__(defaults, create_missing_topics=create_missing_topics, clock=clock, nonce=nonce)
        self._directory = directory
        self._fsync = fsync
        self._segment_bytes = segment_bytes
        self._cache_bytes = cache_bytes
        self._files = files
        self._lock: Lock | None = None
        self._disk_log: DiskLog | None = None

    async def start(self) -> None:
        """Take the directory and recover what is in it.

        Raises:
            DataDirectoryError: if the directory cannot be used, is in use, or was written by a later version.
        """
        lock = self._files.lock(self._directory)
        try:
            self._disk_log = await asyncio.to_thread(self._recover)
        except BaseException:
            lock.close()
            raise
        self._lock = lock
        self._disk_log.start()
        await super().start()

    async def stop(self) -> None:
        """Finish what is in flight and let go of the directory."""
        if self._disk_log is None or self._lock is None:
            return
        await super().stop()
        await self._disk_log.stop()
        await self._catalogue.stop()
        self._lock.close()
        self._disk_log = None

    async def _tidy(self) -> None:
        """Delete segments of which nothing is needed, once it is kept elsewhere what they alone could tell."""
        assert self._disk_log is not None
        segments = self._disk_log.reclaimable()
        if not segments:
            return
        for topic in self._core.topics.values():
            for partition in topic.partitions:
                self._catalogue.put_start(partition)
        try:
            await self._catalogue.commit()
        except FullError as error:
            _log.warning("room cannot be reclaimed yet", extra={"error": error.message})
            return
        await self._disk_log.reclaim(segments)

    def _log_stats(self) -> LogStats | None:
        return self._disk_log.stats() if self._disk_log is not None else None

    # Recovery, in a thread, before anything else is called

    def _recover(self) -> DiskLog:
        catalogue, segments = self._directory / "catalogue.sqlite", self._directory / "log"
        self._catalogue = SqliteCatalogue(self._files, catalogue, self.failed)
        try:
            log = DiskLog(
                self._files,
                segments,
                Quarantine(self._files, self._directory / "quarantine"),
                self,
                self._fsync,
                lambda: self._clock().monotonic_s,
                segment_bytes=self._segment_bytes,
                cache_bytes=self._cache_bytes,
            )
            self._logs = {Storage.DISK: log, Storage.MEMORY: MemoryLog(self)}
            self._files.make_directory(segments)
            if self._catalogue.is_new and list_segments(self._files, segments):
                raise DataDirectoryError(
                    f"{catalogue} is missing or empty, and without it nobody knows whose messages {segments} holds; "
                    "put it back, or move all of the directory away to begin anew"
                )
            restoring = Restoring(self._core, self._catalogue.load())
            log.recover(restoring)
            restoring.finish()
            self._files.sync_directory(self._directory)
        except BaseException:
            self._catalogue.close()
            raise
        return log
