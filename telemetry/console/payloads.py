"""What a message holds, readably: its text, its JSON, or the records in it; else how large it is."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Final

import orjson

from telemetry.console.tables import instant, instant_of_us, number, plural, printable, size
from telemetry.live import LIVE_CONTENT_TYPE, decode_live_update
from telemetry.payloads import ARROW_CONTENT_TYPE, arrow_rows, content_type, is_json
from telemetry.queue.shapes import Json
from telemetry.v1 import queue_pb2

LINES_MAX: Final = 5
"""Records or GPUs of one message that are written out for people."""
TEXT_MAX: Final = 2000
"""Characters of one text that are written out for people."""


def payload_json(message: queue_pb2.Message, *, raw: bool = False) -> Json:
    """The message's data as a field of a JSON object.

    ``data`` is the value itself if it is JSON, a list of records if it is Arrow, or the text if it is one;
    ``data_base64`` holds anything else, and everything when ``raw``.
    """
    data = message.data
    if not raw:
        try:
            if content_type(message) == ARROW_CONTENT_TYPE:
                return {"data": arrow_rows(data)[0]}
            if is_json(content_type(message)):
                return {"data": orjson.loads(data)}
            return {"data": data.decode()}
        except ValueError:
            pass
    return {"data_base64": base64.b64encode(data).decode()}


def payload_lines(message: queue_pb2.Message) -> Iterator[str]:
    """A line that says what the message holds, and for records and live updates more lines with the first of them."""
    kind = content_type(message)
    try:
        if kind == ARROW_CONTENT_TYPE:
            yield from _record_lines(message.data)
        elif kind == LIVE_CONTENT_TYPE:
            yield from _live_lines(message.data)
        else:
            yield _shortened(message.data.decode())
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        problem = f" {kind}, which cannot be read: {error}" if kind else ""
        yield f"{size(len(message.data))}{problem}"


def _shortened(text: str) -> str:
    if len(text) <= TEXT_MAX:
        return printable(text)
    return f"{printable(text[:TEXT_MAX])}… {number(len(text) - TEXT_MAX)} more characters"


def _record_lines(data: bytes) -> Iterator[str]:
    from telemetry.codec import decode, records_of
    from telemetry.model import GPU

    frame = decode(data, ARROW_CONTENT_TYPE)
    yield f"{plural(frame.height, 'record')} of {plural(frame[GPU].n_unique(), 'GPU')}, {size(len(data))}"
    for record in records_of(frame.head(LINES_MAX)):
        metrics = " ".join(f"{name}={value:g}" for name, value in record.metrics.items())
        yield f"{instant(record.timestamp)} {printable(record.gpu)} {printable(metrics)}"
    yield from _more(frame.height)


def _live_lines(data: bytes) -> Iterator[str]:
    update = decode_live_update(data)
    yield f"{plural(len(update.gpus), 'GPU')}, {plural(len(update.columns), 'metric')}, {size(len(data))}"
    for index, gpu in enumerate(update.gpus[:LINES_MAX]):
        latest = ((name, column.last[index]) for name, column in update.columns.items())
        metrics = " ".join(f"{name}={value:g}" for name, value in latest if value is not None)
        yield f"{instant(instant_of_us(update.timestamps_us[index]))} {printable(gpu)} {printable(metrics)}"
    yield from _more(len(update.gpus))


def _more(count: int) -> Iterator[str]:
    if count > LINES_MAX:
        yield f"… {number(count - LINES_MAX)} more"
