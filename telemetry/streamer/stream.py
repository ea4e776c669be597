"""Carries files to the queue: reads, paces, cuts and publishes, with every row of a single pass stored exactly once.

One pass over a file is cut into messages in the same way every time, and they are numbered for each partition under a
producer named after the file and all that decides how it is cut. So a streamer that was killed reads the file again,
passes over what the queue already has, and goes on there; the queue recognises anything sent twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, tzinfo
from pathlib import Path
from time import perf_counter
from typing import Final, Literal, TypeVar

from telemetry.queue.client import Credentials, Publisher, QueueClientError
from telemetry.runtime.errors import StartupError
from telemetry.streamer.messages import Encoding, Packer, Slice
from telemetry.streamer.outlet import Outlet
from telemetry.streamer.pacing import ArrivalStamps, Pacer
from telemetry.streamer.sources.layout import SourceError
from telemetry.streamer.sources.lines import BLOCK_BYTES
from telemetry.streamer.sources.opening import open_source
from telemetry.streamer.sources.rows import Rows, Source
from telemetry.streamer.stats import FileProgress, Stats
from telemetry.topics import DATA, QUARANTINE, QUARANTINE_TOPIC
from telemetry.v1.queue_admin_pb2 import Topic

log = logging.getLogger(__name__)

PRODUCER_EPOCH: Final = 1
"""Always the same: what a file's numbers mean never changes, so an earlier process need not be fenced. What it may
still have on its way counts as ours."""

DRAIN_S: Final = 10.0
"""How long a stream that was told to stop waits for confirmations."""

CLOSE_S: Final = 1.0
"""How long closing a publisher may take that has nothing more to confirm."""

RETRY_S: Final = 1.0
"""How long files that cannot be read are left alone before it is their turn again."""

_CUT: Final = "1"
"""Part of a producer's name; to be changed when files are cut in another way."""

_Result = TypeVar("_Result")


class StreamError(StartupError):
    """The stream cannot go on."""


class UnusableFilesError(StreamError):
    """There is nothing in the files that can be streamed; starting again would change nothing."""

    exit_code = os.EX_DATAERR


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """What to stream, and how.

    Attributes:
        files: CSV or JSON Lines, plain or gzipped; Parquet; Arrow.
        queue: the queue, ``host:port``.
        topic: where records go.
        encoding: ``arrow``, thousands of records a message, or ``json``, one.
        rate: rows a second and worker; 0 means as fast as it goes.
        workers: how many files are read at a time, and threads that read and encode.
        once: one pass over the files, instead of beginning again for ever.
        timestamps: ``source`` keeps the files' times, ``now`` stamps records as they go out.
        duration_s: when to stop; ``None`` means not before the end.
        zone: where the clock stood that wrote times without a zone.
        credentials: for a queue with TLS or tokens.
    """

    files: Sequence[Path]
    queue: str = "127.0.0.1:9091"
    topic: str = "telemetry"
    encoding: Encoding = "arrow"
    rate: float = 0.0
    workers: int = 4
    once: bool = True
    timestamps: Literal["source", "now"] = "source"
    duration_s: float | None = None
    zone: tzinfo = UTC
    credentials: Credentials | None = None


