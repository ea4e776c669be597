"""A small cold tier for tests: lines in, jobs run, and the naive answer to compare with."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import polars as pl

from telemetry.storage.cold.files import DAY_US, HOUR_US, ColdFile, HotSegment
from telemetry.storage.cold.job import Job, JobResult, run_job

NOON_US = 1_764_072_000_000_000
"""2025-11-25 12:00 UTC."""

MIDNIGHT_US = NOON_US - 12 * HOUR_US

Row = tuple[str, int, Mapping[str, float]]


def line(gpu: str, time_us: int, metrics: Mapping[str, float]) -> bytes:
    """A record as the hot store writes it."""
    time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return orjson.dumps({"gpu_id": gpu, "metrics": dict(metrics), "timestamp": stamp}) + b"\n"


@dataclass
class Lake:
    """A cold directory, the files that count, and what should be in them."""

    folder: Path
    files: list[ColdFile] = field(default_factory=list)
    expected: dict[tuple[str, int], dict[str, float]] = field(default_factory=dict)
    next_id: int = 1
    segments: int = 0

    @property
    def cold(self) -> Path:
        return self.folder / "cold"

    @property
    def records(self) -> list[ColdFile]:
        """The files that are no roll-ups."""
        return [file for file in self.files if not file.level.is_rollup]

    def segment(self, rows: Sequence[Row]) -> list[HotSegment]:
        """Write closed segments, one a GPU, and expect their rows."""
        by_gpu: dict[str, bytes] = {}
        for gpu, time_us, metrics in rows:
            by_gpu[gpu] = by_gpu.get(gpu, b"") + line(gpu, time_us, metrics)
            self.expected.setdefault((gpu, time_us), {}).update(metrics)
        return [self.raw_segment(gpu, data) for gpu, data in by_gpu.items()]

    def raw_segment(self, gpu: str, data: bytes) -> HotSegment:
        """Write any bytes as a segment."""
        self.segments += 1
        path = self.folder / f"segment.{self.segments}.jsonl"
        path.write_bytes(data)
        return HotSegment(gpu, path, len(data))

    def job(self, segments: Sequence[HotSegment], files: Iterable[ColdFile] = (), now_us: int = NOON_US) -> Job:
        return Job(self.cold, segments, list(files), self.next_id, now_us, 0)

    def run(self, segments: Sequence[HotSegment], files: Sequence[ColdFile] = (), now_us: int = NOON_US) -> JobResult:
        """Run a job and adopt what it made."""
        return self.adopt(run_job(self.job(segments, files, now_us)), files)

    def adopt(self, result: JobResult, replaced: Sequence[ColdFile] = ()) -> JobResult:
        gone = {file.id for file in replaced}
        self.files = [file for file in self.files if file.id not in gone and file.derived_from not in gone]
        self.files += result.files
        self.next_id = max([self.next_id, *(file.id + 1 for file in result.files)])
        return result


def plain(
    frame: pl.DataFrame, metrics: Sequence[str], gpu: str | None = None
) -> list[tuple[str, int, dict[str, bytes]]]:
    """Rows as (gpu, time, metric → the value's bits), in order; columns are metrics by name or by place."""
    rows = []
    for row in frame.iter_rows(named=True):
        time_us = int((row["timestamp"] - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
        values = {
            name: struct.pack("<d", value)
            for place, name in enumerate(metrics)
            if (value := row.get(str(place), row.get(name))) is not None
        }
        rows.append((gpu if gpu is not None else row["gpu"], time_us, values))
    return rows


def bits(expected: Mapping[tuple[str, int], Mapping[str, float]]) -> list[tuple[str, int, dict[str, bytes]]]:
    """What should be there, as :func:`plain` says it."""
    return [
        (gpu, time_us, {name: struct.pack("<d", value) for name, value in values.items()})
        for (gpu, time_us), values in sorted(expected.items())
    ]


__all__ = ["DAY_US", "HOUR_US", "MIDNIGHT_US", "NOON_US", "Lake", "Row", "bits", "line", "plain"]
