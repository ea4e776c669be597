"""What to do with a delivery: which of it is new, which records it holds, and what of it goes to quarantine. No I/O."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import orjson
import polars as pl

from telemetry.codec import CONTENT_TYPE, JSON_CONTENT_TYPE, SOURCE, CodecError, decode, decode_json, frame_of
from telemetry.model import TIMESTAMP, Record
from telemetry.storage.store import Batch, Position, TopicPartition
from telemetry.topics import QUARANTINE_TOPIC
from telemetry.v1 import queue_pb2

COLUMNS_MAX: Final = 2_000
"""Most columns of a message: what is kept of each GPU grows with its metrics and labels."""

_TIME_END_US: Final = 253_402_300_800_000_000
"""The year 10000, in microseconds since 1970: later times have no RFC 3339 text."""


class Delivery(Protocol):
    """Messages of one batch, as a subscriber hands them out."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def publish_time_us(self) -> int: ...
    @property
    def messages(self) -> Sequence[queue_pb2.Message]: ...
    @property
    def offsets(self) -> Sequence[int]: ...


@dataclass(frozen=True, slots=True)
class Contents:
    """What messages hold.

    Attributes:
        frames: their records, in order.
        quarantine: lines for what cannot be stored as records.
        size: bytes that the frames take in memory, about.
    """

    frames: Sequence[pl.DataFrame]
    quarantine: Sequence[bytes]
    size: int


@dataclass(frozen=True, slots=True)
class Intake:
    """A delivery that has been read, and the topic it is from (see :class:`~telemetry.storage.store.Position`)."""

    delivery: Delivery
    topic_created_us: int
    contents: Contents

    @property
    def partition(self) -> TopicPartition:
        """Where it is from."""
        return TopicPartition(self.delivery.topic, self.delivery.partition)


def read(delivery: Delivery, from_offset: int = 0) -> Contents:
    """Read the messages of a delivery that are at ``from_offset`` or beyond."""
    frames: list[pl.DataFrame] = []
    quarantine: list[bytes] = []
    singles: list[Record] = []
    for offset, message in zip(delivery.offsets, delivery.messages, strict=True):
        if offset < from_offset:
            continue
        if delivery.topic == QUARANTINE_TOPIC:
            quarantine.append(_rejected_row(delivery, offset, message))
            continue
        content_type = message.attributes.get(CONTENT_TYPE, "")
        try:
            if content_type == JSON_CONTENT_TYPE:
                singles.append(decode_json(message.data))
                continue
            frames += _frames_of(singles)
            singles = []
            frame = decode(message.data, content_type)
        except (CodecError, pl.exceptions.PolarsError) as error:
            quarantine.append(refusal(delivery, offset, message, str(error)))
            continue
        if frame.width > COLUMNS_MAX:
            reason = f"{frame.width} columns; at most {COLUMNS_MAX} are stored"
            quarantine.append(refusal(delivery, offset, message, reason))
            continue
        frame, bad_rows = _split_by_time(frame)
        frames.append(frame)
        quarantine += [refusal(delivery, offset, message, "time out of range", raw) for raw in bad_rows]
    frames += _frames_of(singles)
    frames = [frame for frame in frames if frame.height]
    return Contents(frames, quarantine, sum(int(frame.estimated_size()) for frame in frames))


def next_offset(delivery: Delivery) -> int:
    """The offset after the delivery's last message."""
    return delivery.offsets[-1] + 1


def stored_through(positions: Mapping[TopicPartition, Position], partition: TopicPartition, created_us: int) -> int:
    """The offset below which everything of a partition is stored; 0 when what is stored came from an older topic."""
    position = positions.get(partition)
    return position.next_offset if position is not None and position.topic_created_us == created_us else 0


def batch_of(intakes: Iterable[Intake], stored: Mapping[TopicPartition, Position]) -> Batch:
    """Put deliveries together, leaving out what is stored: a message counts once, however often it is delivered."""
    frames: list[pl.DataFrame] = []
    quarantine: list[bytes] = []
    positions: dict[TopicPartition, Position] = {}
    for intake in intakes:
        delivery, created_us = intake.delivery, intake.topic_created_us
        done = stored_through({**stored, **positions}, intake.partition, created_us)
        if next_offset(delivery) <= done:
            continue
        # It was read before others that held some of the same messages were stored.
        contents = read(delivery, done) if delivery.offsets[0] < done else intake.contents
        frames += contents.frames
        quarantine += contents.quarantine
        positions[intake.partition] = Position(created_us, next_offset(delivery))
    return Batch(frames, quarantine, positions)


def refusal(
    delivery: Delivery, offset: int, message: queue_pb2.Message, reason: str, raw: bytes | None = None
) -> bytes:
    """A line of the quarantine: why, where it came from, and all of it."""
    fields: dict[str, Any] = _origin(delivery, offset) | {
        "source": message.attributes.get(SOURCE, ""),
        "content_type": message.attributes.get(CONTENT_TYPE, ""),
        "reason": reason,
    }
    data = message.data if raw is None else raw
    try:
        fields["raw"] = data.decode()
    except UnicodeDecodeError:
        fields["raw_base64"] = base64.b64encode(data).decode()
    return orjson.dumps(fields)


def _rejected_row(delivery: Delivery, offset: int, message: queue_pb2.Message) -> bytes:
    try:
        row = orjson.loads(message.data)
    except orjson.JSONDecodeError:
        row = None
    if not isinstance(row, dict) or not {"source", "line", "reason", "raw"} <= row.keys():
        return refusal(delivery, offset, message, "not a rejected row: source, line, reason and raw are expected")
    return orjson.dumps(row | _origin(delivery, offset))


def _origin(delivery: Delivery, offset: int) -> dict[str, Any]:
    return {"topic": delivery.topic, "partition": delivery.partition, "offset": offset}


def _frames_of(records: Sequence[Record]) -> list[pl.DataFrame]:
    if not records:
        return []
    try:
        return [frame_of(records)]
    except pl.exceptions.DuplicateError:
        # A name that is a metric of one record and a label of another.
        return [frame_of([record]) for record in records]


def _split_by_time(frame: pl.DataFrame) -> tuple[pl.DataFrame, list[bytes]]:
    """The records whose time can be stored, and the others as JSON."""
    times = pl.col(TIMESTAMP).dt.timestamp("us")
    possible = (times >= 0) & (times < _TIME_END_US)
    if frame.select(possible.all()).item():
        return frame, []
    rows = frame.filter(~possible).with_columns(times)
    return frame.filter(possible), [orjson.dumps(row) for row in rows.iter_rows(named=True)]
