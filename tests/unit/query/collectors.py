"""Collectors with real stores behind real connections, and what is asked of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from telemetry.codec import frame_of
from telemetry.collector.counters import Counters, collector_stats
from telemetry.collector.query_service import QueryService
from telemetry.model import Record
from telemetry.query.fanout import Collectors
from telemetry.query.members import Members
from telemetry.runtime.grpc_server import GrpcServer
from telemetry.storage.compactor import CompactionStats
from telemetry.storage.store import Batch
from telemetry.storage.tiered import TieredStore
from telemetry.v1 import query_pb2 as pb
from telemetry.v1 import query_pb2_grpc

START = datetime(2026, 1, 1, tzinfo=UTC)
START_US = int(START.timestamp()) * 1_000_000


def record(gpu: str, second: float, metrics: dict[str, float], **labels: str) -> Record:
    """A record so many seconds after START."""
    return Record(START + timedelta(seconds=second), gpu, metrics, labels)


def time_at(second: float) -> Timestamp:
    """So many seconds after START."""
    message = Timestamp()
    message.FromMicroseconds(START_US + round(second * 1e6))
    return message


def between(start: float, end: float) -> pb.TimeRange:
    """A range in seconds after START."""
    return pb.TimeRange(start_time=time_at(start), end_time=time_at(end))


async def serve(service: query_pb2_grpc.QueryServiceServicer) -> GrpcServer:
    """A server with this QueryService on a free port."""
    register = partial(query_pb2_grpc.add_QueryServiceServicer_to_server, service)
    descriptor: Any = pb.DESCRIPTOR.services_by_name["QueryService"]
    server = GrpcServer([(descriptor, register)], host="127.0.0.1", port=0)
    await server.start()
    await server.set_serving()
    return server


@asynccontextmanager
async def collector(folder: Path, *batches: Sequence[Record]) -> AsyncIterator[GrpcServer]:
    """A collector that has stored these batches, each of which has one set of labels."""
    store = TieredStore(folder, synced=False)
    for batch in batches:
        if batch:
            store.commit(Batch([frame_of(batch)]))
    service = QueryService(store, lambda: collector_stats(Counters(1), store.stats(), CompactionStats()))
    server = await serve(service)
    try:
        yield server
    finally:
        await server.stop(0)
        service.close()
        store.close()


@asynccontextmanager
async def asking(addresses: Iterable[str], deadline_s: float = 30.0) -> AsyncIterator[Collectors]:
    """All of these as one."""
    collectors = Collectors(Members(list(addresses), deadline_s))
    try:
        yield collectors
    finally:
        await collectors.close()


@asynccontextmanager
async def fan_out(folder: Path, *stores: Sequence[Sequence[Record]]) -> AsyncIterator[Collectors]:
    """Collectors of which each has stored some batches, as one."""
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(collector(folder / str(number), *batches))
            for number, batches in enumerate(stores)
        ]
        yield await stack.enter_async_context(asking(f"127.0.0.1:{server.port}" for server in servers))
