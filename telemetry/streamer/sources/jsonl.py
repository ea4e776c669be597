"""JSON Lines: records as the hot tier and `telemetry export` write them, or as messages of the queue hold them.

Records of one GPU and instant are parts of one record, of which the later counts; nothing is kept apart.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from math import isfinite
from pathlib import Path
from typing import Final, cast

import orjson
import polars as pl

from telemetry.codec import CodecError, decode_json, frame_of
from telemetry.model import Record
from telemetry.streamer.sources.kinds import Kinds
from telemetry.streamer.sources.layout import SourceError, each_row_a_record
from telemetry.streamer.sources.lines import BLOCK_BYTES, LINE_BYTES_MAX, Block, LineReader, bad_row
from telemetry.streamer.sources.rows import Rows
from telemetry.streamer.sources.table import LINE
from telemetry.tabular import read_time

_KEYS: Final = frozenset({"gpu_id", "metrics", "timestamp", "labels"})


class JsonLinesSource:
    """One pass over one file."""

    has_time: Final = True

    def __init__(self, path: Path, zone: tzinfo = UTC, block_bytes: int = BLOCK_BYTES) -> None:
        """Open a file.

        Args:
            path: the file, plain or gzipped.
            zone: where the clock stood that wrote times without a zone.
            block_bytes: how much to read at a time.

        Raises:
            SourceError: if it cannot be opened.
        """
        try:
            self._reader = LineReader(path, block_bytes)
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror or error}") from None
        self.name: Final = os.fsencode(path.name).decode("utf-8", "backslashreplace")
        """The file's name, for people."""
        self.header: Final = ""
        """Each line says by itself what it means."""
        self.size: Final = self._reader.size
        """The file's size in bytes, as it lies on disk."""
        self._zone = zone
        self._kinds = Kinds()

    def __iter__(self) -> Iterator[Rows]:
        """Read the file, once."""
        for block in self._reader:
            yield self._read(block)

    def records(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Every row is a record."""
        return each_row_a_record(rows)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def _read(self, block: Block) -> Rows:
        records: list[Record] = []
        numbers: list[int] = []
        bad = list(block.bad)
        data = block.data.removeprefix(b"\xef\xbb\xbf") if block.first_line == 1 else block.data
        for number, line in enumerate(data.split(b"\n")[:-1], block.first_line):
            if not line.strip():
                continue
            if len(line) > LINE_BYTES_MAX:
                reason = f"the line has {len(line)} bytes; at most {LINE_BYTES_MAX} are allowed"
                bad.append(bad_row(number, reason, line))
                continue
            try:
                record, wrong = self._record(line)
            except ValueError as error:
                bad.append(bad_row(number, str(error), line))
                continue
            bad += [bad_row(number, reason, line, field) for field, reason in wrong.items() if reason]
            records.append(record)
            numbers.append(number)
        bad.sort(key=lambda row: row.line)
        if not records:
            return Rows(pl.DataFrame(), bad, block.position)
        rows = frame_of(records).with_columns(pl.Series(LINE, numbers, pl.Int64))
        return Rows(rows, bad, block.position)

    def _record(self, line: bytes) -> tuple[Record, dict[str, str]]:
        """A line's record, and the fields that are left out of it with the reasons.

        Raises:
            ValueError: if it holds none.
        """
        try:
            content = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"the line is not JSON: {error}") from None
        if not isinstance(content, dict):
            raise ValueError("the line is not a JSON object")
        if "fields" in content:
            try:
                record = decode_json(line)
            except CodecError as error:
                raise ValueError(str(error)) from None
            wrong: dict[str, str] = {}
        else:
            record, wrong = _stored_record(content, self._zone)
        for values, are_metrics in ((record.metrics, True), (record.labels, False)):
            refused = self._kinds.refuse(values, are_metrics=are_metrics)
            for name, reason in refused.items():
                wrong[name] = reason
                cast("dict[str, object]", values).pop(name)
        return record, wrong


def _stored_record(content: dict[str, object], zone: tzinfo) -> tuple[Record, dict[str, str]]:
    gpu, metrics, labels = content.get("gpu_id"), content.get("metrics"), content.get("labels", {})
    if not isinstance(gpu, str) or not gpu:
        raise ValueError("'gpu_id' is not a text that names a GPU")
    if not isinstance(metrics, dict):
        raise ValueError("'metrics' is not an object")
    if not isinstance(labels, dict):
        raise ValueError("'labels' is not an object")
    if unknown := content.keys() - _KEYS:
        raise ValueError(f"{min(unknown)!r} is not a field of a record; known are {', '.join(sorted(_KEYS))}")
    wrong: dict[str, str] = {}
    values: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            if isfinite(number := float(value)):
                values[name] = number
        elif value is not None:
            wrong[name] = f"metric {name!r} is not a number"
    texts: dict[str, str] = {}
    for name, value in labels.items():
        if isinstance(value, str):
            texts[name] = value
        elif value is not None:
            wrong[name] = f"label {name!r} is not text"
    return Record(_time(content.get("timestamp"), zone), gpu, values, texts), wrong


def _time(value: object, zone: tzinfo) -> datetime:
    if isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
        try:
            return read_time(str(value), zone)
        except ValueError as error:
            raise ValueError(f"'timestamp': {error}") from None
    raise ValueError("'timestamp' is missing" if value is None else "'timestamp' is neither text nor a number")
