"""How messages that were browsed or tailed are printed: for people, as JSON lines, or as their bare bytes."""

from __future__ import annotations

import sys

from telemetry.console.payloads import payload_json, payload_lines
from telemetry.console.session import to_json
from telemetry.console.tables import instant, instant_of_us, printable
from telemetry.queue.client import StoredMessage
from telemetry.queue.shapes import Json

_INDENT = "    "


class MessagePrinter:
    """Prints one message after the other to standard output."""

    def __init__(self, *, as_json: bool, raw: bool) -> None:
        """With ``raw``, data is printed as it is; in JSON, as base64."""
        self._as_json = as_json
        self._raw = raw
        self._out = sys.stdout.buffer

    def show(self, stored: StoredMessage) -> None:
        """Print a message."""
        if self._raw and not self._as_json:
            self._out.write(stored.message.data + b"\n")
        elif self._as_json:
            self._out.write(to_json(message_json(stored, raw=self._raw)).encode() + b"\n")
        else:
            self._out.write("".join(f"{line}\n" for line in message_lines(stored)).encode())

    def flush(self) -> None:
        """Let the reader see what was printed."""
        self._out.flush()


def message_json(stored: StoredMessage, *, raw: bool = False) -> Json:
    """A message as a JSON object."""
    return {
        "topic": stored.topic,
        "partition": stored.partition,
        "offset": stored.offset,
        "publish_time": instant_of_us(stored.publish_time_us),
        "ordering_key": stored.message.ordering_key,
        "attributes": dict(stored.message.attributes),
        **payload_json(stored.message, raw=raw),
    }


def message_lines(stored: StoredMessage) -> list[str]:
    """A message for people: where and when, what travels beside it, and what it holds."""
    message = stored.message
    summary, *details = payload_lines(message)
    beside = [f"key={printable(message.ordering_key)}"] if message.ordering_key else []
    beside += [
        f"{printable(name)}={printable(value)}"
        for name, value in sorted(message.attributes.items())
        if name != "content-type"
    ]
    head = f"{stored.topic}/{stored.partition}@{stored.offset}  {instant(instant_of_us(stored.publish_time_us))}  "
    extra = f"[{' '.join(beside)}]  " if beside else ""
    return [f"{head}{extra}{summary}", *(f"{_INDENT}{line}" for line in details)]
