"""A queue and a collector that run for a measurement, and a publisher that fills them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import polars as pl

from benchmarks.queue.programs import HOST, RUN_S_MAX, Program, free_port
from telemetry.codec import ARROW_CONTENT_TYPE, CONTENT_TYPE, encode_arrow
from telemetry.model import GPU
from telemetry.queue.client import OutgoingMessage, Publisher, partition_of_key
from telemetry.topics import DATA
from telemetry.v1 import query_pb2, query_pb2_grpc

MESSAGE_RECORDS: Final = 5_000
"""Records in a message, as the streamer cuts them."""
IN_FLIGHT: Final = 32
ANSWER_BYTES_MAX: Final = 256 << 20

Message = tuple[int, bytes]
"""A partition, and an Arrow message for it."""


@dataclass(slots=True)
class Pipeline:
    """What runs, and where it listens."""

    queue: Program
    queue_address: str
    collector: Program
    collector_address: str
    store: Path

    def stub(self) -> query_pb2_grpc.QueryServiceStub:
        """A client of the collector that blocks."""
        options = [("grpc.max_receive_message_length", ANSWER_BYTES_MAX)]
        return query_pb2_grpc.QueryServiceStub(grpc.insecure_channel(self.collector_address, options))

    def wait_stored(self, samples: int) -> None:
        """Wait until the collector has stored so many samples since its start."""
        stub = self.stub()
        deadline = time.monotonic() + RUN_S_MAX
        while (stored := stub.GetStats(query_pb2.QueryServiceGetStatsRequest()).stats.samples) < samples:
            if time.monotonic() > deadline:
                raise SystemExit(f"only {stored:,} of {samples:,} samples are stored after {RUN_S_MAX:g} s")
            time.sleep(0.02)


@contextmanager
def running(folder: Path, *collector_options: object) -> Iterator[Pipeline]:
    """Start a queue and a collector with their files in ``folder``, and stop them in the end."""
    ports = [free_port() for _ in range(4)]
    queue_address, collector_address = f"{HOST}:{ports[0]}", f"{HOST}:{ports[2]}"
    queue = Program.python(
        folder, "queue", "-m", "telemetry", "queue", "--data-dir", folder / "queue", "--fsync", "always",
        "--grpc-port", ports[0], "--http-port", ports[1],
    )  # fmt: skip
    try:
        queue.wait_listening(ports[0])
        collector = Program.python(
            folder, "collector", "-m", "telemetry", "collector", "--queue", queue_address,
            "--data-dir", folder / "store", "--grpc-port", ports[2], "--health-port", ports[3], *collector_options,
        )  # fmt: skip
        try:
            collector.wait_listening(ports[2])
            yield Pipeline(queue, queue_address, collector, collector_address, folder / "store")
        finally:
            collector.stop()
    finally:
        queue.stop()


def messages(frame: pl.DataFrame) -> Iterator[Message]:
    """Cut records into messages as the streamer does: by the partition that the GPU says."""
    places = {gpu: partition_of_key(gpu, DATA.partitions) for gpu in frame[GPU].unique()}
    placed = frame.with_columns(
        pl.col(GPU).replace_strict(list(places), list(places.values()), return_dtype=pl.Int64).alias("$partition")
    )
    for key, part in placed.partition_by("$partition", as_dict=True, include_key=False).items():
        for piece in part.iter_slices(MESSAGE_RECORDS):
            yield int(key[0]), encode_arrow(piece)


def publish(address: str, ready: Iterator[Message] | Sequence[Message]) -> None:
    """Publish messages, many on the way at a time; returns when all are confirmed."""

    async def run() -> None:
        room = asyncio.Semaphore(IN_FLIGHT)
        async with Publisher(address) as publisher, asyncio.TaskGroup() as tasks:
            await publisher.ensure(DATA)

            async def send(partition: int, data: bytes) -> None:
                message = OutgoingMessage(data, {CONTENT_TYPE: ARROW_CONTENT_TYPE})
                try:
                    await publisher.publish_batch(DATA.name, [message], partition=partition)
                finally:
                    room.release()

            for partition, data in ready:
                await room.acquire()
                tasks.create_task(send(partition, data))

    asyncio.run(run())
