"""Where the disk log reads batches: from memory while they are new, else from their segments, in its own thread."""

from __future__ import annotations

import asyncio
import errno
from collections import OrderedDict
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from telemetry.queue.core.batches import Block, Entry
from telemetry.queue.core.types import PRODUCER_BYTES_MAX
from telemetry.queue.engines.files import Files
from telemetry.queue.engines.quarantine import Quarantine
from telemetry.queue.engines.records import HEADER_BYTES, batch_is_intact, decode_header
from telemetry.queue.engines.segments import segment_path

OPEN_FILES_MAX: Final = 32
"""Segments held open for reading."""


class NewestBatches:
    """The newest batches, up to a number of bytes, by position."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._batches: OrderedDict[int, bytes] = OrderedDict()

    def put(self, position: int, batch: bytes) -> None:
        """Add the newest batch; the oldest go as far as they must."""
        self._batches[position] = batch
        self._bytes += len(batch)
        while self._bytes > self._bytes_max:
            _, oldest = self._batches.popitem(last=False)
            self._bytes -= len(oldest)

    def get(self, position: int) -> bytes | None:
        """The batch at this position, if it is here."""
        return self._batches.get(position)

    def drop(self, block: Block) -> None:
        """Forget batches."""
        oldest = next(iter(self._batches), None)
        if oldest is None or block[-1].position < oldest:
            return
        for entry in block:
            self._bytes -= len(self._batches.pop(entry.position, b""))


class SegmentReader:
    """Reads batches from segments and checks them."""

    def __init__(self, files: Files, directory: Path, quarantine: Quarantine) -> None:
        self._files = files
        self._directory = directory
        self._quarantine = quarantine
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="queue-reader")
        self._open_files: OrderedDict[int, int] = OrderedDict()

    async def read(self, wanted: Sequence[tuple[int, Entry]]) -> list[bytes | None]:
        """Read batches, each given with the position at which its segment begins.

        Returns ``None`` for one that is damaged, which is put into quarantine, or whose segment is gone.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read_all, wanted)

    async def forget(self, bases: Collection[int]) -> None:
        """Close segments that are about to be deleted."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close, list(bases))

    async def close(self) -> None:
        """Close all files, and the thread."""
        await self.forget(self._open_files)
        self._thread.shutdown(wait=False)

    def _read_all(self, wanted: Sequence[tuple[int, Entry]]) -> list[bytes | None]:
        return [self._read(base, entry) for base, entry in wanted]

    def _read(self, base: int, entry: Entry) -> bytes | None:
        try:
            fd = self._open(base)
        except FileNotFoundError:
            return None
        try:
            data = self._files.read(fd, HEADER_BYTES + PRODUCER_BYTES_MAX + entry.size, entry.position - base)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""
        header = decode_header(data)
        if header is not None and (header.base_offset, header.messages, header.time_us) == (
            entry.base_offset,
            entry.messages,
            entry.time_us,
        ):
            batch = data[header.batch_start : header.batch_start + header.batch_bytes]
            if batch_is_intact(header, batch):
                return batch
        self._quarantine.put(entry.position, data)
        return None

    def _open(self, base: int) -> int:
        fd = self._open_files.pop(base, None)
        if fd is None:
            fd = self._files.open(segment_path(self._directory, base))
            if len(self._open_files) >= OPEN_FILES_MAX:
                self._files.close(self._open_files.popitem(last=False)[1])
        self._open_files[base] = fd
        return fd

    def _close(self, bases: Collection[int]) -> None:
        for base in bases:
            fd = self._open_files.pop(base, None)
            if fd is not None:
                self._files.close(fd)
