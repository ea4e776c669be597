"""What a closed segment holds, in a file beside it, so that a start need not read the segment itself.

A summary says nothing that its segment does not say: one that is missing, damaged, of another format or of another
segment is built again. It has the records that turned out to be damaged too, so that their offsets and producers are
known; whoever reads it leaves out what is in quarantine. A segment of which not all headers can be read has none.

    offset  size  field
         0     8  magic
         8     4  format version
        12     4  sections
        16     8  position at which the segment begins
        24     8  position behind its last record
        32     8  bytes of the segment's file
        40     8  the first bytes of its first record: a magic and a checksum that hardly any other record shares
        48        sections, one for each partition
       end     4  CRC-32C of all before

A section:

         0     8  topic id
         8     4  partition
        12     4  batches
        16     4  producers
        20     5  for each column the bytes of a number: 1, 2, 4 or 8
        25    40  for each column its least number
        65        columns (offset, messages, bytes, time, position), each number as how far it is above the least;
                  then producers, the one silent for the longest first

A producer, with the highest of its epochs in the segment, and its last batches of that epoch:

         0     2  bytes of its name
         2     2  batches
         4     8  epoch
        12     8  last sequence
        20     8  time of the last batch, microseconds since 1970
        28        name; then for each batch 8 bytes each of first sequence, messages, offset

All numbers are little-endian.
"""

from __future__ import annotations

import contextlib
import logging
import struct
import sys
from array import array
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import google_crc32c

from telemetry.queue.core.batches import Block, Entry
from telemetry.queue.core.producers import Producers, ProducerState, SentBatch
from telemetry.queue.engines.files import Files, write_file
from telemetry.queue.engines.segments import SEGMENT_HEADER_BYTES, header_is_intact, segment_path

SUMMARY_SUFFIX: Final = ".summary"
FORMAT_VERSION: Final = 1
_MAGIC: Final = b"TQSUMMRY"
_HEADER: Final = struct.Struct("<8sIIQQQ8s")
_SECTION: Final = struct.Struct("<QIII5B5q")
_PRODUCER: Final = struct.Struct("<HHQQQ")
_SENT_BYTES: Final = 24
_CHECKSUM_BYTES: Final = 4
_FIRST_BYTES: Final = 8
_CODES: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}

_log = logging.getLogger(__name__)


class UnusableError(Exception):
    """A summary cannot be used; says why in a few words."""


class MissingError(UnusableError):
    """There is no summary."""


class Section:
    """What a segment holds of one partition: its batches, and how far its producers had come."""

    __slots__ = ("block", "end_offset", "producers", "time_us")

    def __init__(self) -> None:
        self.block = Block()
        self.producers = Producers()
        self.end_offset = 0
        self.time_us = 0


class Summary:
    """What a segment holds, by topic id and partition."""

    def __init__(self, base: int) -> None:
        self.base = base
        self.end = base
        """The position behind the last record."""
        self.sections: dict[tuple[int, int], Section] = {}
        self.in_order = True
        """Whether offsets and times rise in every partition; nothing else can be searched."""

    def add(
        self, topic_id: int, partition: int, entry: Entry, producer_id: str, producer_epoch: int, first_sequence: int
    ) -> None:
        """Add a record, the next one of the segment."""
        section = self.sections.get((topic_id, partition))
        if section is None:
            section = self.sections[topic_id, partition] = Section()
        if entry.base_offset < section.end_offset or entry.time_us < section.time_us:
            self.in_order = False
        section.block.append(entry)
        section.end_offset, section.time_us = entry.end_offset, entry.time_us
        if producer_id:
            last_sequence = first_sequence + entry.messages - 1
            sent = SentBatch(first_sequence, entry.messages, entry.base_offset)
            section.producers.restore(producer_id, producer_epoch, last_sequence, entry.time_us, sent)

    def leave_out(self, positions: Collection[int]) -> None:
        """Forget the batches that begin at these positions, but not that there were offsets and sequences there."""
        if not positions:
            return
        damaged = set(positions)
        for section in self.sections.values():
            section.end_offset = section.block[-1].end_offset
            section.block = Block.of(entry for entry in section.block if entry.position not in damaged).packed()


def summary_path(directory: Path, base: int) -> Path:
    """The summary of the segment that begins at position ``base``."""
    return directory / f"{base:020d}{SUMMARY_SUFFIX}"


