"""Places in a partition and lengths of time, as requests carry them."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from telemetry.queue.core.types import AtOffset, AtTime, Place, Position
from telemetry.v1 import queue_pb2


def start_position(position: Position) -> queue_pb2.StartPosition:
    """Where to begin, or where to go."""
    if isinstance(position, AtOffset):
        return queue_pb2.StartPosition(offset=position.offset)
    if isinstance(position, AtTime):
        time = Timestamp()
        time.FromMicroseconds(position.time_us)
        return queue_pb2.StartPosition(time=time)
    if position is Place.EARLIEST:
        return queue_pb2.StartPosition(earliest=True)
    return queue_pb2.StartPosition(latest=True)


def duration_of(seconds: float) -> Duration:
    """A length of time, to the nanosecond."""
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration
