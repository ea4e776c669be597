"""Messages as the plain dictionaries that become JSON: decoded, and cut to what a page can show."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Final

from gateway.queue.browsing import Stored
from gateway.shapes import instant_of_us
from telemetry.payloads import Payload, content_type, read_payload
from telemetry.queue.letters import origin_of
from telemetry.queue.shapes import Json

ROWS_MAX: Final = 100
"""Rows shown of one message."""
ROWS_TOTAL_MAX: Final = 5_000
"""Rows shown of all messages together; after that they are only counted."""
SHOWN_BYTES_MAX: Final = 64 << 10
"""Bytes of a message that are shown as text or base64. Rows of a larger JSON message are only counted."""


def messages(found: Sequence[Stored], *, letters: bool = False) -> list[Json]:
    """Messages with their data decoded, and with where they came from if they are dead letters."""
    shown: list[Json] = []
    rows_left = ROWS_TOTAL_MAX
    for stored in found:
        content = _message(stored, min(ROWS_MAX, rows_left))
        rows_left -= len(content["rows"])
        shown.append(content | {"origin": origin_of(stored.message)} if letters else content)
    return shown


def _message(stored: Stored, rows_max: int) -> Json:
    message = stored.message
    payload = read_payload(message, rows_max)
    data = message.data
    truncated = len(data) > SHOWN_BYTES_MAX
    return {
        "partition": stored.partition,
        "offset": stored.offset,
        "publish_time": instant_of_us(stored.time_us),
        "ordering_key": message.ordering_key,
        "attributes": dict(message.attributes),
        "bytes": len(data),
        "content_type": content_type(message),
        "kind": payload.kind,
        "rows": [] if payload.kind == "json" and truncated else payload.rows,
        "rows_total": payload.rows_total,
        "text": _cut(payload) if payload.text or payload.kind in ("text", "json") else None,
        "base64": base64.b64encode(data[:SHOWN_BYTES_MAX]).decode() if payload.kind == "binary" else None,
        "truncated": truncated and (payload.kind == "binary" or bool(payload.text)),
        "problem": payload.problem,
    }


def _cut(payload: Payload) -> str:
    text = payload.text[:SHOWN_BYTES_MAX]
    return text.encode()[:SHOWN_BYTES_MAX].decode(errors="ignore")
