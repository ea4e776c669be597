"""Delivery ids that cannot be guessed.

The engine numbers its deliveries. Where everybody may everything, that does; where rights differ by topic, whoever has
seen one id could settle the deliveries of others.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Final

_MARK_BYTES: Final = 12


class Seal:
    """Adds to an id what only this process can add, and takes it off again."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def sealed(self, delivery_id: str) -> str:
        """The id as the client gets it."""
        return f"{delivery_id}.{self._mark(delivery_id)}"

    def opened(self, sealed: str) -> str:
        """The id as the engine knows it; one that no delivery has if it is not ours."""
        delivery_id, _, mark = sealed.rpartition(".")
        return delivery_id if hmac.compare_digest(mark.encode(), self._mark(delivery_id).encode()) else "?"

    def _mark(self, delivery_id: str) -> str:
        return hmac.digest(self._key, delivery_id.encode(), "sha256")[:_MARK_BYTES].hex()
