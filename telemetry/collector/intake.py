"""What to do with a delivery: which of it is new, which records it holds, and what of it goes to quarantine. No I/O."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol, cast

import orjson
import polars as pl

from telemetry.codec import (
    ARROW_CONTENT_TYPE,
    CONTENT_TYPE,
    JSON_CONTENT_TYPE,
    SOURCE,
    CodecError,
    decode,
    decode_json,
    encode_arrow,
    frame_of,
    label_columns,
)
from telemetry.model import GPU, TIMESTAMP, Record
from telemetry.storage.store import Batch, Position, TopicPartition
from telemetry.topics import QUARANTINE_TOPIC
from telemetry.v1 import queue_pb2

COLUMNS_MAX: Final = 2_000
"""Most columns of a message: what is kept of each GPU grows with its metrics and labels."""

TEXT_BYTES_MAX: Final = 64 << 10
"""Most bytes of a record's GPU and labels together: they stay in memory for as long as the GPU is known."""

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
        offsets: the message of each frame; of frames that hold several messages, the first.
        quarantine: lines for what cannot be stored as records.
        size: bytes that the frames take in memory, about.
    """

    frames: Sequence[pl.DataFrame]
    offsets: Sequence[int]
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
    frames: list[tuple[int, pl.DataFrame]] = []
    quarantine: list[bytes] = []
    singles: list[tuple[int, Record]] = []
    for offset, message in zip(delivery.offsets, delivery.messages, strict=True):
        if offset < from_offset:
            continue
        if delivery.topic == QUARANTINE_TOPIC:
            quarantine.append(_rejected_row(delivery, offset, message))
            continue
        content_type = message.attributes.get(CONTENT_TYPE, "")
        try:
            if content_type == JSON_CONTENT_TYPE:
                singles.append((offset, decode_json(message.data)))
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
        frames.append((offset, frame))
    frames += _frames_of(singles)
    kept: list[tuple[int, pl.DataFrame]] = []
    for offset, frame in frames:
        for is_wrong, reason in _WRONGS:
            wrong = is_wrong(frame)
            if wrong is not None:
                quarantine.append(refused_rows(delivery, offset, frame.filter(wrong), reason))
                frame = frame.filter(~wrong)
        if frame.height:
            kept.append((offset, frame))
    size = sum(int(frame.estimated_size()) for _, frame in kept)
    return Contents([frame for _, frame in kept], [offset for offset, _ in kept], quarantine, size)


def next_offset(delivery: Delivery) -> int:
    """The offset after the delivery's last message."""
    return delivery.offsets[-1] + 1


def stored_through(positions: Mapping[TopicPartition, Position], partition: TopicPartition, created_us: int) -> int:
    """The offset below which everything of a partition is stored; 0 when what is stored came from an older topic."""
    position = positions.get(partition)
    return position.next_offset if position is not None and position.topic_created_us == created_us else 0


def batch_of(
    intakes: Iterable[Intake],
    stored: Mapping[TopicPartition, Position],
    pass_on: Callable[[Delivery, Contents], Contents] = lambda delivery, contents: contents,
) -> Batch:
    """Put deliveries together, leaving out what is stored: a message counts once, however often it is delivered.

    ``pass_on`` says what may be stored of each.
    """
    frames: list[pl.DataFrame] = []
    quarantine: list[bytes] = []
    positions: dict[TopicPartition, Position] = {}
    for intake in intakes:
        delivery, created_us = intake.delivery, intake.topic_created_us
        done = stored_through({**stored, **positions}, intake.partition, created_us)
        if next_offset(delivery) <= done:
            continue
        # It was read before others that held some of the same messages were stored.
        contents = pass_on(delivery, read(delivery, done) if delivery.offsets[0] < done else intake.contents)
        frames += contents.frames
        quarantine += contents.quarantine
        positions[intake.partition] = Position(created_us, next_offset(delivery))
    return Batch(frames, quarantine, positions)


def refusal(delivery: Delivery, offset: int, message: queue_pb2.Message, reason: str) -> bytes:
    """A line of the quarantine: why, where it came from, and all of the message, as it was."""
    return _line(
        delivery,
        offset,
        reason,
        source=message.attributes.get(SOURCE, ""),
        content_type=message.attributes.get(CONTENT_TYPE, ""),
        data=message.data,
    )


def refused_rows(delivery: Delivery, offset: int, rows: pl.DataFrame, reason: str) -> bytes:
    """The same for some records of a message, as a message of their own."""
    message = delivery.messages[delivery.offsets.index(offset)]
    return _line(
        delivery,
        offset,
        f"{rows.height} records: {reason}" if rows.height > 1 else reason,
        source=message.attributes.get(SOURCE, ""),
        content_type=ARROW_CONTENT_TYPE,
        data=encode_arrow(rows),
    )


def _line(delivery: Delivery, offset: int, reason: str, *, source: str, content_type: str, data: bytes) -> bytes:
    fields = _origin(delivery, offset) | {"source": source, "content_type": content_type, "reason": reason}
    try:
        fields["raw"] = data.decode()
    except UnicodeDecodeError:
        fields["raw_base64"] = base64.b64encode(data).decode()
    return orjson.dumps(fields, option=orjson.OPT_UTC_Z)


def _rejected_row(delivery: Delivery, offset: int, message: queue_pb2.Message) -> bytes:
    try:
        row = orjson.loads(message.data)
    except orjson.JSONDecodeError:
        row = None
    if not isinstance(row, dict) or not {"source", "line", "reason", "raw"} <= row.keys():
        return refusal(delivery, offset, message, "not a rejected row: source, line, reason and raw are expected")
    return orjson.dumps(row | _origin(delivery, offset), option=orjson.OPT_UTC_Z)


def _origin(delivery: Delivery, offset: int) -> dict[str, Any]:
    return {
        "topic": delivery.topic,
        "partition": delivery.partition,
        "offset": offset,
        "published": datetime.fromtimestamp(delivery.publish_time_us / 1e6, UTC),
    }


def _frames_of(singles: Sequence[tuple[int, Record]]) -> list[tuple[int, pl.DataFrame]]:
    if not singles:
        return []
    try:
        return [(singles[0][0], frame_of([record for _, record in singles]))]
    except pl.exceptions.DuplicateError:
        # A name that is a metric of one record and a label of another.
        return [(offset, frame_of([record])) for offset, record in singles]


def _out_of_time(frame: pl.DataFrame) -> pl.Series | None:
    """Which records have a time that cannot be stored; ``None`` when all can."""
    times = frame.get_column(TIMESTAMP).dt.timestamp("us")
    if frame.is_empty() or (cast("int", times.min()) >= 0 and cast("int", times.max()) < _TIME_END_US):
        return None
    return (times < 0) | (times >= _TIME_END_US)


def _too_much_text(frame: pl.DataFrame) -> pl.Series | None:
    """Which records have too much of it; ``None`` when none has."""
    lengths = frame.select(pl.col(GPU, *label_columns(frame)).str.len_bytes())
    if sum(filter(None, lengths.max().row(0))) <= TEXT_BYTES_MAX:
        return None
    is_long = lengths.sum_horizontal() > TEXT_BYTES_MAX
    return is_long if is_long.any() else None


_WRONGS: Final[Sequence[tuple[Callable[[pl.DataFrame], pl.Series | None], str]]] = (
    (_out_of_time, "time out of range"),
    (_too_much_text, f"more than {TEXT_BYTES_MAX} bytes of labels"),
)
