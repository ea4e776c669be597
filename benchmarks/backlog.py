"""What a collector's memory does when there is much to catch up with: its RSS while it works through a backlog.

    python -m benchmarks.backlog                               # 1 GB
    python -m benchmarks.backlog --megabytes 300 -- --max-entries 0    # flags of the collector after --

The values are noise, so that a message takes about as much memory as it has bytes. If memory grew with the backlog,
each quarter of it would take more than the one before.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import grpc
import numpy as np
import polars as pl

from benchmarks.queue.programs import HOST, Program, free_port
from telemetry.codec import ARROW_CONTENT_TYPE, CONTENT_TYPE, TIME_TYPE, encode_arrow
from telemetry.model import GPU, TIMESTAMP
from telemetry.queue.client import OutgoingMessage, Publisher
from telemetry.topics import DATA, DATA_TOPIC
from telemetry.v1 import query_pb2, query_pb2_grpc

RECORDS: Final = 5_000
METRICS: Final = 20
GPUS: Final = 32
"""GPUs of a partition."""
STEP_S: Final = 0.05
IN_FLIGHT: Final = 16
PARTS: Final = 4


def message(number: int, partition: int) -> OutgoingMessage:
    """The message of so high a number in a partition: all of its GPUs in turn, a second apart."""
    rows = np.arange(number * RECORDS, (number + 1) * RECORDS)
    noise = np.random.default_rng((number, partition)).random((METRICS, RECORDS)) * 1000
    frame = pl.DataFrame(
        [
            pl.Series(TIMESTAMP, 1_767_225_600_000_000 + rows // GPUS * 1_000_000).cast(TIME_TYPE),
            pl.Series(GPU, [f"GPU-{partition}-{row % GPUS:02}" for row in rows]),
            *(pl.Series(f"metric_{place}", values) for place, values in enumerate(noise)),
        ]
    )
    return OutgoingMessage(encode_arrow(frame), {CONTENT_TYPE: ARROW_CONTENT_TYPE})


async def fill(address: str, size: int) -> int:
    """Publish about so many bytes; returns how many records they hold."""
    async with Publisher(address) as publisher:
        await publisher.ensure(DATA)
        room = asyncio.Semaphore(IN_FLIGHT)
        tasks: list[asyncio.Task[None]] = []
        sent = 0

        async def send(partition: int, one: OutgoingMessage) -> None:
            await publisher.publish_batch(DATA_TOPIC, [one], partition=partition)
            room.release()

        while sent < size:
            number, partition = divmod(len(tasks), DATA.partitions)
            one = message(number, partition)
            sent += len(one.data)
            await room.acquire()
            tasks.append(asyncio.create_task(send(partition, one)))
        await asyncio.gather(*tasks)
    return len(tasks) * RECORDS


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill a queue, start a collector, and watch it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("flags", nargs="*", metavar="FLAG", help="more flags of the collector, after --")
    options = parser.parse_args(arguments)
    grpc_port, http_port, collector_port, health_port = (free_port() for _ in range(4))
    with tempfile.TemporaryDirectory(prefix="telemetry-bench-") as name:
        folder = Path(name)
        queue = Program.python(
            folder, "queue", "-m", "telemetry", "queue", "--data-dir", folder / "queue",
            "--grpc-port", grpc_port, "--http-port", http_port,
        )  # fmt: skip
        programs = [queue]
        try:
            queue.wait_listening(grpc_port)
            records = asyncio.run(fill(f"{HOST}:{grpc_port}", options.megabytes * 1_000_000))
            collector = Program.python(
                folder, "collector", "-m", "telemetry", "collector", "--queue", f"{HOST}:{grpc_port}",
                "--data-dir", folder / "store", "--grpc-port", collector_port, "--health-port", health_port,
                *options.flags,
            )  # fmt: skip
            programs.append(collector)
            collector.wait_listening(collector_port)
            began, idle_mb = time.monotonic(), collector.rss_mb()
            with grpc.insecure_channel(f"{HOST}:{collector_port}") as channel:
                stub = query_pb2_grpc.QueryServiceStub(channel)
                highest_mb, queue_mb, stored = [idle_mb] * PARTS, queue.rss_mb(), 0
                while stored < records:
                    time.sleep(STEP_S)
                    part = stored * PARTS // records
                    highest_mb[part] = max(highest_mb[part], collector.rss_mb())
                    queue_mb = max(queue_mb, queue.rss_mb())
                    stored = stub.GetStats(query_pb2.QueryServiceGetStatsRequest()).stats.records
            took_s = time.monotonic() - began
            print(
                f"backlog {options.megabytes:,} MB, {records:,} records of {DATA.partitions * GPUS} GPUs, "
                f"{METRICS} metrics each\n"
                f"collector RSS: idle {idle_mb:.0f} MB; highest in each quarter of the backlog "
                f"{', '.join(f'{highest:.0f}' for highest in highest_mb)} MB; afterwards {collector.rss_mb():.0f} MB\n"
                f"queue RSS: highest {queue_mb:.0f} MB\n"
                f"{took_s:.1f} s, {records / took_s:,.0f} records/s"
            )
        finally:
            for program in reversed(programs):
                program.stop()


if __name__ == "__main__":
    main()
