"""How much memory an Arrow IPC stream says that it takes, without unpacking it: a few kilobytes may hold gigabytes.

Buffers that are compressed begin with their real length, and whatever unpacks them makes room for so much and no more.
https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
"""

from __future__ import annotations

import struct
from typing import Final

_CONTINUES: Final = 0xFFFFFFFF
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
"""The kinds of messages that have a body."""

_NODE: Final = struct.Struct("<qq")
"""How many values a column has, and how many of them are null."""
_BUFFER: Final = struct.Struct("<qq")
"""Where a buffer begins in the body, and its length."""
_LONG: Final = struct.Struct("<q")


def unpacked_size(data: bytes) -> int:
    """The bytes that a stream takes once it is unpacked: those of its buffers, and no less than 8 a value.

    Raises:
        ValueError: if it is not a stream.
    """
    total = at = 0
    try:
        while at + 4 <= len(data):
            (length,) = struct.unpack_from("<I", data, at)
            at += 4
            if length == _CONTINUES:
                (length,) = struct.unpack_from("<I", data, at)
                at += 4
            if not length:
                break
            message = _Table.root(data, at)
            at += length
            body_length = message.number(3, "<q")
            if body_length < 0:
                raise ValueError("not an Arrow stream: a body of negative length")
            kind = message.number(1, "<B")
            header = message.table(2)
            if kind == _DICTIONARY_BATCH and header is not None:
                header = header.table(1)
            if kind in (_DICTIONARY_BATCH, _RECORD_BATCH) and header is not None:
                total += _batch_size(data, header, at)
            at += body_length
    except struct.error:
        raise ValueError("not an Arrow stream: it ends too early") from None
    return total


def _batch_size(data: bytes, batch: _Table, body_at: int) -> int:
    values: int = sum(_NODE.unpack_from(data, place)[0] for place in batch.vector(1, _NODE.size))
    is_compressed = batch.table(3) is not None
    total = 0
    for place in batch.vector(2, _BUFFER.size):
        offset, length = _BUFFER.unpack_from(data, place)
        if offset < 0 or length < 0:
            raise ValueError("not an Arrow stream: a buffer in an impossible place")
        if is_compressed and length:
            # -1 stands for a buffer that compression would not have made smaller.
            unpacked: int = _LONG.unpack_from(data, body_at + offset)[0]
            length = length if unpacked < 0 else unpacked
        total += length
    return max(total, 8 * values)


class _Table:
    """A table of FlatBuffers: fields by number, any of which may be missing."""

    __slots__ = ("_at", "_data", "_fields")

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        (back,) = struct.unpack_from("<i", data, at)
        fields_at = at - back
        if fields_at < 0:
            raise ValueError("not an Arrow stream: a table in an impossible place")
        (size,) = struct.unpack_from("<H", data, fields_at)
        self._fields = struct.unpack_from(f"<{max(size - 4, 0) // 2}H", data, fields_at + 4)

    @classmethod
    def root(cls, data: bytes, at: int) -> _Table:
        """The table that a buffer begins with."""
        (offset,) = struct.unpack_from("<I", data, at)
        return cls(data, at + offset)

    def number(self, field: int, form: str) -> int:
        """A number; 0 if it is missing."""
        at = self._place(field)
        return 0 if at is None else int(struct.unpack_from(form, self._data, at)[0])

    def table(self, field: int) -> _Table | None:
        """A table within."""
        at = self._place(field)
        return None if at is None else _Table.root(self._data, at)

    def vector(self, field: int, size: int) -> range:
        """The places of the structures of a vector, each of ``size`` bytes."""
        at = self._place(field)
        if at is None:
            return range(0)
        (offset,) = struct.unpack_from("<I", self._data, at)
        at += offset
        (count,) = struct.unpack_from("<I", self._data, at)
        if at + 4 + count * size > len(self._data):
            raise ValueError("not an Arrow stream: a vector beyond the end")
        return range(at + 4, at + 4 + count * size, size)

    def _place(self, field: int) -> int | None:
        offset = self._fields[field] if field < len(self._fields) else 0
        return self._at + offset if offset else None
