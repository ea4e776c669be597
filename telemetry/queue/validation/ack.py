"""From an AckRequest to entries that an engine can settle."""

from __future__ import annotations

from typing import Final

from telemetry.queue.core.types import AckEntry, Outcome
from telemetry.queue.validation.fields import NAME_BYTES_MAX, duration_s, invalid, text
from telemetry.v1 import queue_pb2

ACK_ENTRIES_MAX: Final = 10_000
"""Most entries of one ack request."""
DELIVERY_ID_BYTES_MAX: Final = 64
"""Longest delivery id."""
REASON_BYTES_MAX: Final = 1024
"""Longest reason given with a NACK or TERMINATE."""

_OUTCOMES: Final = {
    queue_pb2.ACK_OUTCOME_ACK: Outcome.ACK,
    queue_pb2.ACK_OUTCOME_NACK: Outcome.NACK,
    queue_pb2.ACK_OUTCOME_EXTEND: Outcome.EXTEND,
    queue_pb2.ACK_OUTCOME_TERMINATE: Outcome.TERMINATE,
}


def ack_entries(request: queue_pb2.AckRequest) -> list[AckEntry]:
    """Check every field of the request.

    Raises:
        InvalidArgumentError: if a field is wrong; then nothing of the request may be done.
    """
    text(request.request_id, "request_id", NAME_BYTES_MAX)
    if not request.entries:
        invalid("entries", "is empty; at least one entry is required")
    if len(request.entries) > ACK_ENTRIES_MAX:
        invalid("entries", f"has {len(request.entries)} entries; at most {ACK_ENTRIES_MAX} are allowed")
    return [_entry(entry, index) for index, entry in enumerate(request.entries)]


def _entry(entry: queue_pb2.AckEntry, index: int) -> AckEntry:
    delivery_id = entry.delivery_id
    if not 0 < len(delivery_id) <= DELIVERY_ID_BYTES_MAX // 4:
        if not delivery_id:
            invalid(f"entries[{index}].delivery_id", "is required")
        text(delivery_id, f"entries[{index}].delivery_id", DELIVERY_ID_BYTES_MAX)
    outcome = _OUTCOMES.get(entry.outcome)
    if outcome is None:
        invalid(f"entries[{index}].outcome", "must be ACK, NACK, EXTEND or TERMINATE")
    run = None
    if entry.HasField("range"):
        if entry.range.count == 0:
            invalid(f"entries[{index}].range.count", "must be at least 1")
        run = (entry.range.first, entry.range.count)
    delay_s = None
    if entry.HasField("delay"):
        if outcome not in (Outcome.NACK, Outcome.EXTEND):
            invalid(f"entries[{index}].delay", "may only be set for NACK and EXTEND")
        delay_s = duration_s(entry.delay, f"entries[{index}].delay")
    reason = text(entry.reason, f"entries[{index}].reason", REASON_BYTES_MAX) if entry.reason else ""
    return AckEntry(delivery_id=delivery_id, outcome=outcome, run=run, delay_s=delay_s, reason=reason)
