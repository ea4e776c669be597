"""`telemetry export`: from collectors into a file that is there whole or not at all, or to standard output."""

from __future__ import annotations

import gzip
import os
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, cast

import click

from telemetry.console.collectors import Selection, tell_what_is_missing, time_range
from telemetry.console.progress import ProgressLine
from telemetry.console.record_files import ENDINGS, ROWS, Format, RecordWriter, Stored, record_writer
from telemetry.console.session import Failure, notice
from telemetry.console.tables import plural, rate, size
from telemetry.query.fanout import Collectors
from telemetry.v1 import query_pb2

PAGE_SIZE: Final = 10_000
_STANDARD_OUTPUT: Final = "-"


@dataclass(frozen=True, slots=True)
class Target:
    """Where an export goes.

    Attributes:
        path: the file; ``None`` is standard output.
        format: what is written.
        packed: whether it is gzipped.
    """

    path: Path | None
    format: Format
    packed: bool


@dataclass(slots=True)
class _Fleet:
    """The GPUs to export, as they were when the export began."""

    gpus: dict[str, query_pb2.Gpu] = field(default_factory=dict)
    completeness: query_pb2.Completeness = field(default_factory=query_pb2.Completeness)

    @property
    def newest_us(self) -> int:
        return max((gpu.last_seen.ToMicroseconds() for gpu in self.gpus.values()), default=0)


def target_of(file: str, kind: str | None) -> Target:
    """Where to and what, by a file's name and the format that was asked for.

    Raises:
        click.UsageError: if the format cannot be told, or cannot go there.
    """
    if file == _STANDARD_OUTPUT:
        chosen = Format(kind or "csv")
        if chosen in (Format.PARQUET, Format.ARROW):
            raise click.UsageError(f"{chosen.value} needs a file; standard output takes csv and jsonl")
        return Target(None, chosen, packed=False)
    path = Path(file)
    packed = path.suffix.lower() == ".gz"
    ending = path.with_suffix("").suffix if packed else path.suffix
    found = Format(kind) if kind else ENDINGS.get(ending.lower())
    if found is None:
        raise click.UsageError(f"what to write into {file}? It ends with none of {', '.join(ENDINGS)}; give --format")
    if packed and found in (Format.PARQUET, Format.ARROW):
        raise click.UsageError(f"{found.value} is compressed in itself; write it without .gz")
    return Target(path, found, packed)


async def export(collectors: Collectors, selection: Selection, target: Target, *, allow_partial: bool) -> None:
    """Export.

    Args:
        collectors: whom to ask.
        selection: what.
        target: where to.
        allow_partial: whether what is not complete is good enough.

    Raises:
        Failure: if it is not complete, or cannot be written; then there is no file.
        UpstreamError: if no collector answers.
    """
    fleet = await _fleet(collectors, await selection.selector(collectors))
    metrics = sorted({name for gpu in fleet.gpus.values() for name in gpu.metrics})
    if selection.metrics:
        metrics = sorted(set(selection.metrics))
    names = sorted({name for gpu in fleet.gpus.values() for name in gpu.labels})
    labels = {gpu.gpu: dict(gpu.labels) for gpu in fleet.gpus.values()}
    started = time.monotonic()
    progress = ProgressLine()
    source = _Export(collectors, selection, fleet, frozenset(metrics))
    try:
        with progress, _opened(target) as file:
            writer = record_writer(target.format, file, metrics, names, labels)
            try:
                async with aclosing(source.records()) as records:
                    await _write(records, writer, source, progress)
            except BaseException:
                writer.abandon()
                raise
            if source.is_partial and not allow_partial:
                tell_what_is_missing(source.completeness)
                raise Failure("what was exported is not complete, so it is not kept; --allow-partial keeps it")
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise Failure(f"{target.path or 'standard output'}: {error.strerror or error}") from None
    tell_what_is_missing(source.completeness)
    seconds = time.monotonic() - started
    where = f" to {target.path}, {size(target.path.stat().st_size)}" if target.path else ""
    notice(f"{source.said()} exported{where}; {rate(source.count / max(seconds, 1e-3))} records/s")


