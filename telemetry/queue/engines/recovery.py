"""Reads the log back after a stop of any kind: what is intact, what was torn off, what is damaged.

Theory of operation. A segment that was closed has a summary, and its records are checked when they are delivered. One
that has none, as the last after a crash, is read in full. Whatever was confirmed lies below a durable mark: all of a
segment but the last, and of the last what its records say was on the disk when they were written. What is unreadable
above the mark is a torn tail: nothing of it was confirmed, and the log is cut there. What is unreadable below it is
damage: it is put aside, counted, and stepped over.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from telemetry.queue.core.batches import Entry
from telemetry.queue.core.types import PRODUCER_BYTES_MAX
from telemetry.queue.engines.files import Bytes, Files
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
from telemetry.queue.engines.segments import SEGMENT_HEADER_BYTES, header_is_intact, list_segments
from telemetry.queue.engines.summaries import (
    SUMMARY_SUFFIX,
    MissingError,
    Summary,
    UnusableError,
    load_summary,
    write_summary,
)

COPY_BYTES: Final = 1 << 20
"""How much of a file is held in memory where it is copied."""

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


class Restorer(Protocol):
    """Who is given what is found, oldest first."""

    def take(self, found: Found) -> bool:
        """Take in a record, or what is unreadable between records. Returns whether its bytes are needed."""
        ...

    def take_summary(self, summary: Summary) -> int:
        """Take in all records of a segment. Returns how many of them are needed."""
        ...


def recover(files: Files, directory: Path, quarantine: Quarantine, restorer: Restorer) -> Recovered:
    """Find out what is in all segments, cut the torn tail off the last, and put damaged records aside.

    Raises:
        DataDirectoryError: if a segment is of a version that cannot be read.
        OSError: if a file cannot be read or cut.
    """
    recovered = Recovered()
    segments = list_segments(files, directory)
    for number, (base, path) in enumerate(segments):
        last = number == len(segments) - 1
        summary = _summary_of(files, directory, base, last=last, quarantine=quarantine)
        if summary is not None:
            recovered.segments.append(Segment(path, base, summary.end, restorer.take_summary(summary)))
            continue
        found, end, torn = read_segment(files, path, base, last=last, quarantine=quarantine)
        recovered.torn_bytes += torn
        if not found:
            files.remove(path)
            continue
        records = [one for one in found if one.header is None or one.header.topic_id != SEAL_TOPIC]
        summary = _summarise(base, end, records)
        if summary is not None:
            # It says what the segment was written with; what turned out to be damaged is left out by whoever reads it.
            write_summary(files, directory, summary)
            summary.leave_out([one.position for one in records if not one.intact])
        live = restorer.take_summary(summary) if summary is not None else sum(map(restorer.take, records))
        recovered.segments.append(Segment(path, base, end, live))
    there = {segment.base for segment in recovered.segments}
    for path in files.list(directory, SUMMARY_SUFFIX):
        if not path.stem.isdecimal() or int(path.stem) not in there:
            files.remove(path)
    files.sync_directory(directory)
    return recovered


def _summary_of(files: Files, directory: Path, base: int, *, last: bool, quarantine: Quarantine) -> Summary | None:
    """The summary of a segment; ``None`` if the segment must be read itself."""
    try:
        summary = load_summary(files, directory, base)
    except UnusableError as error:
        # That the last one has none is the rule after a crash.
        if not (last and isinstance(error, MissingError)):
            _log.warning("segment read for its summary", extra={"position": base, "summary": str(error)})
        return None
    summary.leave_out(quarantine.within(base, summary.end))
    return summary


def _summarise(base: int, end: int, records: list[Found]) -> Summary | None:
    """The summary of a segment, unless nobody can say of some of its bytes which offsets they held."""
    summary = Summary(base)
    summary.end = end
    for one in records:
        if one.header is None:
            return None
        header = one.header
        entry = Entry(header.base_offset, header.messages, header.batch_bytes, header.time_us, one.position)
        summary.add(
            header.topic_id, header.partition, entry, header.producer_id, header.producer_epoch, header.first_sequence
        )
    return summary if summary.in_order else None


def read_segment(
    files: Files, path: Path, base: int, *, last: bool, quarantine: Quarantine
) -> tuple[list[Found], int, int]:
    """Read a segment in full, and cut or put aside what is not intact.

    Returns its records with its seal, the position behind the last, and how many bytes were torn off.
    """
    torn = 0
    fd = files.open(path, writable=True)
    try:
        with files.view(fd) as data:
            size = len(data)
            found = list(_scan(data, base)) if header_is_intact(path, base, data[:SEGMENT_HEADER_BYTES]) else None
            if found is None:
                # A crash between the making of a file and its first sync leaves zeros; they hold no records.
                found = list(_scan(data, base)) if size > SEGMENT_HEADER_BYTES else []
            end = found[-1].end if found else base + SEGMENT_HEADER_BYTES
            if last:
                cut = _torn_from(found, quarantine)
                if cut is not None:
                    torn = end - cut
                    _log.warning("torn tail cut", extra={"file": str(path), "bytes": torn})
                    found = [one for one in found if one.position < cut]
                    end = cut
            # With the tail may go who says that a damaged record was durable, and that it is no torn tail itself.
            put_aside = quarantine.keep if torn else quarantine.put
            for one in found:
                if not one.intact:
                    put_aside(one.position, bytes(data[one.position - base : one.end - base]))
            if last:
                # Where an fsync failed, the disk lacks what memory still holds, and the next fsync does not mind: only
                # what is written again is written at all.
                _write_again(files, fd, data, max(_durable_mark(found) - base, SEGMENT_HEADER_BYTES), end - base)
        if last:
            # What the last process wrote and did not sync is about to be shown to subscribers.
            if size > end - base:
                files.truncate(fd, end - base)
            files.sync(fd)
    finally:
        files.close(fd)
    return found, end, torn


def _torn_from(found: list[Found], quarantine: Quarantine) -> int | None:
    """Where the first unreadable record above the durable mark begins.

    One that was put aside was below the mark; the record that said so may have been cut off meanwhile.
    """
    durable = _durable_mark(found)
    unreadable = (one.position for one in found if not one.intact and one.position >= durable)
    return next((position for position in unreadable if not quarantine.within(position, position + 1)), None)


def _durable_mark(found: list[Found]) -> int:
    """The position below which all was on the disk, as the records say."""
    return max((one.header.durable for one in found if one.header is not None), default=0)


def _write_again(files: Files, fd: int, data: Bytes, at: int, end: int) -> None:
    end = min(end, len(data))  # the last record's padding may have been cut off
    while at < end:
        at += files.write(fd, [data[at : min(end, at + COPY_BYTES)]], at)


def _scan(data: Bytes, base: int) -> Iterator[Found]:
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


def _next_record(data: Bytes, at: int) -> int | None:
    """Where the next readable header lies."""
    while (at := data.find(MAGIC, at)) >= 0:
        if at % ALIGNMENT == 0 and decode_header(data[at : at + HEADER_BYTES + PRODUCER_BYTES_MAX]) is not None:
            return at
        at += 1
    return None


def _end_of_data(data: Bytes, at: int) -> int:
    """Where the last byte is that is not zero, at or behind ``at``; rounded up to where a record may begin."""
    rest = len(data[at:].rstrip(b"\0"))
    return -(-(at + rest) // ALIGNMENT) * ALIGNMENT if rest else at
