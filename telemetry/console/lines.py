"""Lines of standard input as they come, without holding up the event loop or the end of the process."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Final

from telemetry.queue.core.types import MESSAGE_BYTES_MAX

CHUNK_BYTES: Final = 64 << 10
"""Bytes read at a time."""
CHUNKS_MAX: Final = 16
"""Chunks read ahead."""


class LineTooLongError(ValueError):
    """A line is longer than a message may be; the text says which."""


class LineSplitter:
    """Cuts chunks of bytes into lines without their ends (LF or CRLF)."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._lines = 0

    def split(self, chunk: bytes) -> list[bytes]:
        """The lines that this chunk completes; an empty chunk is the end, which completes a last line too.

        Raises:
            LineTooLongError: if a line is longer than a message may be.
        """
        if not chunk:
            last = [bytes(self._rest)] if self._rest else []
            self._rest.clear()
            return last
        *complete, rest = chunk.split(b"\n")
        lines = []
        for line in complete:
            self._rest += line
            self._check()
            lines.append(bytes(self._rest.removesuffix(b"\r")))
            self._rest.clear()
            self._lines += 1
        self._rest += rest
        self._check()
        return lines

    def _check(self) -> None:
        if len(self._rest) > MESSAGE_BYTES_MAX:
            raise LineTooLongError(f"line {self._lines + 1} is longer than a message may be, {MESSAGE_BYTES_MAX} bytes")


async def lines_of_stdin() -> AsyncIterator[list[bytes]]:
    """Lines, as many at a time as were there to read.

    Raises:
        LineTooLongError: if one is longer than a message may be.
    """
    # Unbuffered: a buffer's lock, held by a read that never returns, would keep the process from ending.
    stream = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes | OSError] = asyncio.Queue(CHUNKS_MAX)
    threading.Thread(target=_read, args=(stream.read, loop, chunks), name="stdin", daemon=True).start()
    splitter = LineSplitter()
    while True:
        chunk = await chunks.get()
        if isinstance(chunk, OSError):
            raise chunk
        if lines := splitter.split(chunk):
            yield lines
        if not chunk:
            return


def _read(
    read: Callable[[int], bytes | None], loop: asyncio.AbstractEventLoop, chunks: asyncio.Queue[bytes | OSError]
) -> None:
    # The loop may be over before the input is; then nobody wants the rest.
    with suppress(RuntimeError, asyncio.CancelledError):
        chunk: bytes | OSError = b"first"
        while chunk and not isinstance(chunk, OSError):
            try:
                chunk = read(CHUNK_BYTES) or b""
            except OSError as error:
                chunk = error
            asyncio.run_coroutine_threadsafe(chunks.put(chunk), loop).result()
