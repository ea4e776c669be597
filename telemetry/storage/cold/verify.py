"""Examines a cold file from its first byte to its last against what the catalogue says of it."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from telemetry.model import GPU, TIMESTAMP
from telemetry.storage.cold.files import FORMAT, ColdFile, ColdFileError
from telemetry.storage.cold.parquet import ColdParquet, file_crc32c, samples_in, stored_columns
from telemetry.storage.cold.rows import TIMES_US, first_key, last_key


def verify(file: ColdFile, directory: Path) -> list[str]:
    """What is wrong with a file; nothing if it is sound. Reads all of it, a row group at a time."""
    path = directory / file.path
    try:
        size = path.stat().st_size
        if size != file.size:
            return [f"it has {size} bytes instead of {file.size}"]
        if file_crc32c(path) != file.crc32c:
            return ["its checksum is wrong", *_examine(file, directory)]
        return _examine(file, directory)
    except FileNotFoundError:
        return ["it is missing"]
    except OSError as error:
        return [f"it cannot be read: {error.strerror}"]


def _examine(file: ColdFile, directory: Path) -> list[str]:
    try:
        with ColdParquet(directory, file) as parquet:
            return [*_compare_metadata(file, parquet), *_compare_rows(file, parquet)]
    except ColdFileError as error:
        return [error.reason]


def _compare_metadata(file: ColdFile, parquet: ColdParquet) -> list[str]:
    expected = {
        "format": FORMAT,
        "level": file.level.value,
        "window": [file.window.start_us, file.window.end_us],
        "metrics": list(file.metrics),
    }
    return [
        f"its metadata says {name} {parquet.metadata.get(name)!r} instead of {value!r}"
        for name, value in expected.items()
        if parquet.metadata.get(name) != value
    ]


def _compare_rows(file: ColdFile, parquet: ColdParquet) -> list[str]:
    columns, _ = stored_columns(file.level, file.metrics)
    rows = samples = 0
    before: tuple[str, int] | None = None
    gpus: list[str] = []
    times: list[int] = []
    is_sorted = True
    for frame in parquet.frames(columns):
        rows += frame.height
        samples += samples_in(frame, is_rollup=file.level.is_rollup)
        is_sorted &= (before is None or before < first_key(frame)) and _ascends_strictly(frame)
        before = last_key(frame)
        gpus = [*gpus[:1], frame.item(0, GPU), frame.item(-1, GPU)]
        gpus = [gpus[0], gpus[-1]]
        times += frame.select(TIMES_US.min().alias("low"), TIMES_US.max().alias("high")).row(0)
        times = [min(times), max(times)]
    found = {
        "rows": rows,
        "samples": samples,
        "first_us": times[0] if times else None,
        "last_us": times[-1] if times else None,
        "gpu_min": gpus[0] if gpus else None,
        "gpu_max": gpus[-1] if gpus else None,
    }
    problems = [
        f"{name} is {value} instead of {getattr(file, name)}"
        for name, value in found.items()
        if value != getattr(file, name)
    ]
    if not is_sorted:
        problems.append("its rows are not sorted by GPU and time")
    if times and (times[0] < file.window.start_us or times[1] >= file.window.end_us):
        problems.append("it has rows outside its window")
    return problems


def _ascends_strictly(frame: pl.DataFrame) -> bool:
    gpu, time = pl.col(GPU), pl.col(TIMESTAMP)
    steps = (gpu > gpu.shift()) | ((gpu == gpu.shift()) & (time > time.shift()))
    return bool(frame.select(steps.fill_null(True).all()).item())
