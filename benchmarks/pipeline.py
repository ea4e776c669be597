"""From CSV to stored and queryable: rows and samples a second through real processes, and where the CPU time goes.

The floor is the least that the same work could be: one process that reads the same CSV with polars and writes it as
newline-delimited JSON, with no queue, no fsync, no split by GPU, and nothing to query.

    python -m benchmarks.pipeline --rows 1000000 --gpus 256
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc
import orjson
import polars as pl
import psutil

from telemetry import __version__
from telemetry.v1 import query_pb2, query_pb2_grpc

HOST: Final = "127.0.0.1"
METRICS: Final = 10
"""Metric columns of the CSV."""
READY_S_MAX: Final = 60.0
RUN_S_MAX: Final = 600.0


def write_wide_csv(path: Path, rows: int, gpus: int) -> None:
    """A wide log: every GPU once a second, ten metrics that look like a GPU's (noise around a slow wave)."""
    row = pl.int_range(rows).alias("row")
    second, gpu = pl.col("row") // gpus, pl.col("row") % gpus
    noise = (pl.col("row").hash(seed=1) % 1000).cast(pl.Float64) / 500 - 1
    wave = (second / 120 + gpu).sin()
    pl.select(row).lazy().select(
        (pl.datetime(2026, 1, 1) + pl.duration(seconds=second)).dt.strftime("%Y-%m-%dT%H:%M:%SZ").alias("timestamp"),
        pl.format("gpu_{}", gpu).alias("gpu_id"),
        (60 + 15 * wave + noise).round().alias("temperature"),
        (70 + 30 * wave + 5 * noise).round().clip(0, 100).alias("utilization"),
        (40_000 + 20_000 * wave).round().alias("memory_used"),
        (400 + 250 * wave + 10 * noise).round(2).alias("power_draw"),
        pl.when(wave > 0).then(1980).otherwise(1410).alias("sm_clock"),
        pl.lit(2619).alias("memory_clock"),
        (30 + 20 * wave).round().clip(0, 100).alias("memory_utilization"),
        pl.lit(45).alias("fan_speed"),
        pl.lit(0).alias("encoder_utilization"),
        pl.lit(0).alias("decoder_utilization"),
    ).sink_csv(path)


@dataclass(slots=True)
class Program:
    """A process of the pipeline, and the CPU time it had used when the measurement began."""

    name: str
    process: subprocess.Popen[bytes]
    watched: psutil.Process = field(init=False)
    cpu_s: float = 0.0
    rss_mib: float = 0.0

    def __post_init__(self) -> None:
        self.watched = psutil.Process(self.process.pid)

    def used_s(self) -> float:
        times = self.watched.cpu_times()
        return float(times.user + times.system)


def start(name: str, folder: Path, *arguments: object) -> Program:
    log = (folder / f"{name}.log").open("wb")
    command = [sys.executable, "-m", "telemetry", name, *map(str, arguments)]
    return Program(name, subprocess.Popen(command, stdout=log, stderr=log))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


async def wait_ready(program: Program, port: int, folder: Path) -> None:
    deadline = time.monotonic() + READY_S_MAX
    while time.monotonic() < deadline:
        if program.process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        await asyncio.sleep(0.05)
    raise SystemExit(f"{program.name} did not start: {(folder / f'{program.name}.log').read_text()[-2000:]}")


