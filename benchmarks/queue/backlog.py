"""Figure 6: what a backlog costs: memory, and time to start with it."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.queue import ours
from benchmarks.queue.load import ROW_BYTES, Load, whole_batches
from benchmarks.queue.peers import Size
from benchmarks.queue.programs import Server
from benchmarks.queue.report import Figure, Number, Row

START_S_MAX: Final = 120.0


def backlog(size: Size) -> Figure:
    """Publish so much and consume none of it, kill the queue, and start it again with nothing in the page cache."""
    figure = Figure("backlog", f"a backlog of {size.backlog_gb:g} GB in batches of 500 messages of 300 B")
    rows = whole_batches(size.backlog_gb * 1e9 / ROW_BYTES)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=size.folder) as name:
        folder = Path(name)
        server = ours.start(folder)
        try:
            server.program.wait_listening(server.port)
            began = time.monotonic()
            ours.publish(server.address, Load(rows), lambda: None)
            fill_s = time.monotonic() - began
            rss_mb = server.program.rss_mb()
        finally:
            server.program.process.send_signal(signal.SIGKILL)
            server.program.process.wait()
        stored = _forget_pages(folder)
        begun = time.monotonic()
        server = ours.start(folder)
        try:
            asyncio.run(_wait_serving(server))
            start_s = time.monotonic() - begun
            after_mb = server.program.rss_mb()
        finally:
            server.program.stop()
        # What a process with nothing to recover takes, most of it for imports.
        with tempfile.TemporaryDirectory(prefix="bench-", dir=size.folder) as empty:
            begun = time.monotonic()
            server = ours.start(Path(empty))
            try:
                asyncio.run(_wait_serving(server))
                empty_s = time.monotonic() - begun
            finally:
                server.program.stop()
    numbers = {
        "on disk GB": stored / 1e9,
        "filled at rows/s": rows / fill_s,
        "RSS MB": rss_mb,
        "RSS MB after restart": after_mb,
        "restart s": start_s,
        "empty start s": empty_s,
    }
    note = "restart: after kill -9, page cache dropped, from exec to SERVING"
    figure.rows.append(Row("telemetry", {name: Number([value]) for name, value in numbers.items()}, note))
    figure.at_most("RSS MB", max(rss_mb, after_mb), 300)
    figure.at_most("restart s", start_s, 2)
    return figure


def _forget_pages(folder: Path) -> int:
    """Drop the files from the page cache; returns how many bytes they take on disk."""
    taken = 0
    for path in folder.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)
            taken += path.stat().st_blocks * 512
    return taken


async def _wait_serving(server: Server) -> None:
    server.program.wait_listening(server.port)
    async with asyncio.timeout(START_S_MAX), grpc.aio.insecure_channel(server.address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)  # published without types
        while True:
            answer = await health.Check(health_pb2.HealthCheckRequest())
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
            await asyncio.sleep(0.01)
