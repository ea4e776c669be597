"""Which partition a message with an ordering key belongs to. Every client in every language must agree."""

from __future__ import annotations

import zlib


def partition_of_key(key: str, partitions: int) -> int:
    """The partition of an ordering key: CRC-32 (ISO-HDLC) of its UTF-8 bytes, modulo the number of partitions."""
    return zlib.crc32(key.encode()) % partitions
