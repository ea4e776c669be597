"""A CSV file is split in one thread while its rows are made in another: the same rows, and nothing left at the end."""

from __future__ import annotations

import threading
from pathlib import Path

import polars as pl
import pytest

from telemetry.streamer.sources.csv_file import CsvSource
from telemetry.streamer.sources.table import LINE

HEADER = "timestamp,metric_name,gpu_id,uuid,Hostname,value\n"
METRICS = {"DCGM_FI_DEV_GPU_TEMP": 1.0, "DCGM_FI_DEV_POWER_USAGE": 0.25, "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": 1000.0}


def long_file(path: Path, instants: int) -> Path:
    rows = [
        f"2026-01-01T00:{instant // 60:02}:{instant % 60:02}Z,{metric},{gpu},GPU-{gpu},node-1,{instant * factor}\n"
        for instant in range(instants)
        for gpu in range(4)
        for metric, factor in METRICS.items()
    ]
    rows[100] = rows[100].replace(",node-1,", ",node-1,,")
    rows[200] = "2026-01-01T00:00:00Z,,0,GPU-0,node-1,1\n"
    path.write_text(HEADER + "".join(rows))
    return path


@pytest.mark.parametrize("block_bytes", [500, 4000, 1 << 20])
def test_blocks_of_any_size_give_the_same_rows_and_the_same_bad_ones(tmp_path: Path, block_bytes: int) -> None:
    path = long_file(tmp_path / "long.csv", 60)
    source = CsvSource(path, block_bytes=block_bytes)
    blocks = list(source)
    source.close()
    rows = pl.concat([block.rows for block in blocks])
    assert rows[LINE].to_list() == [line for line in range(2, 722) if line not in (102, 202)]
    assert [(bad.line, bad.field) for block in blocks for bad in block.bad] == [(102, ""), (202, "metric_name")]
    assert len(blocks) == max(1, -(-(path.stat().st_size) // block_bytes)) or block_bytes < 4000
    records = source.records(rows).filter(pl.col("gpu") == "GPU-3")
    # Millijoules have a factor of their own, others have none.
    assert records["temperature"].to_list() == [float(instant) for instant in range(60)]
    assert records["power_draw"].to_list() == [instant * 0.25 for instant in range(60)]
    assert records["energy"].to_list() == [float(instant) for instant in range(60)]


def test_a_source_closed_before_its_end_leaves_no_thread_behind(tmp_path: Path) -> None:
    source = CsvSource(long_file(tmp_path / "long.csv", 60), block_bytes=500)
    blocks = iter(source)
    next(blocks)
    assert any(thread.name.startswith("parse") for thread in threading.enumerate())
    source.close()
    assert not any(thread.name.startswith("parse") for thread in threading.enumerate())
