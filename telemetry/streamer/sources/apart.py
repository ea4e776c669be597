"""Keeps rows apart that repeat what identifies them: later ones move on by 1 µs each, in file order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from telemetry.codec import TIME_TYPE
from telemetry.model import TIMESTAMP

KEYS_MAX: Final = 1_000_000
"""How many GPUs, or pairs of GPU and metric, are remembered from block to block; the oldest are forgotten."""

_TIME = pl.col(TIMESTAMP).to_physical()


class Apart:
    """Remembers, for each key, the newest time in the file so far and the newest time given.

    So repeats are found within a block, and across blocks when a key's times do not go backwards. Where they do, as in
    a file appended to itself, a row of an earlier block and its repetition stay at the same time.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        """Keep rows apart whose ``keys`` (text columns) and time are equal."""
        self._keys = list(keys)
        self._newest = pl.DataFrame(schema=dict.fromkeys(keys, pl.String()) | {"$newest": pl.Int64, "$given": pl.Int64})

    def keep(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows in the same order, with times that no other row of their key has."""
        spans = rows.group_by(self._keys).agg(_TIME.min().alias("$oldest"), _TIME.max().alias("$newest"))
        seen = spans.join(self._newest, on=self._keys, how="inner", suffix="_before")
        touching = (seen["$oldest"] <= seen["$given"]).any()
        if touching or rows.select(*self._keys, TIMESTAMP).is_duplicated().any():
            moved = self._move(rows)
            given = moved.group_by(self._keys).agg(_TIME.max().alias("$given"))
            rows = moved
        else:
            given = spans.select(*self._keys, pl.col("$newest").alias("$given"))
        self._remember(spans.select(*self._keys, "$newest").join(given, on=self._keys))
        return rows

    def _move(self, rows: pl.DataFrame) -> pl.DataFrame:
        repeats = _TIME.is_between("$newest", "$given")
        start = pl.when(repeats).then(pl.col("$given") + 1).otherwise(_TIME)
        rank = pl.int_range(pl.len()).over(self._keys)
        return (
            rows.with_row_index("$order")
            .join(self._newest, on=self._keys, how="left")
            .with_columns(start.alias("$start"))
            .sort(*self._keys, "$start", "$order")
            # Each at least 1 µs after the one before it.
            .with_columns((pl.col("$start") - rank).cum_max().over(self._keys) + rank)
            .with_columns(pl.col("$start").cast(TIME_TYPE).alias(TIMESTAMP))
            .sort("$order")
            .select(rows.columns)
        )

    def _remember(self, newest: pl.DataFrame) -> None:
        newest = (
            pl.concat([self._newest, newest]).group_by(self._keys).agg(pl.col("$newest").max(), pl.col("$given").max())
        )
        self._newest = newest if newest.height <= KEYS_MAX else newest.top_k(KEYS_MAX // 2, by="$newest")
