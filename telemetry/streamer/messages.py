"""Cuts records into messages: each partition's records in file order, so many to a message, every time the same way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import orjson
import polars as pl

from telemetry.codec import (
    ARROW_CONTENT_TYPE,
    CONTENT_TYPE,
    JSON_CONTENT_TYPE,
    SOURCE,
    encode_arrow,
    encode_json,
    metric_columns,
    records_of,
)
from telemetry.model import GPU
from telemetry.queue.client import OutgoingMessage, partition_of_key
from telemetry.streamer.sources.layout import FIRST_LINE, LAST_LINE
from telemetry.streamer.sources.lines import RAW_BYTES_MAX, BadRow

Encoding = Literal["arrow", "json"]

MESSAGE_RECORDS: Final = 5_000
"""Records in a message; more would be no faster, fewer cost the collector twice as much a record."""

MESSAGE_BYTES_MAX: Final = 4 << 20
"""A larger message is halved."""

QUARANTINE_MESSAGES: Final = 200
"""Bad rows in a request."""

_PARTITION: Final = "$partition"
_PLACES_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Slice:
    """Records of one partition that go out together."""

    partition: int
    records: pl.DataFrame

    @property
    def samples(self) -> int:
        """How many values they hold."""
        metrics = self.records.select(metric_columns(self.records))
        return metrics.height * metrics.width - sum(metrics.null_count().row(0)) if metrics.width else 0

    def encode(self, encoding: Encoding, source: str) -> list[OutgoingMessage]:
        """Write them as messages whose attribute ``source`` names the file and the lines."""
        if encoding == "json":
            return [
                OutgoingMessage(
                    encode_json(record), {CONTENT_TYPE: JSON_CONTENT_TYPE, SOURCE: f"{source}:{first}-{last}"}
                )
                for record, (first, last) in zip(
                    records_of(_plain(self.records)),
                    self.records.select(FIRST_LINE, LAST_LINE).iter_rows(),
                    strict=True,
                )
            ]
        return _arrow_messages(self.records, source)


class Packer:
    """Gathers records until a partition has a message full."""

    def __init__(self, partitions: int, message_records: int = MESSAGE_RECORDS) -> None:
        """Cut for a topic with ``partitions`` into messages of ``message_records``."""
        self._partitions = partitions
        self._message_records = message_records
        self._places: dict[str, int] = {}
        self._waiting: defaultdict[int, list[pl.DataFrame]] = defaultdict(list)
        self._counts: defaultdict[int, int] = defaultdict(int)

    def add(self, records: pl.DataFrame) -> list[Slice]:
        """Take records, and return the slices that are full."""
        slices = []
        for partition, part in self._split(records):
            self._waiting[partition].append(part)
            self._counts[partition] += part.height
            if self._counts[partition] >= self._message_records:
                slices += self._take(partition, keep_rest=True)
        return slices

    def flush(self) -> list[Slice]:
        """Return what waits, full or not."""
        return [part for partition in sorted(self._waiting) for part in self._take(partition, keep_rest=False)]

    def _split(self, records: pl.DataFrame) -> list[tuple[int, pl.DataFrame]]:
        gpus = records[GPU].unique()
        places = [self._place(gpu) for gpu in gpus]
        place = pl.col(GPU).replace_strict(gpus, places, return_dtype=pl.UInt32).alias(_PARTITION)
        parts = records.with_columns(place).partition_by(_PARTITION, as_dict=True, include_key=False)
        return sorted(((key[0], part) for key, part in parts.items()), key=lambda item: item[0])

    def _place(self, gpu: str) -> int:
        place = self._places.get(gpu)
        if place is None:
            if len(self._places) >= _PLACES_MAX:
                self._places.clear()
            place = self._places[gpu] = partition_of_key(gpu, self._partitions)
        return place

    def _take(self, partition: int, *, keep_rest: bool) -> list[Slice]:
        records = pl.concat(self._waiting.pop(partition), how="diagonal")
        size = self._message_records
        end = records.height - records.height % size if keep_rest else records.height
        if end < records.height:
            self._waiting[partition].append(records[end:])
        self._counts[partition] = records.height - end
        return [Slice(partition, records[start : min(start + size, end)]) for start in range(0, end, size)]


class Sequences:
    """Numbers the messages of each partition, and knows which of them the queue has already."""

    def __init__(self, stored: Mapping[int, int]) -> None:
        """Begin at 0 everywhere; ``stored`` is the last number that the queue has, by partition."""
        self._stored = stored
        self._next: defaultdict[int, int] = defaultdict(int)

    def take(self, partition: int, count: int) -> int | None:
        """Number the next ``count`` messages; the first one's number, or ``None`` if the queue has them all."""
        first = self._next[partition]
        self._next[partition] += count
        return None if first + count - 1 <= self._stored.get(partition, -1) else first


def quarantine_messages(rows: Sequence[BadRow], source: str, header: str = "") -> list[OutgoingMessage]:
    """Bad rows as messages for the quarantine topic. With ``header``, the line that names the columns, each can be read
    again by itself.
    """
    messages = []
    for row in rows:
        content: dict[str, object] = {"source": source, "line": row.line, "reason": row.reason, "raw": row.raw}
        if row.field:
            content["field"] = row.field
        if row.truncated:
            content["truncated"] = True
        if header and len(header) <= RAW_BYTES_MAX:
            content["header"] = header
        messages.append(OutgoingMessage(orjson.dumps(content), {CONTENT_TYPE: JSON_CONTENT_TYPE, SOURCE: source}))
    return messages


def _arrow_messages(records: pl.DataFrame, source: str) -> list[OutgoingMessage]:
    data = encode_arrow(_plain(records))
    if len(data) > MESSAGE_BYTES_MAX and records.height > 1:
        half = records.height // 2
        return [*_arrow_messages(records[:half], source), *_arrow_messages(records[half:], source)]
    first, last = records.select(pl.col(FIRST_LINE).min(), pl.col(LAST_LINE).max()).row(0)
    return [OutgoingMessage(data, {CONTENT_TYPE: ARROW_CONTENT_TYPE, SOURCE: f"{source}:{first}-{last}"})]


def _plain(records: pl.DataFrame) -> pl.DataFrame:
    """A frame as the codec means it, without columns that hold nothing."""
    empty = [
        name for name, (nulls,) in records.null_count().to_dict(as_series=False).items() if nulls == records.height
    ]
    return records.drop(FIRST_LINE, LAST_LINE, *empty)
