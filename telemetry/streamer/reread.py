"""Reads rows once more that could not be read when their file was: what has been mended since makes records of them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from pathlib import Path

import polars as pl

from telemetry.streamer.messages import Packer, Slice
from telemetry.streamer.sources.layout import FIRST_LINE, LAST_LINE, SourceError
from telemetry.streamer.sources.opening import open_source


@dataclass(frozen=True, slots=True)
class Reread:
    """What became of rows.

    Attributes:
        slices: the records of those that can be read now.
        wrong: the lines of the others, and why.
    """

    slices: Sequence[Slice]
    wrong: Mapping[int, str]


def reread(rows: Mapping[int, str], header: str, partitions: int, zone: tzinfo = UTC) -> Reread:
    """Read rows of one file.

    Args:
        rows: line to text.
        header: the line that names the columns; empty for a file that has none.
        partitions: of the topic that records go to.
        zone: where the clock stood that wrote times without a zone.
    """
    wrong = {line: "it is not one row" for line, text in rows.items() if "\n" in text or not text.strip()}
    records: Sequence[pl.DataFrame] = ()
    # Rows that are still wrong gave what can be read of them long ago: they are left out, and the rest is read again.
    for _ in range(2):
        lines = [line for line in rows if line not in wrong]
        if not lines:
            return Reread((), wrong)
        try:
            records, found = _read(lines, [rows[line] for line in lines], header, zone)
        except SourceError as error:
            return Reread((), dict.fromkeys(lines, str(error)) | wrong)
        if not found:
            break
        wrong |= found
    packer = Packer(partitions)
    slices = [part for frame in records for part in packer.add(frame)]
    return Reread([*slices, *packer.flush()], wrong)


def _read(
    lines: Sequence[int], texts: Sequence[str], header: str, zone: tzinfo
) -> tuple[list[pl.DataFrame], dict[int, str]]:
    """Records with the numbers of their lines, and what is wrong with which."""
    first = 2 if header else 1
    places = dict(enumerate(lines, first))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows"
        path.write_text("".join(f"{line}\n" for line in ([header, *texts] if header else texts)), encoding="utf-8")
        try:
            source = open_source(path, zone)
        except SourceError as error:
            raise SourceError(str(error).removeprefix(f"{path}: ")) from None
        try:
            if not source.has_time:
                raise SourceError("the row does not say when, and now is not when it was")
            records: list[pl.DataFrame] = []
            wrong: dict[int, str] = {}
            held: set[int] = set()
            for block in source:
                wrong |= {places[bad.line]: bad.reason for bad in block.bad}
                if block.rows.height:
                    found = source.records(block.rows)
                    for start, end in found.select(FIRST_LINE, LAST_LINE).iter_rows():
                        held.update(range(start, end + 1))
                    old = pl.col(FIRST_LINE, LAST_LINE).replace_strict(places, return_dtype=pl.Int64)
                    records.append(found.with_columns(old))
        finally:
            source.close()
    empty = {line: "there is nothing in it to store" for place, line in places.items() if place not in held}
    return records, empty | wrong
