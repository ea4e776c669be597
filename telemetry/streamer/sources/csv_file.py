"""A CSV file as a sequence of rows: finds out how it is laid out, and reads it block by block."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Final

import polars as pl

from telemetry.exchange import is_exported
from telemetry.streamer.sources.apart import Apart
from telemetry.streamer.sources.csv_wide import WideLayout
from telemetry.streamer.sources.dcgm_long import LongLayout, is_long
from telemetry.streamer.sources.exported import ExportedLayout
from telemetry.streamer.sources.layout import Layout, SourceError, WrongCells, place, without_time
from telemetry.streamer.sources.lines import BLOCK_BYTES, BadRow, Block, LineReader
from telemetry.streamer.sources.rows import Rows
from telemetry.streamer.sources.table import read_header, read_table


class CsvSource:
    """One pass over one file."""

    def __init__(self, path: Path, zone: tzinfo = UTC, block_bytes: int = BLOCK_BYTES) -> None:
        """Open a file and read its header.

        Args:
            path: a CSV file, plain or gzipped.
            zone: where the clock stood that wrote times without a zone.
            block_bytes: how much to read at a time.

        Raises:
            SourceError: if it cannot be streamed: not there, empty, or without a column that says which GPU.
        """
        try:
            self._reader = LineReader(path, block_bytes)
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror or error}") from None
        self.name: Final = os.fsencode(path.name).decode("utf-8", "backslashreplace")
        """The file's name, for people."""
        self.size: Final = self._reader.size
        """The file's size in bytes, as it lies on disk."""
        self._parser = ThreadPoolExecutor(1, thread_name_prefix="parse")
        try:
            self._blocks = iter(self._reader)
            self._header, first = self._split_header(next(self._blocks, None))
            headers = read_header(self._header)
            self._positions, placed = place(headers)
            self._layout: Layout
            if is_exported(headers):
                self._layout = ExportedLayout(headers, self._positions)
            else:
                self._layout = (LongLayout if is_long(headers) else WideLayout)(headers, placed, zone)
            self._first = self._first_with_rows(first)
        except ValueError as error:
            self.close()
            raise SourceError(f"{path}: {error}") from None
        self.header: Final = self._header.decode("utf-8", "backslashreplace").rstrip()
        """The line that names the columns."""
        self.has_time: Final = self._layout.has_time
        """Whether the file says when."""
        self._apart = Apart(self._layout.keys) if self._layout.keys else None

    def __iter__(self) -> Iterator[Rows]:
        """Read the file, once. While a block's rows are made, another thread reads and splits the next one."""
        parsing = self._parser.submit(self._parse, self._first)
        while (parsed := parsing.result()) is not None:
            parsing = self._parser.submit(self._parse, None)
            yield self._read(*parsed)

    def records(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Merge consecutive rows into records: a frame, and the columns ``FIRST_LINE`` and ``LAST_LINE``."""
        return self._layout.records(rows)

    def close(self) -> None:
        """Close the file."""
        self._parser.shutdown(cancel_futures=True)
        self._reader.close()

    def _split_header(self, block: Block | None) -> tuple[bytes, Block]:
        if block is None:
            raise SourceError("the file is empty")
        if block.bad and not block.data:
            raise SourceError(f"the header cannot be read: {block.bad[0].reason}")
        header, _, rest = block.data.removeprefix(b"\xef\xbb\xbf").partition(b"\n")
        if not header.strip():
            raise SourceError("the first line is empty; it must name the columns")
        return header + b"\n", Block(rest, block.count - 1, block.first_line + 1, block.position, block.bad)

    def _first_with_rows(self, block: Block) -> Block:
        if block.data.strip() or block.bad:
            return block
        following = next(self._blocks, None)
        if following is None:
            raise SourceError("there is a header but no row")
        return following

    def _parse(self, block: Block | None) -> tuple[Block, pl.DataFrame, list[BadRow]] | None:
        """Split a block, or the next one of the file, into text columns; ``None`` at the end."""
        if block is None and (block := next(self._blocks, None)) is None:
            return None
        return block, *read_table(block, self._positions, self._header)

    def _read(self, block: Block, table: pl.DataFrame, bad: list[BadRow]) -> Rows:
        if not table.height:
            return Rows(pl.DataFrame(), bad, block.position)
        wrong = WrongCells()
        rows = self._layout.rows(table, wrong)
        if rows.height:
            rows = without_time(rows, datetime.now(UTC))
            rows = self._apart.keep(rows) if self._apart else rows
        lines = block.data.split(b"\n") if wrong else []
        wrongly = wrong.bad_rows(lambda line: lines[line - block.first_line])
        return Rows(rows, sorted(bad + wrongly, key=lambda row: row.line), block.position)
