"""Measures the gateway: real processes, the gateway pinned to one core, whoever asks and all else on the other.

Each figure stands beside a floor of the same run: the same server with one bare Starlette route that returns the very
same bytes from memory, asked the same way. What is between the two is what the gateway does.

    python -m benchmarks.api --gpus 10000 --seconds 10
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import random
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from time import perf_counter

import httpx

from benchmarks.api.load import Measured, drive, request
from benchmarks.api.programs import HOST, Fleet, Pipeline, floor, pipeline
from benchmarks.api.sse import browsers
from telemetry.queue.client import Publisher

CONNECTIONS = 16
WARM_UP_S = 1.0


async def compare(
    what: str, running: Pipeline, paths: Sequence[str], seconds: float, connections: int, coding: str = "identity"
) -> None:
    """Print a row for the gateway and one for the floor."""
    headers = {"Accept-Encoding": coding}
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://{HOST}:{running.port}{paths[0]}", headers=headers, timeout=60)
        answer.raise_for_status()
        compressed = answer.headers.get("content-encoding") == "gzip"
        body = zlib.compress(answer.content, 4, wbits=31) if compressed else answer.content
    requests = [request(path, running.port, headers) for path in paths]
    await drive(running.port, requests, connections, WARM_UP_S)
    before = running.gateway.cpu_s()
    measured = await drive(running.port, requests, connections, seconds)
    used = running.gateway.cpu_s() - before
    async with floor(0, body) as port:
        bare = [request("/", port, headers)]
        await drive(port, bare, connections, WARM_UP_S)
        lowest = await drive(port, bare, connections, max(2.0, seconds / 3))
    row(what, measured, f"{used / measured.requests * 1e6:,.0f} µs CPU each, {used / measured.wall_s:.0%} of its core")
    row("  floor", lowest, f"{lowest.per_second / measured.per_second:.1f} ×")


def row(what: str, measured: Measured, remark: str) -> None:
    """Print a row."""
    p50, p99 = measured.quantile(0.5) * 1e3, measured.quantile(0.99) * 1e3
    size = f"{measured.body_bytes / 1e3:,.1f} kB"
    print(f"{what:34} {measured.per_second:9,.0f} /s  {p50:8.2f}  {p99:8.2f} ms  {size:>10}  {remark}", flush=True)


async def follow(running: Pipeline, count: int, seconds: float) -> None:
    """Print what many browsers cost while the fleet changes once a second."""
    idle = running.gateway.rss_bytes()
    opened = await browsers(running.port, count, "/api/v1/stream?metric=temperature")
    fleet = Fleet(len(running.gpus))
    highest, before, began = 0, running.gateway.cpu_s(), perf_counter()
    async with Publisher(running.queue) as publisher:
        while perf_counter() - began < seconds:
            turn = perf_counter()
            await fleet.publish(publisher, datetime.now(UTC))
            highest = max(highest, running.gateway.rss_bytes())
            await asyncio.sleep(max(0.0, 1 - (perf_counter() - turn)))
    wall = perf_counter() - began
    received = sum(each.received for each in opened) / 1e6
    still = sum(each.open for each in opened)
    cpu = (running.gateway.cpu_s() - before) / wall
    print(
        f"{count:,} SSE clients, {wall:.0f} s       RSS {idle / 1e6:.0f} MB before, {highest / 1e6:.0f} MB at most; "
        f"{still:,} still open, {received / wall:,.1f} MB/s sent, {cpu:.0%} of its core"
    )


async def main(options: argparse.Namespace) -> None:
    """Measure all and print."""
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, {options.gpus:,} GPUs")
    print(f"{'':34} {'answers':>9}     {'p50':>8}  {'p99':>8}     {'body':>10}")
    async with pipeline(options.gpus) as running:
        chosen = random.Random(7).sample(running.gpus, min(2_000, len(running.gpus)))
        latest = [f"/api/v1/gpus/{name}" for name in chosen]
        series = f"/api/v1/gpus/{running.gpus[0]}/series?metric=temperature&step=1s"
        await compare("latest of one GPU", running, latest[:1], options.seconds, CONNECTIONS)
        await compare("latest of 2,000 GPUs in turn", running, latest, options.seconds, CONNECTIONS)
        await compare("latest, one connection", running, latest, options.seconds / 2, 1)
        await compare("series of 300 points", running, [series], options.seconds / 2, 4)
        fleet = "/api/v1/fleet?metric=temperature"
        await compare("fleet, one metric, gzip", running, [fleet], options.seconds / 2, 1, coding="gzip")
        await compare("fleet, all, gzip", running, ["/api/v1/fleet"], options.seconds / 2, 1, coding="gzip")
        await compare("fleet, all, zstd", running, ["/api/v1/fleet"], options.seconds / 2, 1, coding="zstd")
        if options.clients:
            await follow(running, options.clients, options.follow_s)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each is asked")
    parser.add_argument("--clients", type=int, default=1_000, help="SSE clients; 0 leaves them out")
    parser.add_argument("--follow-s", type=float, default=60.0, help="how long they follow")
    asyncio.run(main(parser.parse_args()))
