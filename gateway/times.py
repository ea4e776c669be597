"""Microseconds as the messages of gRPC have them."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.problems import ParameterError


def timestamp(time_us: int) -> Timestamp:
    """Microseconds since 1970."""
    stamp = Timestamp()
    stamp.FromMicroseconds(time_us)
    return stamp


def duration(length_us: int) -> Duration:
    """Microseconds."""
    length = Duration()
    length.FromMicroseconds(length_us)
    return length


def check_order(start_us: int | None, end_us: int | None) -> None:
    """See that a range is one.

    Raises:
        ParameterError: if it ends before it begins.
    """
    if start_us is not None and end_us is not None and start_us >= end_us:
        raise ParameterError("end_time", "end_time must be later than start_time")
