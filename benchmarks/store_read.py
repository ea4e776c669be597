"""How large cold files are, and how long a chart of one GPU takes: ``python -m benchmarks.store_read``.

Makes a fleet's days straight through the writer of the cold tier (by default a billion samples: 1,157 GPUs, 10 metrics,
every 30 s, 30 days), then asks for one metric of one GPU over all of it: from roll-ups by the hour, and from records.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from telemetry.storage.cold.digits import digits_of
from telemetry.storage.cold.files import DAY_US, HOUR_US, ColdFile, Level, Window
from telemetry.storage.cold.reader import ColdReader
from telemetry.storage.cold.windows import WindowWriter
from telemetry.storage.series import Steps
from telemetry.storage.store import Span

START_US: Final = 1_767_225_600_000_000
SECOND_US: Final = 1_000_000
METRIC: Final = "power_draw"
MEMORY_MIB: Final = 81_008
METRICS: Final = (
    *("memory_free", "memory_temperature", "memory_used", "memory_utilization", "power_draw"),
    *("sm_clock", "temperature", "tensor_active", "throttle_reasons", "utilization"),
)
QUERIES: Final = 200
PROCESSES: Final = 20


def one_day(names: Sequence[str], day: int, interval_s: int) -> pl.DataFrame:
    """A day of a fleet: jobs of hours that train or serve, and what they do to power, heat and memory."""
    chance = np.random.default_rng(day)
    gpus, rows = len(names), 86_400 // interval_s
    seconds = np.arange(rows)[:, None] * interval_s
    # What a GPU does changes at random times, on average every three hours.
    changes = np.cumsum(chance.random((rows, gpus)) < interval_s / 10_800, axis=0)
    kind = (changes * 7 + np.arange(gpus) * 5 + day) % 3
    trains, serves = kind == 1, kind == 2
    load = np.where(trains, np.where(seconds % 1800 >= 1740, 0.05, 0.97), 0.0)
    phase = np.arange(gpus)
    load += np.where(
        serves, 0.45 + 0.25 * np.sin(seconds / 2300 + phase) + 0.1 * np.sin(seconds / 500 + 2 * phase), 0.0
    )
    load = np.where(load > 0, np.clip(load + chance.uniform(-0.03, 0.03, load.shape), 0, 1), 0)
    power = 68 + load * 560 + chance.uniform(-3, 3, load.shape)
    heat = np.empty_like(power)
    warm = 31.0 + np.zeros(gpus)
    share = 1 - 0.91 ** (interval_s / 2)
    for row in range(rows):
        warm = warm + (29 + power[row] / 14.5 + phase % 8 * 0.4 - warm) * share
        heat[row] = warm
    grown = np.cumsum(chance.integers(-1, 2, load.shape) * 2 * (chance.random(load.shape) < 0.05), axis=0)
    used = np.where(trains, 71_200, np.where(serves, 52_480 + grown, 4))
    values = {
        "memory_free": MEMORY_MIB - used,
        "memory_temperature": np.round(heat * 0.9 + 8),
        "memory_used": used,
        "memory_utilization": np.round(load * 42),
        "power_draw": np.round(np.minimum(700, power), 2),
        "sm_clock": np.where(kind > 0, 1980 - 15 * chance.integers(0, 3, load.shape), 345),
        "temperature": np.round(heat),
        "tensor_active": np.round(np.where(trains, 0.62, 0.21) * load * 100, 1),
        "throttle_reasons": (kind == 0) * 1,
        "utilization": np.round(load * 100),
    }
    times = START_US + day * DAY_US + np.tile(seconds[:, 0] * SECOND_US, gpus)
    return pl.DataFrame(
        {
            "gpu": pl.Series(names, dtype=pl.String).gather(pl.Series(np.repeat(np.arange(gpus), rows))),
            "timestamp": pl.Series(times).cast(pl.Datetime("us", "UTC")),
            **{f"={name}": np.ascontiguousarray(values[name].T, np.float64).ravel() for name in METRICS},
        }
    )


def build(folder: Path, gpus: int, days: int, interval_s: int) -> list[ColdFile]:
    """Write all days; prints how fast and how large."""
    names = sorted(f"GPU-{gpu * 2_654_435_761 % (1 << 32):08x}-9309-15c5-a5d9-{gpu:012x}" for gpu in range(gpus))
    numbers = count(1)
    files: list[ColdFile] = []
    writing_s = 0.0
    for day in range(days):
        frame = one_day(names, day, interval_s)
        begun = time.perf_counter()
        window = Window.day_of(START_US + day * DAY_US)
        metrics = {name: digits_of(frame.get_column(f"={name}")) for name in METRICS}
        writer = WindowWriter(folder, window, metrics, next(numbers), numbers)
        for piece in frame.iter_slices(1 << 16):
            writer.write(piece)
        writer.finish()
        files += writer.publish()
        writing_s += time.perf_counter() - begun
    samples = sum(file.samples for file in files if not file.level.is_rollup)
    print(
        f"{samples:,} samples, {gpus:,} GPUs, {len(files)} files, {samples / writing_s / 1e6:.1f} M samples/s written"
    )
    for level in Level:
        if size := sum(file.size for file in files if file.level is level):
            print(f"  {level.value:>4}  {size / samples:.3f} B/sample  {size / 2**20:,.1f} MiB")
    return files


def chart(folder: Path, files: Sequence[ColdFile], gpu: str, days: int, *, rolled_up: bool) -> int:
    """Read one metric of a GPU over all days, in about 300 steps; how many there were."""
    reader = ColdReader(folder)
    end_us = START_US + days * DAY_US
    width_us = max(1, -(-days * DAY_US // 300 // HOUR_US)) * HOUR_US if rolled_up else days * DAY_US // 300
    steps, span = Steps.over(START_US, end_us, width_us), Span(START_US, end_us)
    if rolled_up:
        chosen = [file for file in files if file.level is Level.HOUR_ROLLUP]
        return reader.rollup_partials(chosen, [gpu], span, steps, [METRIC]).height
    chosen = [file for file in files if not file.level.is_rollup]
    return reader.partials(chosen, [gpu], span, steps, [METRIC]).height


def timed(action: Callable[[], int]) -> float:
    begun = time.perf_counter()
    assert action() > 0
    return (time.perf_counter() - begun) * 1000


def measure(folder: Path, files: Sequence[ColdFile], days: int) -> None:
    """Ask in this process for GPUs by chance, and once in each of some new processes."""
    chance = np.random.default_rng(5)
    gpus = _gpus(folder, files)
    for rolled_up in (True, False):
        asked = [gpus[place] for place in chance.integers(0, len(gpus), QUERIES)]
        took = [timed(partial(chart, folder, files, gpu, days, rolled_up=rolled_up)) for gpu in asked]
        new = [_in_new_process(folder, asked[place], days, rolled_up) for place in range(PROCESSES)]
        source = "1h roll-ups" if rolled_up else "records    "
        print(
            f"{source}  p50 {statistics.median(took):6.1f} ms  p99 {np.quantile(took, 0.99):6.1f} ms"
            f"  first in a new process: p50 {statistics.median(new):6.1f} ms  worst of {PROCESSES} {max(new):6.1f} ms"
        )


def _gpus(folder: Path, files: Sequence[ColdFile]) -> list[str]:
    first = next(file for file in files if file.level is Level.HOUR_ROLLUP)
    frames = ColdReader(folder).rollup_partials([first], None, Span(), Steps(START_US, DAY_US, 1), [METRIC])
    return sorted(frames.get_column("gpu").unique().to_list())


def _in_new_process(folder: Path, gpu: str, days: int, rolled_up: bool) -> float:
    command = [sys.executable, "-m", "benchmarks.store_read", "--ask", str(folder), gpu, str(days), str(int(rolled_up))]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def ask(folder: Path, gpu: str, days: int, rolled_up: bool) -> None:
    """The part of :func:`measure` that runs in a new process: prints the milliseconds after imports."""
    files = [ColdFile.from_json(file) for file in json.loads((folder / "files.json").read_text())]
    print(timed(lambda: chart(folder, files, gpu, days, rolled_up=rolled_up)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpus", type=int, default=1157)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--interval", type=int, default=30, help="seconds between the records of a GPU")
    parser.add_argument("--ask", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ask:
        folder, gpu, days, rolled_up = arguments.ask
        ask(Path(folder), gpu, int(days), bool(int(rolled_up)))
        return
    folder = Path(tempfile.mkdtemp(prefix="store-read-"))
    try:
        files = build(folder, arguments.gpus, arguments.days, arguments.interval)
        (folder / "files.json").write_text(json.dumps([file.to_json() for file in files]))
        measure(folder, files, arguments.days)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
