"""What to do with a delivery: which of it is new, which records it holds, and what of it goes to quarantine. No I/O."""

from __future__ import annotations

import base64
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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

CELLS_MAX: Final = 1 << 19
"""Most cells of a table made of messages with a record each: it has a column for every name that any of them has."""

INDIGESTIBLE: Final = (
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    ArithmeticError,
    ValueError,
    TypeError,
    LookupError,
    RecursionError,
)
"""What records can make of code that has a fault; one message must not stop all others."""

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
class Piece:
    """Records that were read together.

    Attributes:
        frame: the records.
        offsets: the message that each is from; a single one if all are from the same.
    """

    frame: pl.DataFrame
    offsets: Sequence[int]


@dataclass(frozen=True, slots=True)
class Contents:
    """What messages hold.

    Attributes:
        pieces: their records, in order.
        quarantine: lines for what cannot be stored as records.
        size: bytes that all of it takes in memory, about.
        from_offset: messages before it are left out.
    """

    pieces: Sequence[Piece]
    quarantine: Sequence[bytes]
    size: int
    from_offset: int = 0

    @property
    def frames(self) -> Sequence[pl.DataFrame]:
        """The records alone."""
        return [piece.frame for piece in self.pieces]


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
    """Read the messages of a delivery that are at ``from_offset`` or beyond. Nothing that they hold raises an error."""
    read_pieces: list[Piece] = []
    quarantine: list[bytes] = []
    singles: list[tuple[int, Record]] = []

    def refuse(offset: int, reason: object) -> None:
        quarantine.append(refusal(delivery, offset, _message(delivery, offset), str(reason)))

    for offset, message in zip(delivery.offsets, delivery.messages, strict=True):
        if offset < from_offset:
            continue
        if delivery.topic == QUARANTINE_TOPIC:
            quarantine.append(_rejected_row(delivery, offset, message))
            continue
        content_type = message.attributes.get(CONTENT_TYPE, "")
        try:
            if content_type == JSON_CONTENT_TYPE:
                record = decode_json(message.data)
                width = 2 + len(record.metrics) + len(record.labels)
            else:
                frame = decode(message.data, content_type)
                width = frame.width
        except INDIGESTIBLE as error:
            refuse(offset, error)
            continue
        if width > COLUMNS_MAX:
            refuse(offset, f"{width} columns; at most {COLUMNS_MAX} are stored")
        elif content_type == JSON_CONTENT_TYPE:
            singles.append((offset, record))
        else:
            read_pieces += _framed(singles, refuse)
            singles = []
            read_pieces.append(Piece(frame, [offset]))
    read_pieces += _framed(singles, refuse)
    kept: list[Piece] = []
    for piece in read_pieces:
        for is_wrong, reason in _WRONGS:
            wrong = is_wrong(piece.frame)
            if wrong is not None:
                piece, lines = sifted(delivery, piece, wrong, reason)
                quarantine += lines
        if piece.frame.height:
            kept.append(piece)
    size = sum(int(piece.frame.estimated_size()) for piece in kept) + sum(map(len, quarantine))
    return Contents(kept, quarantine, size, from_offset)


def sifted(delivery: Delivery, piece: Piece, is_wrong: pl.Series, reason: str) -> tuple[Piece, list[bytes]]:
    """Take wrong records out: the others, and lines of the quarantine with the reason, a message each."""
    wrong = piece.frame.filter(is_wrong)
    right = piece.frame.filter(~is_wrong)
    if len(piece.offsets) > 1:
        marks = is_wrong.to_list()
        gone = [offset for offset, mark in zip(piece.offsets, marks, strict=True) if mark]
        kept = [offset for offset, mark in zip(piece.offsets, marks, strict=True) if not mark]
        return Piece(right, kept), [_refused_rows(delivery, offset, wrong[n], reason) for n, offset in enumerate(gone)]
    lines = [_refused_rows(delivery, piece.offsets[0], wrong, reason)] if wrong.height else []
    return Piece(right, piece.offsets), lines


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
        # Since it was read, others may have been stored that held some of the same messages.
        is_current = max(delivery.offsets[0], intake.contents.from_offset) >= done
        contents = pass_on(delivery, intake.contents if is_current else read(delivery, done))
        frames += contents.frames
        quarantine += contents.quarantine
        positions[intake.partition] = Position(created_us, next_offset(delivery))
    return Batch(frames, quarantine, positions)


