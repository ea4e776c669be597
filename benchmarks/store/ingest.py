"""From CSV, wide and as DCGM exports it, through the fsynced queue to stored, checkpointed and queryable."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from benchmarks import pipeline
from benchmarks.queue.report import Figure, Number, Row
from benchmarks.store.report import Asked, Part, ratio
from benchmarks.store.size import Size
from telemetry.codec import metric_columns
from telemetry.simulator import Fleet
from telemetry.simulator.output import written

GPUS = 256


def wide(size: Size) -> Part:
    """Ten metrics a row, every GPU once a second."""
    rows = size.of(300_000, 1_000_000)
    csv = size.folder / "wide.csv"
    pipeline.write_wide_csv(csv, rows, GPUS)
    rates, floors, figure = _measured(
        "ingest",
        f"{rows:,} rows × {pipeline.METRICS} metrics of {GPUS} GPUs in a wide CSV",
        csv,
        rows * pipeline.METRICS,
        GPUS,
        size,
    )
    what = "CSV wide → fsynced queue → stored, checkpointed, queryable"
    rate = Number(rates).median
    return Part(figure, [Asked(what, "samples/s", rate, 1.5e6, 4e6, "more", _beside(rate, floors))])


def long(size: Size) -> Part:
    """One sample a row."""
    fleet = Fleet(GPUS, duration=timedelta(seconds=10 * size.of(60, 240)))
    csv = size.folder / "long.dcgm.csv"
    samples = 0
    with written(csv) as write:
        for frame in fleet.frames():
            write(frame)
            samples += frame.height * len(metric_columns(frame))
    rates, floors, figure = _measured(
        "long", f"{samples:,} rows of {GPUS} GPUs in a CSV as DCGM exports it", csv, samples, GPUS, size
    )
    rate = Number(rates).median
    what = "CSV long as DCGM exports it, the same way"
    return Part(figure, [Asked(what, "rows/s", rate, 3e5, 8e5, "more", _beside(rate, floors))])


def _beside(rate: float, floors: Sequence[float]) -> str:
    floor = Number(floors).median
    return f"takes {ratio(floor, rate)} as long as a process that only makes JSON Lines of it"


def _measured(
    name: str, title: str, csv: Path, samples: int, gpus: int, size: Size
) -> tuple[Sequence[float], Sequence[float], Figure]:
    rates, floors = [], []
    cpu: dict[str, list[float]] = {}
    rss: dict[str, list[float]] = {}
    for number in range(size.rounds):
        folder = size.folder / f"{name}-{number}"
        folder.mkdir()
        floors.append(samples / pipeline.floor_s(csv, folder))
        seconds, programs = asyncio.run(pipeline.carry(csv, samples, gpus, folder, "disk", "always"))
        rates.append(samples / seconds)
        for program in programs:
            cpu.setdefault(program.name, []).append(program.cpu_s / samples * 1e6)
            rss.setdefault(program.name, []).append(program.rss_mib)
    csv.unlink()
    figure = Figure(name, title)
    figure.rows.append(Row("whole way", {"samples/s": Number(rates)}))
    figure.rows += [
        Row(program, {"CPU s/million samples": Number(cpu[program]), "RSS MiB": Number(rss[program])})
        for program in cpu
    ]
    figure.rows.append(
        Row(
            "floor",
            {"samples/s": Number(floors)},
            "reads the CSV with polars and writes JSON Lines: no queue, no sync, nothing to ask",
        )
    )
    return rates, floors, figure
