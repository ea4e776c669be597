"""QueryService's messages as the plain dictionaries that become JSON; `telemetry/queue/shapes.py` has the queue's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from telemetry.queue.shapes import Json, instant
from telemetry.v1 import query_pb2

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def instant_of_us(time_us: int) -> datetime:
    """Microseconds since 1970 as UTC."""
    return EPOCH + timedelta(microseconds=time_us)


def completeness(message: query_pb2.Completeness) -> Json:
    """How complete an answer is."""
    return {"partial": message.partial, "warnings": list(message.warnings)}


def columns(messages: Any) -> dict[str, list[float]]:
    """Columns by metric. NaN, which means that there is no value, becomes null in JSON."""
    return {column.metric: list(column.values) for column in messages}


def gpu(message: query_pb2.Gpu) -> Json:
    """One GPU."""
    return {
        "gpu": message.gpu,
        "host": message.host,
        "index": message.index,
        "model": message.model,
        "labels": dict(message.labels),
        "first_seen": instant(message, "first_seen"),
        "last_seen": instant(message, "last_seen"),
        "metrics": list(message.metrics),
    }


def host(message: query_pb2.Host) -> Json:
    """One host."""
    return {
        "host": message.host,
        "gpus": message.gpus,
        "first_seen": instant(message, "first_seen"),
        "last_seen": instant(message, "last_seen"),
    }


def record(message: query_pb2.Record) -> Json:
    """One record."""
    return {"timestamp": message.timestamp.ToDatetime(UTC), "metrics": dict(message.metrics)}
