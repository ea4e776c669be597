"""The newest records of each GPU in memory, as the very bytes that its file ends with."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

CACHE_BYTES_MAX: Final = 64 << 20
"""Most bytes that the newest lines take in memory by default. More would be there twice: the system, too, keeps in
memory what has just been written, and a question is answered from there in hardly more time."""

_CHUNK_OVERHEAD: Final = 120
"""Bytes that a chunk takes beside its content, about."""

_TAIL_OVERHEAD: Final = 960
"""Bytes that a file's lines take beside the chunks, about."""


@dataclass(slots=True)
class _Tail:
    end: int
    chunks: deque[tuple[bytes, int]] = field(default_factory=deque)
    size: int = 0
    records: int = 0

    @property
    def cost(self) -> int:
        return _TAIL_OVERHEAD + self.size + _CHUNK_OVERHEAD * len(self.chunks)


class TailCache:
    """Holds the last ``entries_max`` lines of each file, within ``bytes_max`` over all; the least recently used go.

    Safe to use from several threads.
    """

    def __init__(self, entries_max: int, bytes_max: int = CACHE_BYTES_MAX) -> None:
        self.entries_max: Final = entries_max
        self.bytes_max: Final = bytes_max
        self._tails: OrderedDict[int, _Tail] = OrderedDict()
        self._cost = 0
        self._lock = threading.Lock()

    def append(self, file: int, end: int, chunk: bytes, records: int) -> None:
        """Take in the ``records`` lines that end at offset ``end`` of a file."""
        if not self.entries_max:
            return
        if records > self.entries_max:
            chunk, records = last_lines(chunk, self.entries_max), self.entries_max
        with self._lock:
            tail = self._tails.pop(file, None)
            self._forget(tail)
            if tail is None or tail.end + len(chunk) != end:
                tail = _Tail(end)
            self._tails[file] = tail
            tail.chunks.append((chunk, records))
            tail.end, tail.size, tail.records = end, tail.size + len(chunk), tail.records + records
            # Every GPU gets its share, lest those written in turn should push each other out whole.
            _trim(tail, self.entries_max, self.bytes_max // len(self._tails))
            if not tail.chunks:
                del self._tails[file]
                return
            self._cost += tail.cost
            while self._cost > self.bytes_max:
                self._forget(self._tails.popitem(last=False)[1])

    def read(self, file: int, start: int, end: int) -> bytes | None:
        """The bytes of a file from ``start`` on, before ``end``; ``None`` when not all of them are here."""
        with self._lock:
            tail = self._tails.get(file)
            if tail is None or not tail.end - tail.size <= start <= end <= tail.end:
                return None
            self._tails.move_to_end(file)
            chunks, first = list(tail.chunks), tail.end - tail.size
        pieces = []
        for chunk, _ in chunks:
            if first < end and first + len(chunk) > start:
                pieces.append(chunk[max(start - first, 0) : end - first])
            first += len(chunk)
        return b"".join(pieces)

    def usage(self) -> tuple[list[int], int]:
        """How many records are held of each file that has any, and the bytes that all of it takes."""
        with self._lock:
            return [tail.records for tail in self._tails.values()], self._cost

    def _forget(self, tail: _Tail | None) -> None:
        if tail is not None:
            self._cost -= tail.cost


def _trim(tail: _Tail, entries_max: int, cost_max: int) -> None:
    while tail.chunks and (tail.records > entries_max or tail.cost > cost_max):
        chunk, records = tail.chunks.popleft()
        tail.size -= len(chunk)
        tail.records -= records
        spare = entries_max - tail.records
        if 0 < spare < records and tail.cost + len(chunk) <= cost_max:
            kept = last_lines(chunk, spare)
            tail.chunks.appendleft((kept, spare))
            tail.size += len(kept)
            tail.records = entries_max


def last_lines(data: bytes, count: int) -> bytes:
    """The last ``count`` lines of ``data``, which ends with a newline."""
    at = len(data) - 1
    for _ in range(count):
        at = data.rfind(b"\n", 0, at)
        if at < 0:
            return data
    return data[at + 1 :]