async def carry(
    csv: Path, samples: int, gpus: int, folder: Path, engine: str, fsync: str
) -> tuple[float, list[Program]]:
    """Run the pipeline over a file of so many samples; returns seconds from the start until all is queryable."""
    ports = {name: free_port() for name in ("queue", "queue_http", "collector", "collector_http", "streamer")}
    queue = start(
        "queue", folder, "--engine", engine, "--data-dir", folder / "queue", "--fsync", fsync,
        "--grpc-port", ports["queue"], "--http-port", ports["queue_http"],
    )  # fmt: skip
    programs = [queue]
    try:
        await wait_ready(queue, ports["queue"], folder)
        address = f"{HOST}:{ports['queue']}"
        collector = start(
            "collector", folder, "--queue", address, "--data-dir", folder / "store",
            "--grpc-port", ports["collector"], "--health-port", ports["collector_http"],
        )  # fmt: skip
        programs.append(collector)
        await wait_ready(collector, ports["collector"], folder)
        for program in programs:
            program.cpu_s = program.used_s()
        began = time.perf_counter()
        streamer = start(
            "streamer",
            folder,
            "--csv",
            csv,
            "--once",
            "--rate",
            0,
            "--queue",
            address,
            "--http-port",
            ports["streamer"],
        )
        programs.append(streamer)
        async with grpc.aio.insecure_channel(f"{HOST}:{ports['collector']}") as channel:
            stub = query_pb2_grpc.QueryServiceStub(channel)
            while True:
                if streamer.process.poll() is None:
                    streamer.cpu_s = -streamer.used_s()
                    streamer.rss_mib = max(streamer.rss_mib, streamer.watched.memory_info().rss / 2**20)
                elif streamer.process.returncode != 0:
                    raise SystemExit((folder / "streamer.log").read_text()[-2000:])
                stats = (await stub.GetStats(query_pb2.QueryServiceGetStatsRequest())).stats
                if stats.samples >= samples and stats.gpus >= gpus:
                    break
                if time.perf_counter() - began > RUN_S_MAX:
                    raise SystemExit(f"only {stats.samples} of {samples} samples after {RUN_S_MAX} s")
                await asyncio.sleep(0.02)
            latest = await stub.GetLatest(query_pb2.GetLatestRequest())
            elapsed = time.perf_counter() - began
            assert len(latest.gpus) == gpus, f"{len(latest.gpus)} GPUs instead of {gpus}"
        for program in programs[:2]:
            program.cpu_s = program.used_s() - program.cpu_s
            program.rss_mib = program.watched.memory_info().rss / 2**20
        streamer.cpu_s = -streamer.cpu_s
        return elapsed, programs
    finally:
        for program in reversed(programs):
            program.process.terminate()
        for program in programs:
            program.process.wait(timeout=30)


def floor_s(csv: Path, folder: Path) -> float:
    """Seconds for one process to read the CSV and write it as newline-delimited JSON."""
    script = f"import polars as pl; pl.read_csv({str(csv)!r}).write_ndjson({str(folder / 'floor.jsonl')!r})"
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", script], check=True)
    return time.perf_counter() - began


async def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--gpus", type=int, default=256)
    parser.add_argument("--engine", default="disk")
    parser.add_argument("--fsync", default="always")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="telemetry-bench-") as name:
        folder = Path(name)
        csv = folder / "wide.csv"
        write_wide_csv(csv, options.rows, options.gpus)
        least_s = floor_s(csv, folder)
        samples = options.rows * METRICS
        elapsed, programs = await carry(csv, samples, options.gpus, folder, options.engine, options.fsync)
        result = {
            "rows": options.rows,
            "gpus": options.gpus,
            "engine": options.engine,
            "fsync": options.fsync,
            "seconds": round(elapsed, 2),
            "rows_per_second": round(options.rows / elapsed),
            "samples_per_second": round(samples / elapsed),
            "times_the_floor": round(elapsed / least_s, 2),
            "cpu_seconds": {program.name: round(program.cpu_s, 2) for program in programs},
            "rss_mib": {program.name: round(program.rss_mib) for program in programs},
        }
    if options.json:
        print(orjson.dumps(result).decode())
        return
    print(f"telemetry {__version__}, Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}")
    print(f"{options.rows:,} rows × {METRICS} metrics, {options.gpus} GPUs, {options.engine}, fsync {options.fsync}")
    print(f"CSV → stored and queryable   {elapsed:7.2f} s   {options.rows / elapsed:>11,.0f} rows/s"
          f"   {samples / elapsed:>12,.0f} samples/s")  # fmt: skip
    print(f"floor: read CSV, write JSON  {least_s:7.2f} s   {elapsed / least_s:.1f} × the floor")
    for program in programs:
        share = program.cpu_s / options.rows * 1e6
        print(
            f"  {program.name:<10} CPU {program.cpu_s:6.2f} s   {share:5.2f} s a million rows"
            f"   RSS {program.rss_mib:5.0f} MiB"
        )


if __name__ == "__main__":
    asyncio.run(main())
