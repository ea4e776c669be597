"""The collector as a process: its data directory, its own queue if it has no other, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from telemetry.collector.collector import Collector, CollectorSettings
from telemetry.queue.engines.disk import DiskEngine
from telemetry.queue.server import QueueServer
from telemetry.runtime.datadir import DataDirectoryLock
from telemetry.runtime.errors import StartupError
from telemetry.runtime.listen import is_loopback, join_address
from telemetry.runtime.security import Security, SecurityFlags
from telemetry.storage.tiered import TieredStore


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """What a collector process needs beside the collector's own settings.

    Attributes:
        data_dir: where records are kept.
        cache_entries: how many records of each GPU to keep in memory.
        rotate_bytes: bytes at which a GPU's file is closed.
        quarantine_bytes: what the quarantine may take.
        synced: whether records are on disk before they are acked.
        broker_port: HTTP port of the collector's own queue, whose gRPC port follows; 0 means any free ones. Only used
            when the collector has no other queue.
        security: what guards the ports, those of its own queue too.
    """

    data_dir: Path
    cache_entries: int
    rotate_bytes: int
    quarantine_bytes: int
    synced: bool
    broker_port: int
    security: SecurityFlags


async def run_collector(collector: CollectorSettings, process: ProcessSettings, stop: asyncio.Event) -> None:
    """Run until ``stop`` is set. A collector without a queue (``collector.queue`` empty) brings its own.

    Raises:
        StartupError: if it cannot start, or its own queue fails.
    """
    security = process.security.load(collector.host)
    with DataDirectoryLock(process.data_dir):
        store = TieredStore(
            process.data_dir,
            cache_entries=process.cache_entries,
            synced=process.synced,
            rotate_bytes=process.rotate_bytes,
            quarantine_bytes=process.quarantine_bytes,
        )
        try:
            if collector.queue:
                await Collector(collector, store, security).run(stop)
                return
            _check_own(collector, security)
            async with _own_queue(collector.host, process, security) as queue:
                host = collector.host if is_loopback(collector.host) else "localhost"
                settings = replace(collector, queue=join_address(host, queue.grpc_port))
                await _run_beside(queue, Collector(settings, store, security), stop)
        finally:
            store.close()


@asynccontextmanager
async def _own_queue(host: str, process: ProcessSettings, security: Security) -> AsyncIterator[QueueServer]:
    port = process.broker_port
    server = QueueServer(
        DiskEngine(process.data_dir / "queue"),
        host=host,
        grpc_port=port + 1 if port else 0,
        http_port=port,
        grpc_flag="--broker-port (the port after it)",
        http_flag="--broker-port",
        security=security,
    )
    async with server:
        yield server


def _check_own(collector: CollectorSettings, security: Security) -> None:
    """See that the collector can be a client of its own queue.

    Raises:
        StartupError: naming the flag that is missing.
    """
    given = collector.credentials
    if security.tls is not None and (given is None or given.ca is None):
        raise StartupError("without --queue, --tls-cert needs --ca: the collector has to believe its own queue")
    if security.tokens is not None and (given is None or given.token_file is None):
        raise StartupError("without --queue, --tokens needs --token-file: the collector has to show its queue a token")


async def _run_beside(queue: QueueServer, collector: Collector, stop: asyncio.Event) -> None:
    collecting = asyncio.create_task(collector.run(stop), name="collector")
    failing = asyncio.create_task(queue.wait_failed(), name="queue")
    try:
        await asyncio.wait([collecting, failing], return_when=asyncio.FIRST_COMPLETED)
        if not collecting.done():
            raise StartupError(f"the queue has failed: {failing.result()}")
        collecting.result()
    finally:
        for task in (collecting, failing):
            task.cancel()
        await asyncio.gather(collecting, failing, return_exceptions=True)
