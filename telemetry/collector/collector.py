"""A collector as a whole: a store, workers that fill it, and what it tells others."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from telemetry.collector.admission import GPUS_MAX
from telemetry.collector.counters import Counters, collector_stats
from telemetry.collector.http_app import Check, collector_app
from telemetry.collector.live_view import LiveView, publish_live
from telemetry.collector.query_service import QueryService
from telemetry.collector.topics import Topics
from telemetry.collector.worker import Worker
from telemetry.collector.writer import Writer
from telemetry.runtime.credentials import Credentials
from telemetry.runtime.grpc_server import GrpcServer
from telemetry.runtime.http import HttpServer
from telemetry.runtime.security import OPEN, Security
from telemetry.storage.compactor import CompactionSettings, Compactor
from telemetry.storage.tiered import TieredStore
from telemetry.v1 import query_pb2, query_pb2_grpc

log = logging.getLogger(__name__)

PERMITS_BYTES: Final = 32 << 20
"""Bytes of messages that all workers together may have received and not acked."""

DRAIN_S_MAX: Final = 10.0
"""How long the last commit and acks may take."""

STALLED_S: Final = 10.0
"""A backlog without a checkpoint for so long is reported by `/health`."""


@dataclass(frozen=True, slots=True)
class CollectorSettings:
    """How a collector runs.

    Attributes:
        queue: the queue's gRPC address.
        group: the subscription group that collectors share.
        workers: members of it in this process.
        host: the address to listen on.
        grpc_port: port of the QueryService; 0 means any free one.
        http_port: port of the HTTP side; 0 means any free one.
        compaction: when the store is compacted, and what is deleted.
        gpus_max: how many GPUs are kept; records of others go to quarantine.
        credentials: for a queue with TLS or tokens.
    """

    queue: str
    group: str = "collectors"
    workers: int = 4
    host: str = "127.0.0.1"
    grpc_port: int = 9092
    http_port: int = 8080
    compaction: CompactionSettings = field(default_factory=CompactionSettings)
    gpus_max: int = GPUS_MAX
    credentials: Credentials | None = None


class Collector:
    """Fills a store from the queue and answers from it."""

    def __init__(self, settings: CollectorSettings, store: TieredStore, security: Security = OPEN) -> None:
        """Prepare; the store is the caller's to close, and ``security`` guards both ports."""
        self._settings = settings
        self._store = store
        self._counters = Counters(settings.workers)
        self._live = LiveView()
        self._writer = Writer(store, self._counters, self._live.add, settings.gpus_max)
        self._compactor = Compactor(store, settings.compaction)
        self._topics = Topics(settings.queue, settings.credentials)
        self._threads = ThreadPoolExecutor(settings.workers, thread_name_prefix="read")
        # Containers on a host may share its name and have the same process ids.
        self._name = f"{socket.gethostname()[:80]}-{os.getpid()}-{secrets.token_hex(4)}"
        self._workers = [self._worker(number) for number in range(settings.workers)]
        self._service = QueryService(store, self._stats)
        register = partial(query_pb2_grpc.add_QueryServiceServicer_to_server, self._service)
        service = (query_pb2.DESCRIPTOR.services_by_name["QueryService"], register)
        self._grpc = GrpcServer([service], host=settings.host, port=settings.grpc_port, security=security)
        app = collector_app(store, self._stats, self.checks)
        self._http = HttpServer(app, settings.host, {"--health-port": settings.http_port}, security=security)

    @property
    def grpc_port(self) -> int:
        """The port bound."""
        return self._grpc.port

    @property
    def http_port(self) -> int:
        """The port bound."""
        return self._http.ports[0]

    async def run(self, stop: asyncio.Event) -> None:
        """Collect until ``stop`` is set, then store and ack what has been received, and return.

        Raises:
            StartupError: if a port cannot be bound.
        """
        await self._grpc.start()
        try:
            async with self._http:
                await self._grpc.set_serving()
                log.info("ready", extra={"grpc": self.grpc_port, "http": self.http_port})
                await self._collect(stop)
        finally:
            await self._close()

    def checks(self) -> Mapping[str, Check]:
        """What is well and what is not."""
        trouble = next((worker.trouble for worker in self._workers if worker.trouble), "")
        connected = self._topics.is_connected
        disk = self._writer.trouble
        checkpoint_us, backlog = self._store.stats().checkpoint_us, self._writer.backlog
        age = "none yet" if checkpoint_us is None else f"{max(time.time() - checkpoint_us / 1e6, 0):.1f} s ago"
        stalled = self._writer.waiting_s
        compaction, damaged = self._compactor.stats, self._store.damaged_files()
        trouble_there = compaction.trouble or "; ".join(f"cold/{path}: {why}" for path, why in damaged.items())
        return {
            "queue": Check(connected and not trouble, trouble or ("connected" if connected else "not connected")),
            "disk": Check(not disk, disk or "records can be stored"),
            "checkpoint": Check(stalled < STALLED_S, f"{age}; {backlog} deliveries are not durable yet"),
            "cold tier": Check(not trouble_there, trouble_there[:1000] or "files are whole and compaction works"),
        }

    async def _collect(self, stop: asyncio.Event) -> None:
        """Run workers, writer and live view until ``stop``; if one of them fails, so does the collector."""
        writing = asyncio.create_task(self._writer.run(), name="writer")
        receiving = [asyncio.create_task(worker.run(), name="worker") for worker in self._workers]
        receiving.append(asyncio.create_task(self._compactor.run(), name="compactor"))
        live = publish_live(self._settings.queue, self._live, self._store, self._settings.credentials)
        receiving.append(asyncio.create_task(live, name="live"))
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            done, _ = await asyncio.wait([writing, stopping, *receiving], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()
            await self._drain(writing, receiving)
        finally:
            for task in (stopping, writing, *receiving):
                task.cancel()
            await asyncio.gather(stopping, writing, *receiving, return_exceptions=True)

    async def _drain(self, writing: asyncio.Task[None], receiving: list[asyncio.Task[None]]) -> None:
        log.info("draining", extra={"deliveries": self._writer.backlog})
        await self._grpc.begin_drain()
        for task in receiving:
            task.cancel()
        await asyncio.gather(*receiving, return_exceptions=True)
        self._writer.drain()
        try:
            async with asyncio.timeout(DRAIN_S_MAX):
                await writing
        except TimeoutError:
            log.error("not all could be stored in time; it will be delivered again")

    async def _close(self) -> None:
        await asyncio.gather(*(worker.close() for worker in self._workers))
        await self._grpc.stop()
        await self._topics.close()
        self._service.close()
        self._writer.close()
        await asyncio.to_thread(self._compactor.close)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _stats(self) -> query_pb2.CollectorStats:
        return collector_stats(self._counters, self._store.stats(), self._compactor.stats)

    def _worker(self, number: int) -> Worker:
        return Worker(
            self._settings.queue,
            f"{self._name}-{number}",
            self._settings.group,
            topics=self._topics,
            store=self._store,
            writer=self._writer,
            threads=self._threads,
            permits_bytes=PERMITS_BYTES // self._settings.workers,
            credentials=self._settings.credentials,
        )
