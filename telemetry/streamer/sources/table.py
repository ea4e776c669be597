"""Blocks of lines as tables of text, and the rows that do not fit apart.

A line is a row: a quoted field may hold separators and doubled quotes, but no line break. The usual block, in which
every row has as many fields as the header, is read by polars as a whole. Any other is read again line by line, so that
a bad row never takes a neighbour with it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Final

import polars as pl

from telemetry.streamer.sources.lines import LINE_BYTES_MAX, BadRow, Block, bad_row

LINE: Final = "$line"
"""The column that holds each row's line number."""

_END: Final = "\x01"
"""Put behind every row as one more field: a row with too few fields has it too early, and polars would not tell."""
_END_COLUMN: Final = "$end"


def read_header(line: bytes) -> list[str]:
    """The fields of a header.

    Raises:
        ValueError: if it is not text.
    """
    return _fields(line.rstrip(b"\n"))


def read_table(block: Block, names: Sequence[str], header: bytes) -> tuple[pl.DataFrame, list[BadRow]]:
    """Read a block into text columns ``names`` and ``LINE``.

    Args:
        block: the lines.
        names: a name for each field.
        header: the header line, which is passed over where it comes again, as in files written one behind the other.
    """
    frame = _read_whole(block, names, header)
    if frame is not None:
        return frame, block.bad
    return _read_lines(block, names, header)


def _read_whole(block: Block, names: Sequence[str], header: bytes) -> pl.DataFrame | None:
    """The block as polars reads it, or ``None`` if a row in it is not as it should be."""
    data = block.data
    if not data or header in data or _has_long_line(data):
        return None
    try:
        frame = pl.read_csv(
            io.BytesIO(data.replace(b"\n", f",{_END}\n".encode())),
            has_header=False,
            schema=dict.fromkeys((*names, _END_COLUMN), pl.String()),
            empty_string_is_null=False,
        )
    except pl.exceptions.PolarsError:
        return None
    if frame.height != block.count or not (frame[_END_COLUMN] == _END).all():
        return None
    lines = pl.int_range(block.first_line, block.first_line + frame.height, dtype=pl.Int64, eager=True)
    return frame.drop(_END_COLUMN).with_columns(lines.alias(LINE))


def _has_long_line(data: bytes) -> bool:
    """Whether a line might be too long: none is if there is a line feed in every half of what is allowed."""
    window = LINE_BYTES_MAX // 2
    return any(data.find(b"\n", start, start + window) < 0 for start in range(0, len(data) - window, window))


def _read_lines(block: Block, names: Sequence[str], header: bytes) -> tuple[pl.DataFrame, list[BadRow]]:
    rows: list[list[str]] = []
    numbers: list[int] = []
    bad = list(block.bad)
    header = header.rstrip(b"\n")
    for number, line in enumerate(block.data.split(b"\n")[:-1], block.first_line):
        if not line.strip() or line == header:
            continue
        if len(line) > LINE_BYTES_MAX:
            bad.append(bad_row(number, f"the line has {len(line)} bytes; at most {LINE_BYTES_MAX} are allowed", line))
            continue
        try:
            fields = _fields(line)
        except ValueError as error:
            bad.append(bad_row(number, str(error), line))
            continue
        if len(fields) != len(names):
            bad.append(bad_row(number, f"the row has {len(fields)} fields; the header has {len(names)}", line))
            continue
        rows.append(fields)
        numbers.append(number)
    columns = zip(*rows, strict=True) if rows else ((),) * len(names)
    frame = pl.DataFrame(
        [pl.Series(name, column, pl.String) for name, column in zip(names, columns, strict=True)]
        + [pl.Series(LINE, numbers, pl.Int64)]
    )
    return frame, sorted(bad, key=lambda row: row.line)


def _fields(line: bytes) -> list[str]:
    """Split one line.

    Raises:
        ValueError: if it is not UTF-8 or its quotes do not match.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} of the row is not UTF-8") from None
    if '"' not in text:
        return text.split(",")
    try:
        (fields,) = csv.reader([text], strict=True, skipinitialspace=True)
    except csv.Error as error:
        raise ValueError(f"the row's quotes do not match: {error}") from None
    return fields
