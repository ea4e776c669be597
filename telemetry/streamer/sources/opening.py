"""Finds out from a file's first bytes what it is; names and endings say nothing."""

from __future__ import annotations

import gzip
import zlib
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Final

from telemetry.streamer.sources.csv_file import CsvSource
from telemetry.streamer.sources.jsonl import JsonLinesSource
from telemetry.streamer.sources.layout import SourceError
from telemetry.streamer.sources.rows import Source

_PARQUET: Final = b"PAR1"
_ARROW_FILE: Final = b"ARROW1"
_ARROW_STREAM: Final = b"\xff\xff\xff\xff"
_GZIP: Final = b"\x1f\x8b"
_LOOKED_AT_BYTES: Final = 4096


def open_source(path: Path, zone: tzinfo = UTC) -> Source:
    """Open a file: CSV or JSON Lines, plain or gzipped; Parquet; an Arrow IPC file or stream.

    Args:
        path: the file.
        zone: where the clock stood that wrote times without a zone.

    Raises:
        SourceError: if it is none of these, or nothing in it can be streamed.
    """
    try:
        start = _start(path)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from None
    if start.startswith((_PARQUET, _ARROW_FILE, _ARROW_STREAM)):
        # Only those who read such files pay for the library.
        from telemetry.streamer.sources.columnar import ColumnarSource, arrow_batches, parquet_batches

        return ColumnarSource(path, parquet_batches if start.startswith(_PARQUET) else arrow_batches, zone)
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        return JsonLinesSource(path, zone)
    return CsvSource(path, zone)


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        start = file.read(_LOOKED_AT_BYTES)
        if not start.startswith(_GZIP):
            return start
        file.seek(0)
        try:
            return gzip.GzipFile(fileobj=file).read1(_LOOKED_AT_BYTES)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            return b""  # The reader of lines says where it breaks off.
