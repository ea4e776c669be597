"""The compaction job: closed hot segments and cold files in, merged cold files and their roll-ups out.

It knows no catalogue. What it writes is in nobody's view until the caller adopts it, and the caller deletes what it
replaces; so a job that dies anywhere has changed nothing. ``python -m telemetry.storage.cold.job`` reads one as JSON
from standard input and runs it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Final, Self

import polars as pl

from telemetry.storage.cold.alone import alone
from telemetry.storage.cold.damage import Damage, DamageLog
from telemetry.storage.cold.digits import UNSEEN, Digits
from telemetry.storage.cold.files import HOUR_US, ColdFile, ColdFileError, HotSegment, Window
from telemetry.storage.cold.parquet import ROW_GROUP_ROWS, ColdParquet
from telemetry.storage.cold.rows import column_of, merge_streams
from telemetry.storage.cold.segments import read_segments
from telemetry.storage.cold.spool import Spool
from telemetry.storage.cold.windows import TEMPORARY, WindowWriter

STREAMS_MAX: Final = 32
"""Sorted streams merged at once; each holds some rows in memory."""

_BATCH_ROWS_MIN: Final = 1024
_COPIES: Final = 16
"""How often a row is in memory at the worst moment, found by measurement."""


class JobError(Exception):
    """A job failed and changed nothing.

    Attributes:
        path: the cold file (relative to the cold directory) or the segment to blame; ``None`` if it is none of them.
    """

    def __init__(self, message: str, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


@dataclass(frozen=True, slots=True)
class Job:
    """What to compact. Two files or segments that may hold the same instants must be given in one job or not at all,
    unless the one that is left out is the older.

    Attributes:
        directory: the cold directory.
        segments: closed segments, newer than ``files``; those of one GPU in the order in which they were written.
        files: files of records to merge and replace.
        next_id: the number of the first file that is written.
        now_us: what time it is.
        grace_us: a day is over when so much time has passed since its end.
        minutes_of: files of records that stay as they are and get a roll-up by the minute.
        memory_bytes: about how much memory rows may take.
    """

    directory: Path
    segments: Sequence[HotSegment]
    files: Sequence[ColdFile]
    next_id: int
    now_us: int
    grace_us: int
    minutes_of: Sequence[ColdFile] = ()
    memory_bytes: int = 256 << 20

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "directory": str(self.directory),
            "segments": [[segment.gpu, str(segment.path), segment.length] for segment in self.segments],
            "files": [file.to_json() for file in self.files],
            "next_id": self.next_id,
            "now_us": self.now_us,
            "grace_us": self.grace_us,
            "minutes_of": [file.to_json() for file in self.minutes_of],
            "memory_bytes": self.memory_bytes,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """From what :meth:`to_json` gave."""
        return cls(
            **{
                **value,
                "directory": Path(value["directory"]),
                "segments": [HotSegment(gpu, Path(path), length) for gpu, path, length in value["segments"]],
                "files": [ColdFile.from_json(file) for file in value["files"]],
                "minutes_of": tuple(ColdFile.from_json(file) for file in value["minutes_of"]),
            }
        )


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a job wrote.

    Attributes:
        files: the new files, roll-ups among them. All are on disk under their final names.
        damaged: lines of segments that could not be read; their bytes are kept below ``damaged/``.
        damaged_lines: how many of them there are; ``damaged`` names the first only.
    """

    files: Sequence[ColdFile]
    damaged: Sequence[Damage] = field(default=())
    damaged_lines: int = 0

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "files": [file.to_json() for file in self.files],
            "damaged": [damage.to_json() for damage in self.damaged],
            "damaged_lines": self.damaged_lines,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """From what :meth:`to_json` gave."""
        return cls(
            [ColdFile.from_json(file) for file in value["files"]],
            [Damage(**damage) for damage in value["damaged"]],
            value["damaged_lines"],
        )


def run_job(job: Job) -> JobResult:
    """Do it, in this process.

    The rows of a day that is over go to day files, others to hour files. If segments are given, the files' generation
    is ``next_id``, otherwise the highest of those merged. Any two rows of a GPU and instant become one; a segment's
    value wins over a file's, a later segment's or generation's over an earlier one's. The same job writes the same.

    Raises:
        JobError: it failed. Nothing counts of what it may have left on disk.
    """
    try:
        job.directory.mkdir(parents=True, exist_ok=True)
        with alone(job.directory):
            return _run(job)
    except ColdFileError as error:
        raise JobError(str(error), error.path) from None
    except OSError as error:
        raise JobError(f"{error.filename or job.directory}: {error.strerror or error}", error.filename) from None


