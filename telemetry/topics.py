"""The topics of the pipeline: what they are called and how each is kept. Whoever comes first makes them."""

from __future__ import annotations

from typing import Final

from google.protobuf.duration_pb2 import Duration

from telemetry.v1.queue_admin_pb2 import TOPIC_STORAGE_MEMORY, Retention, Topic

DATA_TOPIC: Final = "telemetry"
QUARANTINE_TOPIC: Final = "telemetry.quarantine"
LIVE_TOPIC: Final = "live"

DATA: Final = Topic(name=DATA_TOPIC, partitions=8, retention=Retention(drop_acked=True))
"""Records. A GPU's are in partition ``crc32(identity) % partitions``, so that they stay in order."""

QUARANTINE: Final = Topic(name=QUARANTINE_TOPIC, partitions=1, retention=Retention(drop_acked=True))
"""Rows that streamers could not read, as JSON: ``source``, ``line``, ``reason``, ``raw``."""

# Nobody acks live updates, so they have to go by age and size.
LIVE: Final = Topic(
    name=LIVE_TOPIC,
    partitions=1,
    storage=TOPIC_STORAGE_MEMORY,
    retention=Retention(age=Duration(seconds=60), bytes=32 << 20, drop_unacked=True),
)
"""What changed in the last second, see `telemetry/live.py`."""
