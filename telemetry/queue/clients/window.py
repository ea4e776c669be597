"""The bound on what is accepted and not yet confirmed."""

from __future__ import annotations

import asyncio


class ByteWindow:
    """Counts bytes in and out; one waiter at a time waits for room.

    Something larger than the whole window is let in alone, so that nothing waits for ever.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._changed = asyncio.Event()
        self.used = 0
        """Bytes accepted and not yet confirmed."""

    async def enter(self, size: int) -> None:
        """Wait until ``size`` bytes have room, and count them."""
        while self.used and self.used + size > self._limit:
            self._changed.clear()
            await self._changed.wait()
        self.used += size

    def leave(self, size: int) -> None:
        """Count ``size`` bytes out."""
        self.used -= size
        self._changed.set()
