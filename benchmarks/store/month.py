"""One metric of one GPU over thirty days out of a billion samples, asked by a process that has just started."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import polars as pl

from benchmarks.queue.report import Figure, Number, Row
from benchmarks.store.report import Asked, Part
from benchmarks.store.servers import each_of, folder_bytes, forget_cached
from benchmarks.store.size import Size
from benchmarks.store.timing import p50_p99, percentile
from benchmarks.store_read import build
from telemetry.storage.cold.files import ColdFile, Level

DAYS = 30
INTERVAL_S = 30
POINTS = 300


def month(size: Size) -> Part:
    """Write the days through the cold tier's writer, then ask in one new process after another."""
    folder = size.folder / "month"
    folder.mkdir()
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        files = build(folder, size.of(58, 1157), DAYS, INTERVAL_S)
    (folder / "files.json").write_text(json.dumps([file.to_json() for file in files]))
    samples = sum(file.samples for file in files if not file.level.is_rollup)
    gpus = each_of(_gpus(folder, files))
    figure = Figure("month", f"one GPU, one metric, {DAYS} days of {samples:,} samples to {POINTS} points")
    took: dict[bool, list[float]] = {}
    for rolled_up in (True, False):
        took[rolled_up] = []
        for _ in range(size.of(5, 30)):
            forget_cached(folder)
            took[rolled_up].append(_asked(folder, next(gpus), rolled_up=rolled_up))
        subject = "from roll-ups by the hour" if rolled_up else "from records"
        figure.rows.append(Row(subject, p50_p99("new process, files not cached,", took[rolled_up])))
    size_row = {"bytes/sample": Number([folder_bytes(folder) / samples])}
    figure.rows.append(Row("the files", size_row, "; ".join(line.strip() for line in said.getvalue().splitlines())))
    what = (
        f"one GPU, one metric, {DAYS} days of {samples / 1e9:.2g} billion samples to {POINTS} points, cold process, p99"
    )
    return Part(figure, [Asked(what, "ms", percentile(took[True], 99), 300, 50, "less")])


def _gpus(folder: Path, files: list[ColdFile]) -> list[str]:
    first = next(file for file in files if file.level is Level.HOUR_ROLLUP)
    return pl.read_parquet(folder / first.path, columns=["gpu"])["gpu"].unique().sort().to_list()


def _asked(folder: Path, gpu: str, *, rolled_up: bool) -> float:
    """Milliseconds from when the process has its libraries until it has the answer."""
    command = [sys.executable, "-m", "benchmarks.store_read", "--ask", folder, gpu, DAYS, int(rolled_up)]
    return float(subprocess.run([*map(str, command)], check=True, capture_output=True, text=True).stdout)
