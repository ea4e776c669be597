"""The hot tier: each GPU's lines in files, the newest of them in memory, and how they are read in order of time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from telemetry.model import GPU, TIMESTAMP
from telemetry.storage import files
from telemetry.storage.checkpoint import Block, Checkpoint, Entry, Segment
from telemetry.storage.cold.rows import merge_rows
from telemetry.storage.columns import Portion
from telemetry.storage.growth import Closing, Growth, close, grow
from telemetry.storage.lines import lines_within, parse_lines, parse_lines_of_many
from telemetry.storage.names import file_stem
from telemetry.storage.reading import in_time_order
from telemetry.storage.recovery import recover
from telemetry.storage.segments import SUFFIX, SegmentFiles, closed_name
from telemetry.storage.store import Gpu, StoreError
from telemetry.storage.tails import TailCache, last_lines
from telemetry.storage.values import Latest

OLDEST_US: Final = -(1 << 62)
NEWEST_US: Final = 1 << 62

_LINE_BYTES: Final = 300
"""What a line takes, about; how much to read of a file whose newest lines are wanted in memory."""

_BATCH_BYTES: Final = 8 << 20
"""Lines of many GPUs are read together up to so many bytes."""


@dataclass(frozen=True, slots=True)
class HotGpu:
    """A GPU's lines as they were at one moment. Whatever happens since, they stay readable while a lease is held."""

    entry: Entry
    segments: tuple[Segment, ...]

    @property
    def head(self) -> int:
        """Where its first line begins."""
        return self.segments[0].start if self.segments else self.entry.base


