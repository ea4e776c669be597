"""The samples that all stores get: a simulated fleet, cut into slabs of time, spooled in each store's own language."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from benchmarks.store.remote_write import compressed, label_bytes, sample_template, series_bytes
from telemetry.codec import label_columns, metric_columns
from telemetry.model import GPU, TIMESTAMP
from telemetry.simulator import Fleet

TEN: Final = (
    "temperature", "utilization", "memory_utilization", "encoder_utilization", "decoder_utilization", "memory_used",
    "memory_free", "power_draw", "sm_clock", "memory_clock",
)  # fmt: skip
"""What a DCGM export of an H100 fleet has."""

SLAB_INSTANTS: Final = 100
"""Instants in a slab. Prometheus takes no sample an hour older than its newest, and connections do not keep in step."""
REQUEST_SERIES: Final = 100
"""Series in a remote write request: with a slab's instants, 10,000 samples."""


@dataclass(slots=True)
class Slab:
    """All samples of some instants: an array of values a metric, a row an instant, a column a GPU."""

    times_us: np.ndarray
    frame: pl.DataFrame
    values: dict[str, np.ndarray]


@dataclass(slots=True)
class Dataset:
    """A fleet, regular in time and without incidents, so that each store gets every sample."""

    gpus: int
    hours: float
    metrics: Sequence[str] = ()
    """Which of the simulator's metrics; empty means all."""
    seed: int = 1
    fleet: Fleet = field(init=False)

    def __post_init__(self) -> None:
        self.fleet = Fleet(self.gpus, duration=timedelta(hours=self.hours), seed=self.seed)
        self.metrics = self.metrics or metric_columns(next(self.fleet.frames()))

    @property
    def samples(self) -> int:
        """How many there are."""
        return self.gpus * self.fleet.instants * len(self.metrics)

    @property
    def series(self) -> int:
        """How many GPUs and metrics."""
        return self.gpus * len(self.metrics)

    def slabs(self) -> Iterator[Slab]:
        """Yield all samples in order of time."""
        for whole in self.fleet.frames():
            frame = whole.select(TIMESTAMP, GPU, *self.metrics, *label_columns(whole))
            for part in frame.iter_slices(SLAB_INSTANTS * self.gpus):
                times_us = part[TIMESTAMP].cast(pl.Int64).to_numpy()[:: self.gpus]
                shape = (len(times_us), self.gpus)
                values = {name: part[name].to_numpy().reshape(shape) for name in self.metrics}
                yield Slab(times_us, part, values)

    def remote_writes(self) -> Iterator[list[bytes]]:
        """Yield the requests of each slab."""
        labels = [
            label_bytes(
                {"__name__": name, "gpu": gpu.uuid, "host": gpu.host, "index": str(gpu.index), "model": gpu.model.name}
            )
            for gpu in self.fleet.gpus
            for name in self.metrics
        ]
        for slab in self.slabs():
            template = sample_template(slab.times_us // 1000)
            columns = [slab.values[name][:, gpu] for gpu in range(self.gpus) for name in self.metrics]
            yield [
                compressed(
                    series_bytes(labels[at], template, columns[at])
                    for at in range(start, min(start + REQUEST_SERIES, len(columns)))
                )
                for start in range(0, len(columns), REQUEST_SERIES)
            ]

    def identities(self) -> list[str]:
        """The GPUs."""
        return [gpu.uuid for gpu in self.fleet.gpus]


def spooled(path: Path, groups: Iterable[Iterable[tuple[int, bytes]]]) -> int:
    """Write numbered blobs to a file, group by group; returns how many bytes they are."""
    size = 0
    with path.open("wb") as file:
        for group in groups:
            for number, data in group:
                file.write(struct.pack("<iI", number, len(data)))
                file.write(data)
                size += len(data)
            file.write(struct.pack("<iI", -1, 0))
    return size


def unspooled(path: Path) -> Iterator[list[tuple[int, bytes]]]:
    """Read them back, group by group."""
    group: list[tuple[int, bytes]] = []
    with path.open("rb") as file:
        while head := file.read(8):
            number, length = struct.unpack("<iI", head)
            if number < 0:
                yield group
                group = []
            else:
                group.append((number, file.read(length)))
