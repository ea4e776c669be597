"""Which leases need extending when. Pure bookkeeping: no tasks, and the time is an argument."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

LEASE_S_MAX: Final = 3600.0
"""How long a delivery is kept leased by extending; a consumer that holds it for longer is taken to be stuck."""

INTERVAL_S_MIN: Final = 0.05
"""How often a lease is extended at most, however short the queue says that it is."""


class Leases:
    """Deliveries that are not settled. Each is extended every third of the ack wait, so that two tries may fail."""

    def __init__(self, ack_wait_s: float) -> None:
        self._interval_s = max(ack_wait_s / 3, INTERVAL_S_MIN)
        self._due: dict[str, float] = {}  # the soonest first: the interval is the same for all
        self._received: dict[str, float] = {}

    def add(self, delivery_id: str, now: float) -> None:
        """A delivery has arrived."""
        self._received[delivery_id] = now
        self._due[delivery_id] = now + self._interval_s

    def discard(self, delivery_id: str) -> None:
        """A delivery is settled, or its lease is lost."""
        self._received.pop(delivery_id, None)
        self._due.pop(delivery_id, None)

    def next_due_at(self) -> float | None:
        """When :meth:`take_due` will have something to return."""
        return next(iter(self._due.values()), None)

    def take_due(self, now: float) -> Sequence[str]:
        """The deliveries to extend now. Their next turn begins with this; those held for too long are let go."""
        taken = []
        while self._due:
            delivery_id = next(iter(self._due))
            if self._due[delivery_id] > now:
                break
            del self._due[delivery_id]
            if now - self._received[delivery_id] >= LEASE_S_MAX:
                del self._received[delivery_id]
                continue
            self._due[delivery_id] = now + self._interval_s
            taken.append(delivery_id)
        return taken