class HotTier:
    """Keeps lines in ``<directory>``. It writes nothing into the checkpoint but what recovery finds missing."""

    def __init__(
        self, directory: Path, checkpoint: Checkpoint, tails: TailCache, *, synced: bool, rotate_bytes: int
    ) -> None:
        """Open the files and undo what was not committed.

        Args:
            directory: where they are.
            checkpoint: what is vouched for.
            tails: the newest lines in memory.
            synced: whether :meth:`write` waits for the disk.
            rotate_bytes: a file with so many bytes is closed before more is written.

        Raises:
            OSError: the files cannot be used.
            StoreError: the checkpoint cannot be used.
        """
        self.directory: Final = directory
        self._checkpoint, self._tails = checkpoint, tails
        self._synced, self._rotate_bytes = synced, rotate_bytes
        self._files = SegmentFiles(directory)
        recovery = recover(directory, checkpoint)
        self._entries = {entry.gpu.gpu: entry for entry in recovery.entries}
        self._identities = {entry.number: (entry.gpu.gpu, entry.file) for entry in recovery.entries}
        self._files.know_closed({entry.number: entry.closed for entry in recovery.entries})
        self._segments: dict[int, tuple[Segment, ...]] = {}
        for segment in recovery.segments:
            self._add_segment(segment)
        self._next_number = 1 + max(self._identities, default=0)
        self._names: list[str] | None = None
        self._warm()
        closed_bytes = sum(segment.end - segment.start for segment in self.segments())
        self.size = closed_bytes + sum(entry.block.end - entry.base for entry in self._entries.values())
        """Bytes of all lines."""

    # What is here. Callers keep commits out while they ask (TieredStore holds a lock), except for `find` and `gpus`.

    def find(self, gpu: str) -> Gpu | None:
        """One GPU."""
        entry = self._entries.get(gpu)
        return entry.gpu if entry else None

    def gpus(self) -> list[Gpu]:
        """All GPUs, by identity."""
        names = self._names
        if names is None or len(names) != len(self._entries):
            names = self._names = sorted(dict(self._entries))
        return [self._entries[name].gpu for name in names]

    def __len__(self) -> int:
        return len(self._entries)

    def view(self, gpu: str) -> HotGpu | None:
        """A GPU's lines as they are now."""
        entry = self._entries.get(gpu)
        return HotGpu(entry, self._segments.get(entry.number, ())) if entry else None

    def segments(self) -> list[Segment]:
        """All closed files, those of a GPU in their order."""
        return [segment for mine in self._segments.values() for segment in mine]

    @property
    def files_count(self) -> int:
        """How many files hold lines."""
        growing = sum(entry.block.end > entry.base for entry in self._entries.values())
        return growing + sum(map(len, self._segments.values()))

    def path(self, segment: Segment) -> Path:
        """Where a closed file is."""
        return self.directory / closed_name(self._identities[segment.gpu][1], segment.number)

    def name_of(self, number: int) -> str:
        """The GPU that has a number."""
        return self._identities[number][0]

    # Writing: work out growths, write them, let the checkpoint vouch for them, then apply them. One thread at a time.

    def growths(self, news: Sequence[Portion], labels: Mapping[str, Mapping[str, str]], now_us: int) -> list[Growth]:
        """What records will do to their GPUs."""
        growths = []
        number = self._next_number
        for portion in news:
            known = self._entries.get(portion.gpu)
            if known is None:
                empty = Gpu(portion.gpu, {}, portion.first_us, portion.last_us, 0, Latest())
                known = Entry(number, file_stem(portion.gpu) + SUFFIX, empty, Block(0, 0, 0, 0))
                number += 1
            growths.append(grow(known, portion, labels.get(portion.gpu, {}), self._rotate_bytes, now_us))
        return growths

    def closings(self, opened_before_us: int) -> list[Closing]:
        """What closing the files will do whose first line came before ``opened_before_us``."""
        return [
            close(entry)
            for entry in self._entries.values()
            if entry.block.end > entry.base and entry.opened_us < opened_before_us
        ]

    def write(self, growths: Sequence[Growth]) -> None:
        """Bring lines to the files. The same again after a failure does no harm.

        Raises:
            OSError: they are not all written.
        """
        paths = []
        for growth in growths:
            entry = growth.entry
            if growth.closed:
                self._files.close(entry.number, entry.file, growth.closed.number)
            # A file that was closed in vain, since no transaction came to vouch for it, grows where it is now.
            path = self._files.path(entry.number, entry.file, entry.closed)
            files.write_at(path, growth.offset, growth.portion.text)
            paths.append(path)
        if self._synced:
            files.sync_files(self.directory, paths, with_directory=any(growth.offset == 0 for growth in growths))

    def close_files(self, closings: Sequence[Closing]) -> None:
        """Give growing files their closed names.

        Raises:
            OSError: not all of them have one.
        """
        for closing in closings:
            self._files.close(closing.entry.number, closing.entry.file, closing.segment.number)
        if self._synced and closings:
            files.sync_files(self.directory, [], with_directory=True)

    def apply(self, growths: Sequence[Growth]) -> None:
        """Take what was written and vouched for as what is here."""
        for growth in growths:
            portion, entry = growth.portion, growth.entry
            text = portion.text
            self._tails.append(entry.number, entry.base + growth.offset + len(text), text, portion.records)
            self._entries[portion.gpu] = entry
            self._identities[entry.number] = (portion.gpu, entry.file)
            self._next_number = max(self._next_number, entry.number + 1)
            self.size += len(text)
            if growth.closed:
                self._add_segment(growth.closed)

    def apply_closings(self, closings: Sequence[Closing]) -> None:
        """Take files as closed."""
        for closing in closings:
            self._entries[closing.entry.gpu.gpu] = closing.entry
            self._add_segment(closing.segment)

    def let_go(self, segments: Iterable[Segment]) -> None:
        """Take closed files as gone, each GPU's oldest first; they stay on disk until :meth:`delete`."""
        for segment in segments:
            first, *rest = self._segments[segment.gpu]
            if first != segment:
                raise StoreError(f"segment {segment} is not the oldest of its GPU")
            if rest:
                self._segments[segment.gpu] = tuple(rest)
            else:
                del self._segments[segment.gpu]
            self.size -= segment.end - segment.start

    def delete(self, segments: Sequence[Segment]) -> None:
        """Remove the files of segments that nobody reads any more.

        Raises:
            OSError: one cannot be removed.
        """
        for segment in segments:
            self.path(segment).unlink(missing_ok=True)

    # Reading

    def blocks(self, views: Sequence[HotGpu], start_us: int, end_us: int) -> dict[int, list[Block]]:
        """The blocks of GPUs that meet ``start_us`` ≤ time < ``end_us``, by the GPU's number.

        Raises:
            StoreError: they cannot be found.
        """
        by_number = {view.entry.number: view for view in views}
        found: dict[int, list[Block]] = {}
        for number, block in self._checkpoint.blocks(list(by_number), start_us, end_us):
            view = by_number[number]
            if view.head <= block.start < view.entry.block.start:
                found.setdefault(number, []).append(block)
        for number, view in by_number.items():
            last = view.entry.block
            if last.start < last.end and last.max_us >= start_us and last.min_us < end_us:
                found.setdefault(number, []).append(last)
        return found

    def lines(self, view: HotGpu, block: Block) -> bytes:
        """A block's lines.

        Raises:
            StoreError: they cannot be read.
        """
        entry = view.entry
        cached = self._tails.read(entry.number, block.start, block.end)
        if cached is not None:
            return cached
        base, number = entry.base, entry.closed
        if block.start < base:
            segment = view.segments[bisect_right(view.segments, block.start, key=lambda segment: segment.start) - 1]
            base, number = segment.start, segment.number
        try:
            return self._files.read(entry.number, entry.file, number, block.start - base, block.end - base)
        except OSError as error:
            path = self._files.path(entry.number, entry.file, number)
            raise StoreError(f"{path} cannot be read: {error.strerror}") from None

    def records(
        self,
        view: HotGpu,
        blocks: Sequence[Block],
        start_us: int,
        end_us: int,
        names: Sequence[str],
        *,
        newest_first: bool,
    ) -> Iterator[pl.DataFrame]:
        """Yield a GPU's records in order of time, in pieces: ``timestamp`` and a column for each of ``names``.

        Raises:
            StoreError: they cannot be read.
        """
        times = pl.col(TIMESTAMP).dt.timestamp("us")

        def load(block: Block) -> pl.DataFrame:
            data = self.lines(view, block)
            if block.min_us < start_us or block.max_us >= end_us:
                data = lines_within(data, start_us, end_us)
            return parse_lines(data, names).filter((times >= start_us) & (times < end_us))

        yield from in_time_order(blocks, load, newest_first=newest_first)

    def records_of_many(
        self,
        views: Sequence[HotGpu],
        blocks: Mapping[int, Sequence[Block]],
        start_us: int,
        end_us: int,
        names: Sequence[str],
        leave_out: Callable[[str, StoreError], None],
    ) -> Iterator[pl.DataFrame]:
        """Yield records of GPUs: ``gpu``, ``timestamp`` and the metrics by their places, a GPU's in order of time.

        A GPU with many lines comes in several pieces, all others in one with others. ``leave_out`` is told of GPUs that
        cannot be read.
        """
        times = pl.col(TIMESTAMP).dt.timestamp("us")
        within = (times >= start_us) & (times < end_us)

        def read(data: bytes) -> pl.DataFrame:
            lines = lines_within(data, start_us, end_us)
            return merge_rows([parse_lines_of_many(lines, names).filter(within)])

        batch: list[bytes] = []
        size = 0
        for view in views:
            mine = blocks.get(view.entry.number, ())
            wanted = sum(block.end - block.start for block in mine)
            try:
                if wanted > _BATCH_BYTES:
                    gpu = pl.lit(view.entry.gpu.gpu, dtype=pl.String).alias(GPU)
                    placed = [pl.col(name).alias(str(place)) for place, name in enumerate(names)]
                    for piece in self.records(view, mine, start_us, end_us, names, newest_first=False):
                        yield piece.select(gpu, TIMESTAMP, *placed)
                    continue
                batch += [self.lines(view, block) for block in mine]
            except StoreError as error:
                leave_out(view.entry.gpu.gpu, error)
                continue
            size += wanted
            if size > _BATCH_BYTES:
                yield read(b"".join(batch))
                batch, size = [], 0
        if batch:
            yield read(b"".join(batch))

    def _add_segment(self, segment: Segment) -> None:
        self._segments[segment.gpu] = (*self._segments.get(segment.gpu, ()), segment)

    def _warm(self) -> None:
        """Fill the memory from the ends of growing files, the most recently written first."""
        room = self._tails.bytes_max
        for entry in sorted(self._entries.values(), key=lambda entry: entry.gpu.last_us, reverse=True):
            length = entry.block.end - entry.base
            size = min(length, self._tails.entries_max * _LINE_BYTES, room)
            if not size:
                continue
            data = files.read_range(self.directory / entry.file, length - size, length)
            if size < length:
                data = data[data.find(b"\n") + 1 :]
            data = last_lines(data, self._tails.entries_max)
            self._tails.append(entry.number, entry.block.end, data, data.count(b"\n"))
            room -= len(data)
