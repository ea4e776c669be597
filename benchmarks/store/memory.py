"""Memory of a collector that serves 10,000 GPUs and stores 100,000 samples a second, over time."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from benchmarks.queue.programs import Program
from benchmarks.queue.report import Figure, Number, Row
from benchmarks.store.dataset import Dataset
from benchmarks.store.pipeline import running
from benchmarks.store.report import Asked, Part
from benchmarks.store.size import Size
from telemetry.v1 import query_pb2

GPUS = 10_000
SAMPLES_PER_S = 100_000


def memory(size: Size) -> Part:
    """Let `telemetry simulate` publish in real time, and look at the collector once a second."""
    metrics = len(Dataset(1, 1 / 360).metrics)
    interval_ms = round(1000 * GPUS * metrics / SAMPLES_PER_S)
    seconds = size.minutes * 60
    folder = size.folder / "memory"
    folder.mkdir()
    seen: list[float] = []
    with running(folder) as pipeline:
        stub = pipeline.stub()
        simulator = Program.python(
            folder, "simulate", "-m", "telemetry", "simulate", "--gpus", GPUS, "--interval", f"{interval_ms}ms",
            "--duration", "30d", "--queue", pipeline.queue_address, "--start", datetime.now(UTC).isoformat(),
        )  # fmt: skip
        try:
            began = time.monotonic()
            while time.monotonic() < began + seconds:
                time.sleep(1)
                seen.append(pipeline.collector.rss_mb())
            took = time.monotonic() - began
            stats = stub.GetStats(query_pb2.QueryServiceGetStatsRequest()).stats
            cpu_s = pipeline.collector.cpu_s()
        finally:
            simulator.stop()
    figure = Figure(
        "memory", f"{GPUS:,} GPUs, {metrics} metrics every {interval_ms / 1e3:g} s, for {size.minutes:g} minutes"
    )
    figure.rows.append(
        Row(
            "collector",
            {
                "samples/s": Number([stats.samples / took]),
                "GPUs": Number([float(stats.gpus)]),
                "RSS MB, highest": Number([max(seen)]),
                "in the end": Number([seen[-1]]),
                "CPU, cores": Number([cpu_s / took]),
            },
            "" if size.minutes >= 60 else f"an hour was asked for, and these are {size.minutes:g} minutes",
        )
    )
    what = f"collector RSS, 10,000 GPUs, 100,000 samples/s, {size.minutes:g} minutes"
    return Part(figure, [Asked(what, "MB", max(seen), 1000, 400, "less")])