class Streamer:
    """Streams files until they are done, the time is up, or it is told to stop."""

    def __init__(self, settings: StreamSettings) -> None:
        self._settings = settings
        self.stats: Final = Stats(files=[FileProgress(str(path)) for path in settings.files])
        self._stop = asyncio.Event()
        self._lanes = min(settings.workers, len(settings.files))
        self._pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="streamer")

    async def run(self, stop: asyncio.Event) -> None:
        """Stream.

        Raises:
            StreamError: if no file can be streamed, or the queue refuses what it is sent.
        """
        await self._check_files()
        started = perf_counter()
        work = asyncio.create_task(self._work())
        ticking = asyncio.create_task(self._tick())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((work, stopping), timeout=self._settings.duration_s, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                # What has not been sent yet need not be waited for.
                drain_s = DRAIN_S if self.stats.state == "streaming" else 0.0
                self.stats.state = "stopping"
                self._stop.set()
                await asyncio.wait((work,), timeout=drain_s)
            if work.done():
                await work
            else:
                log.warning("stopped without the queue having confirmed everything")
        finally:
            for task in (work, ticking, stopping):
                task.cancel()
            await asyncio.gather(work, ticking, stopping, return_exceptions=True)
            self._pool.shutdown(wait=False, cancel_futures=True)
        if not self._stop.is_set():
            self.stats.state = "finished"
        self._summarise(perf_counter() - started)

    async def _check_files(self) -> None:
        """See which files can be streamed, before anything is sent."""
        for path, progress in zip(self._settings.files, self.stats.files, strict=True):
            try:
                source = await self._open(path)
            except SourceError as error:
                progress.error = str(error)
                log.error("a file cannot be streamed", extra={"reason": str(error)})
            else:
                progress.size = source.size
                source.close()
        errors = [progress.error for progress in self.stats.files if progress.error]
        if len(errors) == len(self._settings.files):
            raise UnusableFilesError("; ".join(errors))

    async def _work(self) -> None:
        try:
            async with asyncio.TaskGroup() as lanes:
                for number in range(self._lanes):
                    lanes.create_task(self._lane(number))
        except BaseExceptionGroup as errors:
            error = _first(errors)
            if isinstance(error, QueueClientError):
                raise StreamError(f"the queue at {self._settings.queue} refused: {error}") from None
            raise error from None

    async def _lane(self, number: int) -> None:
        """Play every so manyth file, one after another."""
        pacer = Pacer(self._settings.rate * self._settings.workers / self._lanes)
        playlist = range(number, len(self._settings.files), self._lanes)
        if not self._settings.once:
            await self._play_for_ever(playlist, pacer)
            return
        for index in playlist:
            if not self._stop.is_set() and not self.stats.files[index].error:
                await self._play_once(index, pacer)

    async def _play_for_ever(self, playlist: Sequence[int], pacer: Pacer) -> None:
        stamps = {index: ArrivalStamps() for index in playlist}
        async with _opened(
            Publisher(self._settings.queue, delivery_timeout_s=None, credentials=self._settings.credentials)
        ) as publisher:
            partitions = await self._prepare(publisher)
            while not self._stop.is_set():
                for index in playlist:
                    stamps[index].begin_pass()
                    await self._play(index, pacer, self._outlet(publisher), partitions, stamps[index])
                if all(self.stats.files[index].error for index in playlist):
                    await self._pause(RETRY_S)

    async def _play_once(self, index: int, pacer: Pacer) -> None:
        counts, path = self.stats.counts, self._settings.files[index]
        producer = _producer(path, self._settings, pacer)
        async with _opened(
            Publisher(
                self._settings.queue,
                producer,
                PRODUCER_EPOCH,
                delivery_timeout_s=None,
                credentials=self._settings.credentials,
            )
        ) as publisher:
            partitions = await self._prepare(publisher)
            stored = await _stored(publisher, self._settings.topic), await _stored(publisher, QUARANTINE_TOPIC)
            outlet = self._outlet(publisher, stored)
            skipped, sent = counts.skipped, counts.messages
            await self._play(index, pacer, outlet, partitions, ArrivalStamps())
        if counts.skipped > skipped:
            everything = counts.messages == sent
            log.info(
                "every row was in the queue already" if everything else "went on where an earlier run had stopped",
                extra={"file": str(path), "skipped": counts.skipped - skipped},
            )

    async def _prepare(self, publisher: Publisher) -> int:
        """Make the topics; how many partitions the data's has."""
        if self.stats.state == "starting":
            self.stats.state = "waiting for the queue"
        topic = Topic(name=self._settings.topic, partitions=DATA.partitions, retention=DATA.retention)
        partitions = await publisher.ensure(topic)
        await publisher.ensure(QUARANTINE)
        self.stats.state = "streaming"
        return partitions

    def _outlet(self, publisher: Publisher, stored: tuple[dict[int, int], dict[int, int]] | None = None) -> Outlet:
        settings = self._settings
        return Outlet(publisher, settings.topic, settings.encoding, self.stats.counts, self._pool, stored)

    async def _play(self, index: int, pacer: Pacer, outlet: Outlet, partitions: int, stamps: ArrivalStamps) -> None:
        """Make one pass over a file."""
        progress = self.stats.files[index]
        try:
            source = await self._open(self._settings.files[index])
        except SourceError as error:
            progress.error = str(error)
            log.error("a file cannot be streamed", extra={"reason": str(error)})
            return
        progress.error, progress.size, progress.position = "", source.size, 0
        stamped = self._settings.timestamps == "now" or not source.has_time
        try:
            async with outlet:
                await self._pass(source, progress, pacer, outlet, Packer(partitions), stamps if stamped else None)
        finally:
            source.close()

    async def _pass(
        self,
        source: Source,
        progress: FileProgress,
        pacer: Pacer,
        outlet: Outlet,
        packer: Packer,
        stamps: ArrivalStamps | None,
    ) -> None:
        def pack(block: Rows, start: int, count: int, due: tuple[int, int]) -> list[Slice]:
            records = source.records(block.rows[start : start + count])
            if stamps is not None:
                records = stamps.stamp(records, *due, count)
            full = packer.add(records)
            # A paced stream shows what it has.
            return full + packer.flush() if pacer.chunk_rows else full

        async with aclosing(self._blocks(source)) as blocks:
            async for block in blocks:
                if progress.passes == 0:
                    progress.quarantined += len(block.bad)
                    await outlet.quarantine(block.bad, source.name, source.header)
                for start, count in _chunks(block.rows.height, pacer.chunk_rows):
                    due = await self._due(pacer, count)
                    if due is None:
                        if not self._settings.once:
                            await outlet.publish(packer.flush(), source.name)
                        # Else what waits is not sent: cut here, it would not be what the next run cuts.
                        return
                    await outlet.publish(await self._in_thread(pack, block, start, count, due), source.name)
                    self.stats.counts.rows += count
                    progress.rows += count
                progress.position = block.position
        await outlet.publish(packer.flush(), source.name)
        progress.passes += 1

    async def _blocks(self, source: Source) -> AsyncGenerator[Rows]:
        """A file's blocks, one read ahead."""
        blocks = iter(source)
        ahead = asyncio.ensure_future(self._in_thread(next, blocks, None))
        try:
            while (block := await ahead) is not None:
                ahead = asyncio.ensure_future(self._in_thread(next, blocks, None))
                yield block
        finally:
            # The file must not be closed while it is being read.
            with suppress(asyncio.CancelledError):
                await asyncio.shield(ahead)

    async def _due(self, pacer: Pacer, rows: int) -> tuple[int, int] | None:
        """Wait until rows are due; when they are, as :meth:`Pacer.wait` says, or ``None`` if the stream is to stop."""
        waiting = asyncio.ensure_future(pacer.wait(rows))
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((waiting, stopping), return_when=asyncio.FIRST_COMPLETED)
            return None if self._stop.is_set() else waiting.result()
        finally:
            waiting.cancel()
            stopping.cancel()

    async def _open(self, path: Path) -> Source:
        return await self._in_thread(open_source, path, self._settings.zone)

    async def _in_thread(self, work: Callable[..., _Result], *arguments: object) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _tick(self) -> None:
        while True:
            self.stats.tick()
            await asyncio.sleep(1)

    def _summarise(self, seconds: float) -> None:
        counts = self.stats.counts
        failed = [progress.file for progress in self.stats.files if progress.error]
        log.info(
            "stopped" if self._stop.is_set() else "finished",
            extra={
                "rows": counts.rows,
                "records": counts.records,
                "samples": counts.samples,
                "messages": counts.messages,
                "skipped": counts.skipped,
                "quarantined": counts.quarantined,
                "seconds": round(seconds, 2),
                **({"failed": failed} if failed else {}),
            },
        )


@asynccontextmanager
async def _opened(publisher: Publisher) -> AsyncIterator[Publisher]:
    """A publisher that is not waited for in the end: an outlet has done that, or there is no time."""
    await publisher.start()
    try:
        yield publisher
    finally:
        await publisher.aclose(CLOSE_S)


async def _stored(publisher: Publisher, topic: str) -> dict[int, int]:
    """The last sequence of this file that the queue has, by partition."""
    positions = await publisher.positions(topic)
    return {partition: position.last_sequence for partition, position in positions.items()}


def _chunks(height: int, rows: int) -> Iterator[tuple[int, int]]:
    """Where to cut a block's rows: start and count of each chunk; ``rows`` 0 means not at all."""
    size = max(rows or height, 1)
    return ((start, min(size, height - start)) for start in range(0, height, size))


def _producer(path: Path, settings: StreamSettings, pacer: Pacer) -> str:
    """A name for a file's contents and all that decides how they are cut."""
    try:
        status = path.stat()
    except OSError as error:
        raise StreamError(f"{path}: {error.strerror or error}") from None
    parts = (
        _CUT,
        str(path.resolve()),
        status.st_size,
        status.st_mtime_ns,
        BLOCK_BYTES,
        settings.encoding,
        settings.timestamps,
        str(settings.zone),
        pacer.chunk_rows,
    )
    return f"streamer/{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
