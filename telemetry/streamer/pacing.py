"""When rows go out, and what time records get that are stamped on their way."""

from __future__ import annotations

from asyncio import sleep
from time import time
from typing import Final

import polars as pl

from telemetry.codec import TIME_TYPE
from telemetry.model import GPU, TIMESTAMP
from telemetry.streamer.sources.apart import KEYS_MAX, Apart
from telemetry.streamer.sources.layout import FIRST_LINE, LAST_LINE

TICK_S: Final = 0.4
"""How often a paced stream sends what has become due."""

BEHIND_S_MAX: Final = 5.0
"""A stream that is further behind goes on from now instead of catching up."""


class Pacer:
    """Releases rows at a steady rate."""

    def __init__(self, rows_per_s: float) -> None:
        """Release ``rows_per_s``; 0 means that nothing waits."""
        self._rate = rows_per_s
        self._rows = 0
        self._start_s: float | None = None

    @property
    def chunk_rows(self) -> int:
        """How many rows go out together; 0 means whatever there is."""
        return max(1, round(self._rate * TICK_S)) if self._rate else 0

    async def wait(self, rows: int) -> tuple[int, int]:
        """Wait until the next ``rows`` are due; return when the first and the last are, in microseconds since 1970."""
        now_s = time()
        if not self._rate:
            return int(now_s * 1e6), int(now_s * 1e6)
        if self._start_s is None or now_s > self._start_s + self._rows / self._rate + BEHIND_S_MAX:
            self._start_s, self._rows = now_s, 0
        first_s = self._start_s + self._rows / self._rate
        last_s = first_s + (rows - 1) / self._rate
        self._rows += rows
        if last_s > now_s:
            await sleep(last_s - now_s)
        return int(first_s * 1e6), int(last_s * 1e6)


class ArrivalStamps:
    """Gives records the time at which they go out instead of their source's.

    Records of one GPU get strictly increasing times, also from pass to pass. What the source has at one instant, though
    it may go out in parts, keeps one time.
    """

    def __init__(self) -> None:
        self._apart = Apart((GPU,))
        self._current = pl.DataFrame(schema={GPU: pl.String, "source": TIME_TYPE, "stamp": TIME_TYPE})
        self._last_us = 0

    def begin_pass(self) -> None:
        """The source begins again; equal instants are new ones."""
        self._current = self._current.clear()

    def stamp(self, records: pl.DataFrame, first_us: int, last_us: int, rows: int) -> pl.DataFrame:
        """Stamp records made of ``rows`` rows that go out between ``first_us`` and ``last_us``."""
        # A clock that was set back must not take the records with it.
        first_us = max(first_us, self._last_us)
        self._last_us = last_us = max(last_us, first_us)
        share = (pl.col(FIRST_LINE) - pl.col(FIRST_LINE).min()) / max(1, rows - 1)
        due = first_us + (share.clip(0, 1) * (last_us - first_us)).cast(pl.Int64)
        found = records.with_columns(pl.col(TIMESTAMP).alias("source"), due.cast(TIME_TYPE).alias(TIMESTAMP)).join(
            self._current, on=[GPU, "source"], how="left", maintain_order="left"
        )
        going_on = found.filter(pl.col("stamp").is_not_null()).with_columns(pl.col("stamp").alias(TIMESTAMP))
        fresh = found.filter(pl.col("stamp").is_null())
        if fresh.height:
            fresh = self._apart.keep(fresh)
        stamped = pl.concat([going_on, fresh])
        newest = stamped.sort(LAST_LINE).select(GPU, "source", pl.col(TIMESTAMP).alias("stamp"))
        self._current = pl.concat([self._current, newest]).unique(GPU, keep="last")
        if self._current.height > KEYS_MAX:
            self._current = self._current.top_k(KEYS_MAX // 2, by="stamp")
        return stamped.drop("source", "stamp")
