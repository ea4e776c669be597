"""Cuts messages off an encoded batch without building the others again."""

from __future__ import annotations

from telemetry.v1 import queue_pb2


def without_head(batch: bytes, messages: int) -> bytes:
    """The encoded batch without its first ``messages`` messages."""
    if messages <= 0:
        return batch
    kept = queue_pb2.MessageBatch()
    kept.messages.extend(queue_pb2.MessageBatch.FromString(batch).messages[messages:])
    return kept.SerializeToString()