def write_summary(files: Files, directory: Path, summary: Summary) -> None:
    """Write the summary of a segment that is closed and durable. It is not missed if that fails."""
    path = summary_path(directory, summary.base)
    try:
        size, head = _look_at(files, segment_path(directory, summary.base))
        data = _encode(summary, size, head[SEGMENT_HEADER_BYTES:])
        write_file(files, path, data)
    except OSError as error:
        _log.warning("summary cannot be written", extra={"file": str(path), "error": str(error)})
        with contextlib.suppress(OSError):
            files.remove(path)


def load_summary(files: Files, directory: Path, base: int) -> Summary:
    """Read the summary of a segment.

    Raises:
        UnusableError: if there is none that can be relied on.
        DataDirectoryError: if the segment was written by a version that this one cannot read.
        OSError: if the segment cannot be opened.
    """
    path = segment_path(directory, base)
    size, head = _look_at(files, path)
    if not header_is_intact(path, base, head[:SEGMENT_HEADER_BYTES]):
        raise UnusableError("its segment is damaged")
    data = _read(files, summary_path(directory, base))
    body = data[:-_CHECKSUM_BYTES]
    if len(body) < _HEADER.size or google_crc32c.value(body) != int.from_bytes(data[-_CHECKSUM_BYTES:], "little"):
        raise UnusableError("damaged")
    magic, version, sections, its_base, end, its_size, first = _HEADER.unpack_from(body)
    if magic != _MAGIC or version != FORMAT_VERSION:
        raise UnusableError(f"of format version {version}")
    if (its_base, its_size, first) != (base, size, head[SEGMENT_HEADER_BYTES:]):
        raise UnusableError("of another segment")
    summary = Summary(base)
    summary.end = end
    at = _HEADER.size
    for _ in range(sections):
        at = _decode_section(summary, body, at)
    return summary


def _look_at(files: Files, segment: Path) -> tuple[int, bytes]:
    """The size of a segment's file, and its header with the first bytes of its first record."""
    fd = files.open(segment)
    try:
        return files.size(fd), files.read(fd, SEGMENT_HEADER_BYTES + _FIRST_BYTES, 0)
    finally:
        files.close(fd)


def _read(files: Files, path: Path) -> bytes:
    try:
        fd = files.open(path)
        try:
            return files.read(fd, files.size(fd), 0)
        finally:
            files.close(fd)
    except FileNotFoundError:
        raise MissingError("missing") from None
    except OSError as error:
        raise UnusableError(f"unreadable: {error.strerror}") from None


def _encode(summary: Summary, segment_bytes: int, first: bytes) -> bytes:
    parts = [
        _HEADER.pack(_MAGIC, FORMAT_VERSION, len(summary.sections), summary.base, summary.end, segment_bytes, first)
    ]
    for key, section in summary.sections.items():
        parts += _encode_section(*key, section)
    body = b"".join(parts)
    return body + int(google_crc32c.value(body)).to_bytes(_CHECKSUM_BYTES, "little")


def _encode_section(topic_id: int, partition: int, section: Section) -> Iterator[bytes]:
    block = section.block.packed()
    producers = list(section.producers)
    widths = [column.itemsize for column in block.columns]
    yield _SECTION.pack(topic_id, partition, len(block), len(producers), *widths, *block.lows)
    for column in block.columns:
        yield _little_endian(column).tobytes()
    for producer_id, state in producers:
        name = producer_id.encode()
        yield _PRODUCER.pack(len(name), len(state.recent), state.epoch, state.last_sequence, state.last_time_us)
        yield name
        yield _little_endian(state.recent.numbers).tobytes()


def _decode_section(summary: Summary, body: bytes, at: int) -> int:
    """Read the section at ``at``; returns where the next one begins."""
    topic_id, partition, batches, producers, *rest = _SECTION.unpack_from(body, at)
    widths, lows = rest[:5], rest[5:]
    at += _SECTION.size
    columns: list[array[int]] = []
    for width in widths:
        column = array(_CODES[width])
        column.frombytes(body[at : at + batches * width])
        columns.append(_little_endian(column))
        at += batches * width
    section = Section()
    section.block = Block(columns, lows)
    for _ in range(producers):
        name_bytes, sent, epoch, last_sequence, last_time_us = _PRODUCER.unpack_from(body, at)
        at += _PRODUCER.size
        state = ProducerState(epoch, last_sequence, last_time_us)
        name = body[at : at + name_bytes].decode()
        at += name_bytes
        state.recent.numbers.frombytes(body[at : at + sent * _SENT_BYTES])
        _little_endian(state.recent.numbers)
        section.producers.restore_state(name, state)
        at += sent * _SENT_BYTES
    summary.sections[topic_id, partition] = section
    return at


def _little_endian(column: array[int]) -> array[int]:
    if sys.byteorder == "big":
        column.byteswap()
    return column
