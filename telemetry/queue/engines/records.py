"""How a batch lies on disk: a record of header, producer and batch, each part under a checksum.

    offset  size  field
         0     4  magic
         4     4  CRC-32C of the header from 8 on and of the producer
         8     4  CRC-32C of the batch
        12     4  bytes of the batch
        16     8  topic id; 0 marks a seal, which holds no batch
        24     8  offset of the batch's first message
        32     8  publish time, microseconds since 1970
        40     8  durable mark: all that lies below this position was on the disk when this was written
        48     8  producer epoch
        56     8  first sequence
        64     4  partition
        68     4  messages
        72     2  bytes of the producer's name
        74     6  zero
        80        producer, batch, zeros up to a multiple of 8

All numbers are little-endian. Records begin at multiples of 8, so that the next can be found after a damaged one.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

import google_crc32c

MAGIC: Final = b"TQR\x01"
_HEADER: Final = struct.Struct("<4sIIIQQQQQQIIH6x")
_CHECKED: Final = struct.Struct("<IIQQQQQQIIH6x")
HEADER_BYTES: Final = _HEADER.size
ALIGNMENT: Final = 8
SEAL_TOPIC: Final = 0


class Header(NamedTuple):
    """What a record says of its batch."""

    batch_crc: int
    batch_bytes: int
    topic_id: int
    base_offset: int
    time_us: int
    durable: int
    producer_epoch: int
    first_sequence: int
    partition: int
    messages: int
    producer_bytes: int
    producer_id: str

    @property
    def batch_start(self) -> int:
        """Where the batch begins, from the record's start."""
        return HEADER_BYTES + self.producer_bytes

    @property
    def length(self) -> int:
        """Bytes of the whole record."""
        return record_length(self.batch_bytes, self.producer_bytes)


def record_length(batch_bytes: int, producer_bytes: int) -> int:
    """Bytes of a record with such a batch and producer, padding included."""
    return -(-(HEADER_BYTES + producer_bytes + batch_bytes) // ALIGNMENT) * ALIGNMENT


def encode(
    batch: bytes,
    *,
    topic_id: int,
    partition: int,
    base_offset: int,
    messages: int,
    time_us: int,
    durable: int,
    producer_id: str = "",
    producer_epoch: int = 0,
    first_sequence: int = 0,
) -> tuple[bytes, bytes, bytes]:
    """A record as its head, its batch (the very bytes given) and its padding."""
    producer = producer_id.encode()
    checked = _CHECKED.pack(
        google_crc32c.value(batch),
        len(batch),
        topic_id,
        base_offset,
        time_us,
        durable,
        producer_epoch,
        first_sequence,
        partition,
        messages,
        len(producer),
    )
    body = checked + producer
    head = MAGIC + google_crc32c.value(body).to_bytes(4, "little") + body
    return head, batch, bytes(record_length(len(batch), len(producer)) - len(head) - len(batch))


def decode_header(data: bytes) -> Header | None:
    """The header at the start of ``data``, which must hold the producer too; ``None`` unless its checksum holds."""
    if len(data) < HEADER_BYTES or data[:4] != MAGIC:
        return None
    _, header_crc, *fields = _HEADER.unpack_from(data)
    end = HEADER_BYTES + fields[-1]
    if end > len(data) or google_crc32c.value(bytes(data[8:end])) != header_crc:
        return None
    try:
        producer_id = data[HEADER_BYTES:end].decode()
    except UnicodeDecodeError:
        return None
    return Header._make((*fields, producer_id))


def batch_is_intact(header: Header, batch: bytes) -> bool:
    """Whether these are the bytes that the header was written for."""
    return len(batch) == header.batch_bytes and google_crc32c.value(batch) == header.batch_crc