def refusal(delivery: Delivery, offset: int, message: queue_pb2.Message, reason: str) -> bytes:
    """A line of the quarantine: why, where it came from, and all of the message, as it was."""
    return _line(delivery, offset, reason, message, message.attributes.get(CONTENT_TYPE, ""), message.data)


def _refused_rows(delivery: Delivery, offset: int, rows: pl.DataFrame, reason: str) -> bytes:
    """The same for some records of a message, as a message of their own."""
    message = _message(delivery, offset)
    if message.attributes.get(CONTENT_TYPE) == JSON_CONTENT_TYPE:
        return refusal(delivery, offset, message, reason)
    reason = f"{rows.height} records: {reason}" if rows.height > 1 else reason
    return _line(delivery, offset, reason, message, ARROW_CONTENT_TYPE, encode_arrow(rows))


def _line(
    delivery: Delivery, offset: int, reason: str, message: queue_pb2.Message, content_type: str, data: bytes
) -> bytes:
    fields = _origin(delivery, offset) | {
        "source": message.attributes.get(SOURCE, ""),
        "content_type": content_type,
        "reason": reason,
    }
    others = {name: value for name, value in message.attributes.items() if name not in (CONTENT_TYPE, SOURCE)}
    if others:
        fields["attributes"] = others
    if message.ordering_key:
        fields["ordering_key"] = message.ordering_key
    try:
        fields["raw"] = data.decode()
    except UnicodeDecodeError:
        fields["raw_base64"] = base64.b64encode(data).decode()
    return orjson.dumps(fields, option=orjson.OPT_UTC_Z)


def _message(delivery: Delivery, offset: int) -> queue_pb2.Message:
    return delivery.messages[bisect_left(delivery.offsets, offset)]


def _rejected_row(delivery: Delivery, offset: int, message: queue_pb2.Message) -> bytes:
    try:
        row = orjson.loads(message.data)
        if isinstance(row, dict) and all(isinstance(row.get(name), kind) for name, kind in _ROW.items()):
            return orjson.dumps(row | _origin(delivery, offset), option=orjson.OPT_UTC_Z)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        # What can be read need not be so shallow that it can be written.
        pass
    return refusal(delivery, offset, message, "not a rejected row: source, line, reason and raw are expected")


def _origin(delivery: Delivery, offset: int) -> dict[str, Any]:
    return {
        "topic": delivery.topic,
        "partition": delivery.partition,
        "offset": offset,
        "published": datetime.fromtimestamp(delivery.publish_time_us / 1e6, UTC),
    }


def _framed(singles: Sequence[tuple[int, Record]], refuse: Callable[[int, object], None]) -> list[Piece]:
    """Put records together that came a message each."""
    pieces: list[Piece] = []
    for group in _grouped(singles):
        try:
            pieces.append(Piece(frame_of([record for _, record in group]), [offset for offset, _ in group]))
        except INDIGESTIBLE:
            # A name that is a metric of one record and a label of another, for one.
            for offset, record in group:
                try:
                    pieces.append(Piece(frame_of([record]), [offset]))
                except INDIGESTIBLE as error:
                    refuse(offset, error)
    return pieces


def _grouped(singles: Sequence[tuple[int, Record]]) -> Iterator[list[tuple[int, Record]]]:
    group: list[tuple[int, Record]] = []
    names: set[str] = set()
    for offset, record in singles:
        more = names.union(record.metrics, record.labels)
        if group and (len(group) + 1) * len(more) > CELLS_MAX:
            yield group
            group, more = [], {*record.metrics, *record.labels}
        group.append((offset, record))
        names = more
    if group:
        yield group


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


_ROW: Final = {"source": str, "line": int, "reason": str, "raw": str}
"""What a row has that a streamer could not read."""

_WRONGS: Final[Sequence[tuple[Callable[[pl.DataFrame], pl.Series | None], str]]] = (
    (_out_of_time, "time out of range"),
    (_too_much_text, f"more than {TEXT_BYTES_MAX} bytes of labels"),
)
