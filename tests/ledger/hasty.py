"""A collector that breaks the promise: it acks first and stores later. Whatever it loses must come to light."""

from __future__ import annotations

from collections.abc import Sequence

from telemetry.collector import writer
from telemetry.collector.writer import Waiting, Writer


def ack_before_the_checkpoint() -> None:
    """Make every collector of this process one of that kind."""
    careful = Writer._store_all

    async def hasty(self: Writer, taken: Sequence[Waiting]) -> None:
        await writer._ack_all([each.delivery for each in taken])
        await careful(self, taken)

    Writer._store_all = hasty  # type: ignore[method-assign]
