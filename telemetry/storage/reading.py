"""Records in order of time from a file whose lines are only roughly in that order, without reading all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import polars as pl

from telemetry.model import TIMESTAMP
from telemetry.storage.checkpoint import Block
from telemetry.storage.samples import merge_instants

_FIRST_READ_BYTES: Final = 64 << 10
_READ_BYTES_MAX: Final = 8 << 20


def in_time_order(
    blocks: Iterable[Block], load: Callable[[Block], pl.DataFrame], *, newest_first: bool
) -> Iterator[pl.DataFrame]:
    """Yield the records of ``blocks`` in order of time, one an instant, in pieces.

    Blocks are read in the order of their times. Rows wait until no block that is still unread can hold anything before
    them. The first read is small, for those who want only a few records; each one after is twice the size of the last.
    """
    unread = sorted(blocks, key=lambda block: -block.max_us if newest_first else block.min_us)
    at, size = 0, _FIRST_READ_BYTES
    waiting: list[tuple[int, pl.DataFrame]] = []
    while at < len(unread):
        loaded = 0
        while at < len(unread) and loaded < size:
            waiting.append((unread[at].start, load(unread[at])))
            loaded += unread[at].end - unread[at].start
            at += 1
        size = min(size * 2, _READ_BYTES_MAX)
        is_ready = pl.lit(True)
        if at < len(unread):
            times = pl.col(TIMESTAMP).dt.timestamp("us")
            is_ready = times > unread[at].max_us if newest_first else times < unread[at].min_us
        # Of lines of one instant the last in the file wins, so pieces are put together in the file's order.
        waiting.sort(key=lambda piece: piece[0])
        ready = merge_instants(pl.concat([frame.filter(is_ready) for _, frame in waiting]))
        waiting = [(start, rest) for start, frame in waiting if (rest := frame.filter(~is_ready)).height]
        if ready.height:
            yield ready.reverse() if newest_first else ready
