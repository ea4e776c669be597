"""A text file as blocks of whole lines, in bounded memory whatever the file holds."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

BLOCK_BYTES: Final = 8 << 20
"""How much is read at a time."""

LINE_BYTES_MAX: Final = 1 << 20
"""Longer lines are bad rows."""

RAW_BYTES_MAX: Final = 4096
"""How much of a bad row is kept."""

_GZIP_MAGIC: Final = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row, or a cell of it, that cannot be read.

    Attributes:
        line: where it is, the header being line 1.
        reason: what is wrong with it.
        raw: the row as text; bytes that are not UTF-8 as ``\\xff``.
        field: the columns that are wrong; empty when it is the row.
        truncated: whether ``raw`` is only the beginning.
    """

    line: int
    reason: str
    raw: str
    field: str = ""
    truncated: bool = False


def bad_row(line: int, reason: str, raw: bytes, column: str = "") -> BadRow:
    """A bad row with no more of its text than is worth keeping."""
    text = raw[:RAW_BYTES_MAX].decode("utf-8", "backslashreplace")
    return BadRow(line, reason, text, column, truncated=len(raw) > RAW_BYTES_MAX)


@dataclass(slots=True)
class Block:
    """Some whole lines.

    Attributes:
        data: the lines, each with a line feed at its end and no carriage return before it.
        count: how many.
        first_line: the number of the first one.
        bad: a line before them or after them that cannot be among them.
        position: how far into the file this is, in bytes as they lie on disk.
    """

    data: bytes
    count: int
    first_line: int
    position: int
    bad: list[BadRow] = field(default_factory=list)


class LineReader:
    """Reads the lines of one file, plain or gzipped."""

    def __init__(self, path: Path, block_bytes: int = BLOCK_BYTES) -> None:
        """Open ``path``.

        Raises:
            OSError: if it cannot be opened.
        """
        self._file: Final = path.open("rb")
        self.size: Final = path.stat().st_size
        """The file's size in bytes, as it lies on disk."""
        packed = self._file.read(2) == _GZIP_MAGIC
        self._file.seek(0)
        self._data: gzip.GzipFile | io.BufferedReader = gzip.GzipFile(fileobj=self._file) if packed else self._file
        self._block_bytes = block_bytes
        self._trouble = ""

    def __iter__(self) -> Iterator[Block]:
        line = 1
        rest = b""
        long_line: _LongLine | None = None
        ended = False
        while not ended:
            data = self._read()
            ended = not data
            bad: list[BadRow] = []
            if long_line is not None:
                over, data = long_line.pass_over(data)
                if not over and not ended:
                    continue
                bad.append(long_line.bad_row(line))
                line += 1
                long_line = None
            end = data.rfind(b"\n") + 1
            if end:
                # One copy and no more: this is most of what reading costs.
                lines, rest = b"".join((rest, memoryview(data)[:end])), data[end:]
            else:
                lines, rest = b"", rest + data
            if ended and rest and not self._trouble:
                lines = rest + b"\n"
            count = lines.count(b"\n")
            if ended and self._trouble:
                bad.append(bad_row(line + count, self._trouble, rest))
            elif len(rest) > LINE_BYTES_MAX:
                long_line, rest = _LongLine(rest), b""
            if lines or bad:
                if b"\r" in lines:
                    lines = lines.replace(b"\r\n", b"\n")
                yield Block(lines, count, line, self._file.tell(), bad)
                line += count

    def _read(self) -> bytes:
        """The next bytes; nothing at the end, and where no more can be read."""
        parts: list[bytes] = []
        missing = 0 if self._trouble else self._block_bytes
        try:
            # Piece by piece, because a read that fails loses what it had.
            while missing > 0 and (part := self._data.read1(missing)):
                parts.append(part)
                missing -= len(part)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            self._trouble = f"the file cannot be decompressed from here on: {error}"
        except OSError as error:
            self._trouble = f"the file cannot be read from here on: {error.strerror or error}"
        return b"".join(parts)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _LongLine:
    """The beginning of a line that is too long, and how long it is so far."""

    def __init__(self, beginning: bytes) -> None:
        self._beginning = beginning[: RAW_BYTES_MAX + 1]
        self._length = len(beginning)

    def pass_over(self, data: bytes) -> tuple[bool, bytes]:
        """Skip to the end of the line; return whether it is there, and what follows it."""
        end = data.find(b"\n")
        self._length += len(data) if end < 0 else end
        return end >= 0, data[end + 1 :] if end >= 0 else b""

    def bad_row(self, line: int) -> BadRow:
        return bad_row(
            line, f"the line has {self._length} bytes; at most {LINE_BYTES_MAX} are allowed", self._beginning
        )
