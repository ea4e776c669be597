"""What a process saw, written outside the queue as it happens: one line an event, one file a life."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from telemetry.queue.core.types import AckStatus, Outcome


class Sent(NamedTuple):
    """Messages are about to be published. ``at`` is the machine's monotonic time in seconds, as everywhere here."""

    at: float
    lane: str
    """Within a lane and a partition, messages are stored in the order of their numbers."""
    partition: int
    first: int
    """The first message's number; the others follow densely."""
    ids: tuple[str, ...]


class Confirmed(NamedTuple):
    """The queue has answered with a receipt."""

    at: float
    partition: int
    base_offset: int | None
    ids: tuple[str, ...]
    duplicate: bool


class Refused(NamedTuple):
    """The queue has answered with an error."""

    at: float
    reason: str


class Delivered(NamedTuple):
    """Messages have arrived. ``number`` counts the deliveries of a life."""

    at: float
    number: int
    partition: int
    offsets: tuple[int, ...]
    ids: tuple[str, ...]
    attempt: int


class Settling(NamedTuple):
    """An outcome is about to be sent: ``ack``, ``nack`` or ``terminate``."""

    at: float
    number: int
    outcome: str


class Settled(NamedTuple):
    """The outcome was answered: ``ok``, ``stale`` or ``unknown``."""

    at: float
    number: int
    status: str


class Assigned(NamedTuple):
    """ORDERED: partitions are this member's."""

    at: float
    partitions: tuple[int, ...]


class Revoked(NamedTuple):
    """ORDERED: partitions are no longer this member's."""

    at: float
    partitions: tuple[int, ...]


Event = Sent | Confirmed | Refused | Delivered | Settling | Settled | Assigned | Revoked

ACK: Final = Outcome.ACK.value
NACK: Final = Outcome.NACK.value
TERMINATE: Final = Outcome.TERMINATE.value
OK: Final = AckStatus.OK.value
STALE: Final = AckStatus.STALE.value

NEWEST_BYTES: Final = 8192

_KINDS: Final[Mapping[str, Callable[..., Event]]] = {
    kind.__name__: kind for kind in (Sent, Confirmed, Refused, Delivered, Settling, Settled, Assigned, Revoked)
}


def now() -> float:
    """The time that all processes of this machine share."""
    return time.monotonic()


class LedgerWriter:
    """Appends lines, each in one write, so that ``kill -9`` leaves all of a line or at worst a part without its end."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)

    def write(self, event: Event) -> None:
        """Append an event."""
        os.write(self._fd, json.dumps([type(event).__name__, *event], separators=(",", ":")).encode() + b"\n")


def read_ledger(path: Path, *, newest: bool = False) -> Iterator[Event]:
    """The events of a life, all or only the newest few; what a kill cut short is left out."""
    if not path.exists():
        return
    with path.open("rb") as file:
        if newest and os.fstat(file.fileno()).st_size > NEWEST_BYTES:
            file.seek(-NEWEST_BYTES, os.SEEK_END)
            file.readline()
        lines = file.readlines()
    for line in lines:
        if line.endswith(b"\n"):
            kind, *values = json.loads(line)
            yield _KINDS[kind](*(tuple(value) if isinstance(value, list) else value for value in values))