def _run(job: Job) -> JobResult:
    for leftover in job.directory.glob(f"*/*{TEMPORARY}"):
        leftover.unlink()
    damages = DamageLog(job.directory, job.next_id)
    generation = job.next_id if job.segments else max((file.generation for file in job.files), default=job.next_id)
    numbers = iter(range(job.next_id, sys.maxsize))
    spool = Spool(job.directory, job.now_us, job.grace_us)
    writers: list[WindowWriter] = []
    try:
        for frame, damaged in read_segments(sorted(job.segments, key=lambda segment: segment.gpu)):
            spool.add(frame)
            damages.add(damaged)
        for window in _windows(job, spool):
            sources = [file for file in job.files if file.window.meets(window.start_us, window.end_us)]
            metrics = _metrics(job.directory, sources, spool.metrics(window))
            writer = WindowWriter(job.directory, window, metrics, generation, numbers)
            writers.append(writer)
            streams = [*_streams(job, sources, window, list(metrics)), *spool.take(window)]
            for rows in merge_streams(_few(streams, spool, window)):
                writer.write(rows)
            writer.finish()
        for file in job.minutes_of:
            writers.append(_minutes(job, file, numbers))
        damages.close()
        files = [file for writer in writers for file in writer.publish()]
    except EOFError as error:
        raise JobError(str(error), str(error).split(" has ", 1)[0]) from None
    except BaseException:
        for writer in writers:
            writer.abandon()
        raise
    finally:
        spool.close()
    return JobResult(files, damages.first, damages.lines)


def _minutes(job: Job, file: ColdFile, numbers: Iterator[int]) -> WindowWriter:
    """Roll a file's records up by the minute."""
    metrics = _metrics(job.directory, [file], {})
    writer = WindowWriter(job.directory, file.window, metrics, file.generation, numbers, minutes_of=file.id)
    try:
        (rows_of_file,) = _streams(job, [file], file.window, list(metrics))
        for rows in rows_of_file:
            writer.write(rows)
        writer.finish()
    except BaseException:
        writer.abandon()
        raise
    return writer


def _metrics(directory: Path, files: Sequence[ColdFile], others: Mapping[str, Digits]) -> dict[str, Digits]:
    """The metrics of all together, and what all their values can be written with."""
    found = dict(others)
    for file in files:
        with ColdParquet(directory, file) as parquet:
            for metric, digits in parquet.digits.items():
                found[metric] = found.get(metric, UNSEEN).joined(digits)
    return dict(sorted(found.items()))


def _windows(job: Job, spool: Spool) -> list[Window]:
    windows = set(spool.windows())
    for file in job.files:
        windows.update(
            spool.window_of(start_us) for start_us in range(file.window.start_us, file.window.end_us, HOUR_US)
        )
    return sorted(windows)


def _streams(
    job: Job, files: Sequence[ColdFile], window: Window, metrics: Sequence[str]
) -> Iterator[Iterator[pl.DataFrame]]:
    """Streams in the order of generations. Files of one window and generation follow each other in one stream."""
    columns = [column_of(metric) for metric in metrics]
    batch_rows = job.memory_bytes // (_COPIES * STREAMS_MAX * 8 * (len(columns) + 4))
    batch_rows = max(_BATCH_ROWS_MIN, min(ROW_GROUP_ROWS, batch_rows))
    ordered = sorted(files, key=lambda file: (file.generation, file.window, file.gpu_min))
    for _, group in groupby(ordered, key=lambda file: (file.generation, file.window)):
        parts = [_rows_of(job.directory, file, window, columns, batch_rows) for file in group]
        yield chain.from_iterable(parts)


def _rows_of(
    directory: Path, file: ColdFile, window: Window, columns: Sequence[str], batch_rows: int
) -> Iterator[pl.DataFrame]:
    with ColdParquet(directory, file) as parquet:
        yield from parquet.frames(columns, start_us=window.start_us, end_us=window.end_us, batch_rows=batch_rows)


def _few(streams: list[Iterator[pl.DataFrame]], spool: Spool, window: Window) -> list[Iterator[pl.DataFrame]]:
    """The same rows in no more streams than may be merged at once; the oldest are merged beforehand."""
    while len(streams) > STREAMS_MAX:
        for rows in merge_streams(streams[:STREAMS_MAX]):
            spool.keep(window, rows)
        streams = [*spool.take(window), *streams[STREAMS_MAX:]]
    return streams


def _main() -> int:
    """Read a job, run it, answer. Whoever started this process keeps standard input open: when it closes, all ends."""
    os.nice(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    job = Job.from_json(json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        answer: dict[str, Any] = {"result": run_job(job).to_json()}
    except JobError as error:
        answer = {"error": {"message": str(error), "path": error.path}}
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    return 1 if "error" in answer else 0


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(3)


if __name__ == "__main__":
    sys.exit(_main())
