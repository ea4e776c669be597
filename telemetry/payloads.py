"""What a message holds, for those who look: records as rows, JSON, text, or bytes.

Records are Arrow, JSON, or the GPUs of a live update. `codec` is imported only when there are some: it takes its time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import orjson

from telemetry.live import LIVE_CONTENT_TYPE, decode_live_update
from telemetry.model import Record
from telemetry.v1 import queue_pb2

Json = dict[str, Any]
Kind = Literal["records", "json", "text", "binary"]

CONTENT_TYPE: Final = "content-type"
"""The message attribute that says what a message holds."""
ARROW_CONTENT_TYPE: Final = "application/vnd.apache.arrow.stream"
"""As in telemetry/codec.py."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Payload:
    """A message's data.

    Attributes:
        kind: what it is.
        rows: the first records, or the objects of a JSON object or array of objects.
        rows_total: how many there are.
        value: what JSON means.
        text: the text of JSON and of text.
        problem: why the data is not what its content type says; empty when it is, or has none.
    """

    kind: Kind
    rows: list[Json] = field(default_factory=list)
    rows_total: int = 0
    value: Any = None
    text: str = ""
    problem: str = ""


def content_type(message: queue_pb2.Message) -> str:
    """What a message says that it holds; empty when it does not say."""
    return message.attributes.get(CONTENT_TYPE, "")


def is_json(kind: str) -> bool:
    """Whether a content type is a form of JSON."""
    kind = kind.partition(";")[0].strip()
    return kind == "application/json" or kind.endswith("+json")


def read_payload(message: queue_pb2.Message, rows_max: int) -> Payload:
    """Read a message's data as what its content type says, else as text if it is UTF-8, else as bytes."""
    kind, data, problem = content_type(message), message.data, ""
    try:
        if kind == ARROW_CONTENT_TYPE:
            rows, total = arrow_rows(data, rows_max)
            return Payload("records", rows, total)
        if kind == LIVE_CONTENT_TYPE:
            rows, total = _live_rows(data, rows_max)
            return Payload("records", rows, total)
        if is_json(kind):
            return _json_payload(data, rows_max)
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        problem = str(error)
    try:
        return Payload("text", text=data.decode(), problem=problem)
    except UnicodeDecodeError:
        return Payload("binary", problem=problem)


def arrow_rows(data: bytes, rows_max: int | None = None) -> tuple[list[Json], int]:
    """The first records of an Arrow message as :func:`record_json`, and how many there are.

    Raises:
        ValueError: if it is none.
    """
    from telemetry.codec import decode, records_of

    frame = decode(data, ARROW_CONTENT_TYPE)
    return [
        record_json(record) for record in records_of(frame.head(frame.height if rows_max is None else rows_max))
    ], frame.height


def record_json(record: Record) -> Json:
    """A record as a JSON object."""
    return {
        "timestamp": record.timestamp,
        "gpu": record.gpu,
        "metrics": dict(record.metrics),
        "labels": dict(record.labels),
    }


def _json_payload(data: bytes, rows_max: int) -> Payload:
    value = orjson.loads(data)
    text = data.decode()
    if isinstance(value, dict) and "fields" in value:
        from telemetry.codec import CodecError, decode_json

        try:
            return Payload("records", [record_json(decode_json(data))], 1, value, text)
        except CodecError as error:
            return Payload("json", [value], 1, value, text, problem=str(error))
    objects = [value] if isinstance(value, dict) else value if isinstance(value, list) else []
    if not all(isinstance(each, dict) for each in objects):
        objects = []
    return Payload("json", objects[:rows_max], len(objects), value, text)


def _live_rows(data: bytes, rows_max: int) -> tuple[list[Json], int]:
    """The GPUs of a live update, those whose labels alone have changed included."""
    update = decode_live_update(data)
    rows: list[Json] = []
    for index, gpu in enumerate(update.gpus[:rows_max]):
        latest = {name: column.last[index] for name, column in update.columns.items()}
        rows.append(
            {
                "timestamp": _EPOCH + timedelta(microseconds=update.timestamps_us[index]),
                "gpu": gpu,
                "metrics": {name: value for name, value in latest.items() if value is not None},
                "labels": dict(update.labels.get(gpu, {})),
            }
        )
    known = set(update.gpus)
    alone = [gpu for gpu in update.labels if gpu not in known]
    for gpu in alone[: max(0, rows_max - len(rows))]:
        rows.append({"timestamp": None, "gpu": gpu, "metrics": {}, "labels": dict(update.labels[gpu])})
    return rows, len(update.gpus) + len(alone)
