"""The hot store: one JSONL file a GPU, its newest lines in memory, and the checkpoint that says which of it counts."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from telemetry.model import GPU, TIMESTAMP
from telemetry.runtime.errors import DataDirectoryError
from telemetry.storage import files
from telemetry.storage.checkpoint import Block, Checkpoint, Entry
from telemetry.storage.columns import Columns, Portion, combine, labels_by_gpu, oldest_by_gpu, portions
from telemetry.storage.lines import parse_lines
from telemetry.storage.names import file_stem
from telemetry.storage.reading import in_time_order
from telemetry.storage.samples import find_new
from telemetry.storage.store import (
    Batch,
    Change,
    Committed,
    Gpu,
    Position,
    Span,
    StoreError,
    StoreStats,
    TopicPartition,
)
from telemetry.storage.tails import CACHE_BYTES_MAX, TailCache, last_lines

log = logging.getLogger(__name__)

BLOCK_BYTES: Final = 64 << 10
"""A block of a file is finished, and its range of time noted, once it has so many bytes."""

_SUFFIX: Final = ".jsonl"
_OLDEST_US: Final = -(1 << 62)
_NEWEST_US: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class _Growth:
    """What records do to a GPU: its entry afterwards, a block that they finished, and where their lines go."""

    entry: Entry
    finished: Block | None
    offset: int
    portion: Portion
    change: Change


class HotStore:
    """Keeps samples in ``<directory>/hot/``, the quarantine in ``<directory>/quarantine.jsonl``.

    A batch is written to the files, synced, and then vouched for by one transaction. When the store is opened, files
    are cut to what the last transaction vouched for. Whoever opens it holds the directory's lock.
    """

    def __init__(
        self,
        directory: Path,
        *,
        cache_entries: int = 1000,
        cache_bytes: int = CACHE_BYTES_MAX,
        synced: bool = True,
    ) -> None:
        """Open the store and undo what was not committed.

        Args:
            directory: where the files are; made if it is not there.
            cache_entries: how many records of each GPU to keep in memory.
            cache_bytes: how many bytes of records to keep in memory, at most.
            synced: whether :meth:`commit` waits for the disk. If not, a power failure can take back what was committed;
                the death of the process cannot.

        Raises:
            DataDirectoryError: if the files cannot be used.
        """
        self._files = directory / "hot"
        self._quarantine = directory / "quarantine.jsonl"
        self._synced = synced
        self._tails = TailCache(cache_entries, cache_bytes)
        self._committing = threading.Lock()
        self._checkpoint_us: int | None = None
        try:
            self._files.mkdir(parents=True, exist_ok=True)
            database = directory / "checkpoint.sqlite"
            if not database.exists() and any(files.file_sizes(self._files, _SUFFIX)):
                raise DataDirectoryError(
                    f"{self._files} holds records but {database} is missing; put it back or move the records away"
                )
            self._checkpoint = Checkpoint(database, synced=synced)
            self._positions = self._checkpoint.positions()
            self._quarantine_length = self._checkpoint.quarantine_length()
            self._entries = {entry.gpu.gpu: entry for entry in self._checkpoint.entries()}
            self._next_number = 1 + max((entry.number for entry in self._entries.values()), default=0)
            self._recover()
            self._warm()
        except (OSError, StoreError) as error:
            raise DataDirectoryError(f"data directory {directory} cannot be used: {error}") from None
        self._stored_bytes = sum(entry.block.end for entry in self._entries.values())

    def positions(self) -> Mapping[TopicPartition, Position]:
        """How far each partition has been stored."""
        return self._positions

    def commit(self, batch: Batch) -> Committed:
        """Store a batch; when this returns, it survives a crash as a whole.

        Raises:
            StoreError: nothing of it is stored.
        """
        with self._committing:
            columns, duplicates, conflicts = self._novel(combine(batch.frames))
            growths = self._growths(portions(columns), labels_by_gpu(batch.frames))
            refused = b"".join(line + b"\n" for line in batch.quarantine)
            self._write(growths, refused)
            self._checkpoint.commit(
                [growth.entry for growth in growths],
                [(growth.entry.number, growth.finished) for growth in growths if growth.finished],
                batch.positions,
                self._quarantine_length + len(refused),
            )
            self._apply(growths, refused, batch.positions)
        samples = sum(columns.frame.select(pl.col(columns.places).count()).row(0)) if columns.metrics else 0
        return Committed(columns.frame.height, samples, duplicates, conflicts, [growth.change for growth in growths])

    def gpus(self) -> Sequence[Gpu]:
        """All GPUs, by identity."""
        entries = dict(self._entries)
        return [entries[name].gpu for name in sorted(entries)]

    def find(self, gpu: str) -> Gpu | None:
        """One GPU."""
        entry = self._entries.get(gpu)
        return entry.gpu if entry else None

    def records(
        self, gpu: str, span: Span, *, metrics: Sequence[str] | None = None, newest_first: bool = False
    ) -> Iterator[pl.DataFrame]:
        """Yield a GPU's records in order of time, in pieces; see :class:`~telemetry.storage.store.Store`."""
        entry = self._entries.get(gpu)
        if entry is None:
            return
        names = sorted(entry.gpu.latest) if metrics is None else metrics
        start = _OLDEST_US if span.start_us is None else span.start_us
        end = _NEWEST_US if span.end_us is None else span.end_us
        blocks = self._checkpoint.blocks(entry.number, entry.block.start, start, end)
        last = entry.block
        if last.start < last.end and last.max_us >= start and last.min_us < end:
            blocks.append(last)
        times = pl.col(TIMESTAMP).dt.timestamp("us")

        def load(block: Block) -> pl.DataFrame:
            frame = parse_lines(self._bytes(entry, block), names)
            return frame.filter((times >= start) & (times < end))

        yield from in_time_order(blocks, load, newest_first=newest_first)

    def stats(self) -> StoreStats:
        """What the store holds."""
        cached_counts, cached_bytes = self._tails.usage()
        return StoreStats(
            gpus=len(self._entries),
            stored_bytes=self._stored_bytes,
            cached_counts=cached_counts,
            cached_bytes=cached_bytes,
            cache_entries_max=self._tails.entries_max,
            cache_bytes_max=self._tails.bytes_max,
            quarantine_bytes=self._quarantine_length,
            checkpoint_us=self._checkpoint_us,
        )

    def close(self) -> None:
        """Let go of the files."""
        with self._committing:
            self._checkpoint.close()

    def _novel(self, columns: Columns) -> tuple[Columns, int, int]:
        """Leave out what is stored already. Only GPUs with instants not after their newest one need a close look."""
        suspects = [
            gpu
            for gpu, (oldest, increasing) in oldest_by_gpu(columns).items()
            if not increasing or (gpu in self._entries and oldest <= self._entries[gpu].gpu.last_us)
        ]
        if not suspects:
            return columns, 0, 0
        is_suspect = pl.col(GPU).is_in(suspects)
        doubtful = columns.frame.filter(is_suspect)
        novelty = find_new(doubtful, self._stored_like(doubtful, columns), columns.places)
        frame = pl.concat([columns.frame.filter(~is_suspect), novelty.frame.select(columns.frame.columns)])
        return Columns(frame, columns.metrics), novelty.duplicates, novelty.conflicts

    def _stored_like(self, doubtful: pl.DataFrame, columns: Columns) -> pl.DataFrame:
        """What is stored for the GPUs and the stretch of time of ``doubtful``, in the same columns."""
        times = pl.col(TIMESTAMP).dt.timestamp("us")
        ranges = doubtful.group_by(GPU).agg(times.min().alias("min"), times.max().alias("max"))
        parts = [doubtful.clear()]
        for gpu, oldest, newest in ranges.iter_rows():
            for frame in self.records(gpu, Span(oldest, newest + 1), metrics=columns.metrics):
                named = (pl.col(name).alias(place) for name, place in zip(columns.metrics, columns.places, strict=True))
                parts.append(frame.select(TIMESTAMP, pl.lit(gpu).alias(GPU), *named))
        return pl.concat(parts)

    def _growths(self, news: Sequence[Portion], labels: Mapping[str, Mapping[str, str]]) -> list[_Growth]:
        growths = []
        number = self._next_number
        for portion in news:
            known = self._entries.get(portion.gpu)
            if known is None:
                empty = Gpu(portion.gpu, {}, portion.first_us, portion.last_us, 0, {})
                known = Entry(number, file_stem(portion.gpu) + _SUFFIX, empty, Block(0, 0, 0, 0))
                number += 1
            growths.append(_grow(known, portion, labels.get(portion.gpu, {})))
        return growths

    def _write(self, growths: Sequence[_Growth], refused: bytes) -> None:
        try:
            for growth in growths:
                files.write_at(self._files / growth.entry.file, growth.offset, growth.portion.text)
            if refused:
                files.write_at(self._quarantine, self._quarantine_length, refused)
            if self._synced:
                is_new = any(growth.offset == 0 for growth in growths)
                files.sync_files(
                    self._files, [self._files / growth.entry.file for growth in growths], with_directory=is_new
                )
                if refused:
                    is_new = self._quarantine_length == 0
                    files.sync_files(self._quarantine.parent, [self._quarantine], with_directory=is_new)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise StoreError(f"{error.filename or self._files}: {error.strerror}", full=full) from None

    def _apply(self, growths: Sequence[_Growth], refused: bytes, positions: Mapping[TopicPartition, Position]) -> None:
        for growth in growths:
            portion, entry = growth.portion, growth.entry
            self._tails.append(entry.number, growth.offset + len(portion.text), portion.text, portion.records)
            self._entries[portion.gpu] = entry
            self._next_number = max(self._next_number, entry.number + 1)
            self._stored_bytes += len(portion.text)
        self._quarantine_length += len(refused)
        self._positions = {**self._positions, **positions}
        self._checkpoint_us = time.time_ns() // 1000

    def _bytes(self, entry: Entry, block: Block) -> bytes:
        cached = self._tails.read(entry.number, block.start, block.end)
        if cached is not None:
            return cached
        path = self._files / entry.file
        try:
            return files.read_range(path, block.start, block.end)
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}") from None

    def _recover(self) -> None:
        """Cut files to what the checkpoint vouches for, and take note of files that are shorter than that."""
        files.cut(self._quarantine, self._quarantine_length)
        known = {entry.file: entry for entry in self._entries.values()}
        for name, size in files.file_sizes(self._files, _SUFFIX):
            entry = known.pop(name, None)
            if entry is None:
                log.warning("removed a file that no checkpoint vouches for", extra={"file": name, "bytes": size})
                (self._files / name).unlink()
            elif size > entry.block.end:
                files.cut(self._files / name, entry.block.end)
            elif size < entry.block.end:
                self._accept_loss(entry, size)
        for entry in known.values():
            self._accept_loss(entry, 0)

    def _accept_loss(self, entry: Entry, size: int) -> None:
        path = self._files / entry.file
        end = files.read_range(path, 0, size).rfind(b"\n") + 1 if size else 0
        if size:
            files.cut(path, end)
        log.error("records are missing", extra={"file": str(path), "bytes": entry.block.end - end})
        # The lost end may begin before the last block; what is left of it is then one block of unknown times.
        finished = self._checkpoint.blocks(entry.number, entry.block.start, _OLDEST_US, _NEWEST_US)
        start = max((block.end for block in finished if block.end <= end), default=0)
        last = Block(min(start, end), end, entry.gpu.first_us, entry.gpu.last_us)
        self._checkpoint.shorten(entry.number, last)
        self._entries[entry.gpu.gpu] = Entry(entry.number, entry.file, entry.gpu, last)

    def _warm(self) -> None:
        """Fill the memory from the ends of files, the most recently written first."""
        room = self._tails.bytes_max
        for entry in sorted(self._entries.values(), key=lambda entry: entry.gpu.last_us, reverse=True):
            end, records = entry.block.end, max(entry.gpu.records, 1)
            size = min(end, end * self._tails.entries_max // records * 5 // 4, room)
            if not size:
                continue
            data = files.read_range(self._files / entry.file, end - size, end)
            if size < end:
                data = data[data.find(b"\n") + 1 :]
            data = last_lines(data, self._tails.entries_max)
            self._tails.append(entry.number, end, data, data.count(b"\n"))
            room -= len(data)


def _grow(known: Entry, portion: Portion, labels: Mapping[str, str]) -> _Growth:
    gpu, block, size = known.gpu, known.block, len(portion.text)
    is_empty = block.start == block.end
    grown = Block(
        block.start,
        block.end + size,
        portion.first_us if is_empty else min(block.min_us, portion.first_us),
        portion.last_us if is_empty else max(block.max_us, portion.last_us),
    )
    is_finished = grown.end - grown.start >= BLOCK_BYTES
    latest = dict(gpu.latest)
    for name, (instant, last, _, _) in portion.values.items():
        if name not in latest or instant >= latest[name][0]:
            latest[name] = (instant, last)
    is_new = gpu.records == 0
    changed = is_new or any(gpu.labels.get(name) != value for name, value in labels.items())
    after = Gpu(
        gpu.gpu,
        {**gpu.labels, **labels} if changed else gpu.labels,
        min(gpu.first_us, portion.first_us),
        max(gpu.last_us, portion.last_us),
        gpu.records + portion.records,
        latest,
    )
    change = Change(
        gpu.gpu,
        after.last_us,
        is_new or portion.last_us > gpu.last_us,
        after.labels if changed else None,
        {name: (last, low, high) for name, (_, last, low, high) in portion.values.items()},
    )
    entry = Entry(known.number, known.file, after, Block(grown.end, grown.end, 0, 0) if is_finished else grown)
    return _Growth(entry, grown if is_finished else None, block.end, portion, change)
