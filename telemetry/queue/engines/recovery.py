"""Reads the log back after a stop of any kind: what is intact, what was torn off, what is damaged.

Theory of operation. Whatever was confirmed lies below a durable mark: all of a segment but the last, and of the last
what its records say was on the disk when they were written. What is unreadable above the mark is a torn tail: nothing
of it was confirmed, and the log is cut there. What is unreadable below it is damage: it is put aside, counted, and
stepped over.
"""

from __future__ import annotations

import logging
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from telemetry.queue.core.types import PRODUCER_BYTES_MAX
from telemetry.queue.engines.quarantine import Quarantine
from telemetry.queue.engines.records import (
    ALIGNMENT,
    HEADER_BYTES,
    MAGIC,
    SEAL_TOPIC,
    Header,
    batch_is_intact,
    decode_header,
)
from telemetry.queue.engines.segments import SEGMENT_HEADER_BYTES, header_is_intact, list_segments, sync_directory

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """A record, or what lies where one should be: ``header`` is ``None`` when not even that can be read."""

    position: int
    end: int
    header: Header | None
    intact: bool


@dataclass(slots=True)
class Segment:
    """A file of the log."""

    path: Path
    base: int
    end: int
    """The position behind its last record."""
    live: int = 0
    """How many of its records are still needed."""


@dataclass(slots=True)
class Recovered:
    """What there is."""

    segments: list[Segment] = field(default_factory=list)
    torn_bytes: int = 0


def recover(directory: Path, quarantine: Quarantine, take: Callable[[Found], bool]) -> Recovered:
    """Read all segments, cut the torn tail off the last, and put damaged records aside.

    Args:
        take: is given every record, and what is unreadable between them, oldest first; says whether it is needed.

    Raises:
        DataDirectoryError: if a segment is of a version that cannot be read.
        OSError: if a file cannot be read or cut.
    """
    recovered = Recovered()
    segments = list_segments(directory)
    for number, (base, path) in enumerate(segments):
        found, end, torn = _recover_segment(path, base, last=number == len(segments) - 1, quarantine=quarantine)
        recovered.torn_bytes += torn
        if found:
            live = sum(take(one) for one in found if one.header is None or one.header.topic_id != SEAL_TOPIC)
            recovered.segments.append(Segment(path, base, end, live))
        else:
            path.unlink()
    sync_directory(directory)
    return recovered


def _recover_segment(path: Path, base: int, *, last: bool, quarantine: Quarantine) -> tuple[list[Found], int, int]:
    """The records of a segment, the position behind the last, and how many bytes were torn off."""
    torn = 0
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        data = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b""
        try:
            found = list(_scan(data, base)) if header_is_intact(path, base, data[:SEGMENT_HEADER_BYTES]) else None
            if found is None:
                # A crash between the making of a file and its first sync leaves zeros; they hold no records.
                found = list(_scan(data, base)) if size > SEGMENT_HEADER_BYTES else []
            end = found[-1].end if found else base + SEGMENT_HEADER_BYTES
            if last:
                cut = _torn_from(found)
                if cut is not None:
                    torn = end - cut
                    _log.warning("torn tail cut", extra={"file": str(path), "bytes": torn})
                    found = [one for one in found if one.position < cut]
                    end = cut
            for one in found:
                if not one.intact:
                    quarantine.put(one.position, bytes(data[one.position - base : one.end - base]))
        finally:
            if isinstance(data, mmap.mmap):
                data.close()
        if last:
            # What the last process wrote and did not sync is about to be shown to subscribers.
            if size > end - base:
                os.ftruncate(file.fileno(), end - base)
            os.fsync(file.fileno())
    return found, end, torn


def _torn_from(found: list[Found]) -> int | None:
    """Where the first unreadable record above the durable mark begins."""
    durable = max((one.header.durable for one in found if one.header is not None), default=0)
    return next((one.position for one in found if not one.intact and one.position >= durable), None)


def _scan(data: mmap.mmap | bytes, base: int) -> Iterator[Found]:
    """Every record of a segment, and what is unreadable between them. Zeros up to the end are neither."""
    at, size = SEGMENT_HEADER_BYTES, len(data)
    while at < size:
        header = decode_header(data[at : at + HEADER_BYTES + PRODUCER_BYTES_MAX])
        if header is not None and at + header.batch_start + header.batch_bytes <= size:
            start = at + header.batch_start
            intact = batch_is_intact(header, data[start : start + header.batch_bytes])
            yield Found(base + at, base + at + header.length, header, intact)
            at += header.length
            continue
        after = _next_record(data, at + ALIGNMENT)
        end = after if after is not None else _end_of_data(data, at)
        if end > at:
            yield Found(base + at, base + end, header if after is None else None, intact=False)
        at = end if after is not None else size


def _next_record(data: mmap.mmap | bytes, at: int) -> int | None:
    """Where the next readable header lies."""
    while (at := data.find(MAGIC, at)) >= 0:
        if at % ALIGNMENT == 0 and decode_header(data[at : at + HEADER_BYTES + PRODUCER_BYTES_MAX]) is not None:
            return at
        at += 1
    return None


def _end_of_data(data: mmap.mmap | bytes, at: int) -> int:
    """Where the last byte is that is not zero, at or behind ``at``; rounded up to where a record may begin."""
    rest = len(data[at:].rstrip(b"\0"))
    return -(-(at + rest) // ALIGNMENT) * ALIGNMENT if rest else at
