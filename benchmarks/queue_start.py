"""How long a queue takes to start on a log that is large, and how much memory it has then.

Builds a log of the size asked for, ends without closing it as a crash would, and starts the engine in fresh processes,
each time with the log's files out of the page cache: after the crash, after a clean stop, and, if asked for, without
summaries. Each time is also printed as a part of what it takes to read the same bytes from end to end.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple, ParamSpec, TypeVar

import psutil

from telemetry.queue.core.types import PublishBatch, SubscribeOptions, TopicConfig
from telemetry.queue.engines.disk import NEVER, DiskEngine

PARTITIONS: Final = 8
TOPIC: Final = "telemetry"
IN_FLIGHT: Final = 256
"""Batches that are published side by side."""
READ_BYTES: Final = 4 << 20

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def in_a_process_of_its_own(
    work: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Call a function where nothing is loaded or cached yet."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *args, **kwargs).result()


def batch_of(size: int) -> bytes:
    """One message in an encoded batch of ``size`` bytes, to within a few."""
    data = _field(bytes(os.urandom(size - 10)))
    return _field(data)


def _field(data: bytes) -> bytes:
    length, rest = bytearray(), len(data)
    while rest >= 128:
        length.append(rest & 127 | 128)
        rest >>= 7
    return b"\n" + bytes([*length, rest]) + data


def build(directory: Path, total_bytes: int, batch_bytes: int) -> float:
    """Fill a log and stop as if killed; returns the memory in use, in MB."""
    return asyncio.run(_build(directory, total_bytes, batch_bytes))


async def _build(directory: Path, total_bytes: int, batch_bytes: int) -> float:
    engine = DiskEngine(directory, fsync=NEVER)
    await engine.start()
    await engine.create_topic(TopicConfig(TOPIC, partitions=PARTITIONS))
    (await engine.subscribe(SubscribeOptions((TOPIC,), group="collectors"))).close(drained=True)
    batch, left = batch_of(batch_bytes), -(-total_bytes // batch_bytes)

    async def publisher(number: int) -> None:
        nonlocal left
        partition, sequence = number % PARTITIONS, 0
        while left > 0:
            left -= 1
            await engine.publish(
                PublishBatch(
                    TOPIC,
                    bytes(memoryview(batch)),  # as if it had just been received
                    1,
                    partition=partition,
                    producer_id=f"producer-{number}",
                    producer_epoch=1,
                    first_sequence=sequence,
                )
            )
            sequence += 1

    await asyncio.gather(*(publisher(number) for number in range(IN_FLIGHT)))
    # The process ends without having closed anything.
    return rss_mb()


class Started(NamedTuple):
    """What a start took: seconds, how many of them on the processor, and MB in use before it and after."""

    seconds: float
    cpu_s: float
    before_mb: float
    after_mb: float


def start(directory: Path, batches: int) -> Started:
    """Start an engine and stop it again."""
    logging.disable(logging.WARNING)  # that summaries are missing is what is measured
    return asyncio.run(_start(directory, batches))


async def _start(directory: Path, batches: int) -> Started:
    before_mb = rss_mb()
    engine = DiskEngine(directory)
    begun_s, begun_cpu_s = time.monotonic(), time.process_time()
    await engine.start()
    started = Started(time.monotonic() - begun_s, time.process_time() - begun_cpu_s, before_mb, rss_mb())
    (topic,) = (await engine.stats()).topics
    if topic.messages != batches:
        raise SystemExit(f"{topic.messages} batches are there again of {batches}")
    await engine.stop()
    return started


def read_through(directory: Path) -> float:
    """Read all segments from end to end; returns the seconds."""
    begun = time.monotonic()
    buffer = memoryview(bytearray(READ_BYTES))
    for path in sorted((directory / "log").glob("*.segment")):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.monotonic() - begun


def forget_cached(directory: Path) -> None:
    """Ask the system to drop what it has cached of the directory's files."""
    for path in directory.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)


def rss_mb() -> float:
    """Memory in use by this process, in MB."""
    return float(psutil.Process().memory_info().rss) / 1e6


def measure(directory: Path, total_bytes: int, batch_bytes: int, *, rebuild: bool) -> None:
    """Build a log and print what starting with it takes."""
    batches = -(-total_bytes // batch_bytes)
    built_mb = in_a_process_of_its_own(build, directory, total_bytes, batch_bytes)
    log_bytes = sum(path.stat().st_size for path in (directory / "log").glob("*.segment"))
    print(f"{log_bytes / 1e9:.1f} GB in {batches:,} batches of {batch_bytes / 1000:g} KB", flush=True)
    print(f"  {'the process that wrote it':32}                          {built_mb:6.0f} MB")
    forget_cached(directory)
    reading_s = read_through(directory)
    print(f"  {'reading it from end to end':32} {reading_s:8.3f} s", flush=True)

    def row(name: str) -> None:
        forget_cached(directory)
        started = in_a_process_of_its_own(start, directory, batches)
        print(
            f"  {name:32} {started.seconds:8.3f} s ({started.cpu_s:.3f} s CPU)  "
            f"{started.after_mb:6.0f} MB ({started.after_mb - started.before_mb:+.0f})  "
            f"{started.seconds / reading_s:.2f} of reading it",
            flush=True,
        )

    row("start after a crash")
    row("start after a clean stop")
    summaries = list((directory / "log").glob("*.summary"))
    kept = sum(path.stat().st_size for path in summaries)
    if rebuild:
        for path in summaries:
            path.unlink()
        row("start without summaries")
    print(f"  {'the summaries':32} {kept / batches:8.1f} bytes a batch")


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=2.0, help="size of the log (2)")
    parser.add_argument("--batch-kb", type=float, nargs="+", default=[2, 10, 100], help="sizes of batches (2 10 100)")
    parser.add_argument("--folder", type=Path, help="where to build it (a temporary directory, removed at the end)")
    parser.add_argument("--rebuild", action="store_true", help="also start without summaries, which reads everything")
    options = parser.parse_args()
    need = int(options.gb * 1e9)
    for batch_kb in options.batch_kb:
        folder = Path(tempfile.mkdtemp(prefix="queue-start-", dir=options.folder))
        try:
            if shutil.disk_usage(folder).free < need * 1.2:
                sys.exit(f"{folder} has no room for {options.gb:g} GB; name another with --folder")
            measure(folder, need, int(batch_kb * 1000), rebuild=options.rebuild)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