class _Export:
    """The records of an export as they come, counted."""

    def __init__(self, collectors: Collectors, selection: Selection, fleet: _Fleet, metrics: frozenset[str]) -> None:
        self._collectors = collectors
        self._selection = selection
        self._fleet = fleet
        self._metrics = metrics
        self._unknown: dict[str, None] = {}
        self.completeness = query_pb2.Completeness()
        self.completeness.CopyFrom(fleet.completeness)
        self.count = 0
        self._gpus = 0

    @property
    def is_partial(self) -> bool:
        """Whether something is missing."""
        return self.completeness.partial

    def said(self) -> str:
        """How far it is, for people."""
        return f"{plural(self.count, 'record')} of {plural(self._gpus, 'GPU')}"

    async def records(self) -> AsyncGenerator[list[Stored]]:
        """Yield records by GPU and time."""
        end_us = self._selection.end_us
        if end_us is None:
            # What comes in meanwhile is not part of it.
            end_us = self._fleet.newest_us + 1
        names = list(self._fleet.gpus)
        span = time_range(self._selection.start_before(end_us), end_us)
        gpu = ""
        for start in range(0, len(names), PAGE_SIZE):
            request = query_pb2.StreamRecordsRequest(
                selector=query_pb2.GpuSelector(gpus=names[start : start + PAGE_SIZE]),
                range=span,
                order=query_pb2.RECORD_ORDER_OLDEST_FIRST,
                metrics=self._selection.metrics,
            )
            async with aclosing(self._collectors.stream_records(request, patient=True)) as pieces:
                async for piece in pieces:
                    records = [
                        Stored(record.timestamp.ToMicroseconds(), record.gpu, dict(record.metrics))
                        for record in piece.records
                    ]
                    for record in records:
                        if record.gpu != gpu:
                            gpu = record.gpu
                            self._gpus += 1
                        self._note_unknown(record)
                    self.count += len(records)
                    yield records
                    self.completeness.MergeFrom(piece.completeness)

    def _note_unknown(self, record: Stored) -> None:
        for name in record.metrics:
            if name not in self._metrics and name not in self._unknown:
                self._unknown[name] = None
                self.completeness.partial = True
                self.completeness.warnings.append(
                    f"metric {name!r} came in while the export ran and is left out; run it again"
                )


async def _write(
    pieces: AsyncIterator[list[Stored]], writer: RecordWriter, source: _Export, progress: ProgressLine
) -> None:
    """Write records, always so many at a time."""
    waiting: list[Stored] = []
    async for records in pieces:
        waiting += records
        if len(waiting) >= ROWS:
            for start in range(0, len(waiting) - ROWS + 1, ROWS):
                writer.write(waiting[start : start + ROWS])
            waiting = waiting[len(waiting) - len(waiting) % ROWS :]
        progress.update(source.said)
    if waiting:
        writer.write(waiting)
    writer.finish()


async def _fleet(collectors: Collectors, selector: query_pb2.GpuSelector) -> _Fleet:
    fleet = _Fleet()
    request = query_pb2.ListGpusRequest(selector=selector, page_size=PAGE_SIZE)
    while True:
        page = await collectors.list_gpus(request)
        fleet.gpus.update((gpu.gpu, gpu) for gpu in page.gpus)
        fleet.completeness.MergeFrom(page.completeness)
        request.page_token = page.next_page_token
        if not request.page_token:
            return fleet


@contextmanager
def _opened(target: Target) -> Iterator[BinaryIO]:
    """A file to write into, which takes its place when all went well; else nothing is left of it."""
    if target.path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = target.path
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if target.packed:
                # Without a time and a name, so that the same records make the same file.
                with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
                    yield cast("BinaryIO", packed)
            else:
                yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
