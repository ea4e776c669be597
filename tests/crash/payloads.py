"""Messages that name themselves, and whose every byte can be told from the name."""

from __future__ import annotations

import zlib


def encode(name: str) -> bytes:
    """The message of this name: a few to a few hundred bytes."""
    filler = f"{zlib.crc32(name.encode()):08x}" * (1 + zlib.crc32(name.encode()) % 40)
    return f"{name}|{filler}".encode()


def decode(data: bytes) -> str:
    """The name of a message, or what it looks like if it is not as it was made."""
    name = data.partition(b"|")[0].decode(errors="replace")
    return name if encode(name) == data else f"damaged: {data[:60]!r}"
