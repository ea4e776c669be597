"""A queue and a collector in this event loop, and the command line in front of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from click.testing import CliRunner, Result

from telemetry.cli.main import telemetry
from telemetry.codec import ARROW_CONTENT_TYPE, CONTENT_TYPE, encode_arrow
from telemetry.collector.admission import GPUS_MAX
from telemetry.collector.collector import Collector, CollectorSettings
from telemetry.model import GPU
from telemetry.queue.client import OutgoingMessage, Publisher, QueueAdmin, partition_of_key
from telemetry.queue.engines.engine import QueueEngine
from telemetry.queue.engines.memory import MemoryEngine
from telemetry.queue.server import QueueServer
from telemetry.storage.tiered import TieredStore

PARTITIONS = 8


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Where a queue and a collector are, and where the collector keeps its records."""

    queue: str
    collector: str
    folder: Path = Path()

    async def cli(self, *arguments: str, code: int = 0) -> Result:
        """Run a command as a user would, while the pipeline goes on."""
        environment = {"TELEMETRY_QUEUE_ADDRESS": self.queue, "TELEMETRY_COLLECTOR_ADDRESS": self.collector}
        result = await asyncio.to_thread(CliRunner(env=environment).invoke, telemetry, arguments)
        assert result.exit_code == code, (result.output, result.exception)
        return result

    async def publish(self, *frames: pl.DataFrame) -> None:
        """Publish records as the streamer does."""
        async with Publisher(self.queue) as publisher:
            await publisher.ensure_topic("telemetry", partitions=PARTITIONS)
            for frame in frames:
                for (gpu,), rows in frame.partition_by(GPU, as_dict=True).items():
                    message = OutgoingMessage(encode_arrow(rows), {CONTENT_TYPE: ARROW_CONTENT_TYPE})
                    await publisher.publish_batch("telemetry", [message], partition=partition_of_key(gpu, PARTITIONS))

    async def stored(self) -> None:
        """Wait until the collector has stored all that the queue holds."""
        async with QueueAdmin(self.queue) as admin:
            while True:
                stats = await admin.stats()
                groups = [group for group in stats.groups if group.group == "collectors"]
                if groups and not any(group.lag_messages or group.unacked for group in groups):
                    return
                await asyncio.sleep(0.02)


@asynccontextmanager
async def pipeline(
    folder: Path, gpus_max: int = GPUS_MAX, engine: QueueEngine | None = None
) -> AsyncIterator[Pipeline]:
    """An empty queue, in memory unless said otherwise, and a collector that keeps its records in ``folder``."""
    async with QueueServer(engine or MemoryEngine(), grpc_port=0, http_port=0) as queue:
        address = f"127.0.0.1:{queue.grpc_port}"
        store = TieredStore(folder, synced=False)
        collector = Collector(CollectorSettings(address, workers=1, grpc_port=0, http_port=0, gpus_max=gpus_max), store)
        stop = asyncio.Event()
        task = asyncio.create_task(collector.run(stop))
        try:
            while not collector.grpc_port:
                assert not task.done(), task.exception()
                await asyncio.sleep(0.01)
            yield Pipeline(address, f"127.0.0.1:{collector.grpc_port}", folder)
        finally:
            stop.set()
            await task
            store.close()


def lines(result: Result) -> Sequence[str]:
    """What a command printed on standard output."""
    return result.stdout.splitlines()
