"""Aggregates that can be put together again: roll-ups in files, and partial results of queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from telemetry.model import GPU, TIMESTAMP
from telemetry.storage.cold.files import ROLLUP_FUNCTIONS
from telemetry.storage.cold.rows import KEY, TIMES_US, columns_of
from telemetry.storage.series import Steps, step_of

_FIVE: Final = ROLLUP_FUNCTIONS


def roll_up(frame: pl.DataFrame, width: str) -> pl.DataFrame:
    """Records as a row for each GPU and step, its columns ``=metric:min`` and so on. Steps must be whole."""
    columns = columns_of(frame)
    return (
        frame.with_columns(pl.col(TIMESTAMP).dt.truncate(width))
        .group_by(KEY, maintain_order=True)
        .agg(expression for column in columns for expression in _aggregates(column))
    )


def roll_up_again(frame: pl.DataFrame, width: str) -> pl.DataFrame:
    """What :func:`roll_up` gave, in wider steps."""
    return (
        frame.with_columns(pl.col(TIMESTAMP).dt.truncate(width))
        .group_by(KEY, maintain_order=True)
        .agg(_again(column, column.rpartition(":")[2]) for column in columns_of(frame))
    )


def partial_columns(places: int) -> list[str]:
    """The columns of a partial result after ``gpu`` and ``step``: ``0:min`` … ``0:last``, ``0:last_us``, ``1:min`` …"""
    return [f"{place}:{name}" for place in range(places) for name in (*_FIVE, "last_us")]


def partials_of(records: pl.DataFrame, steps: Steps, places: int) -> pl.DataFrame:
    """A partial result of records: ``gpu``, ``timestamp`` and metrics by place, those of a GPU in order of time."""
    expressions = []
    for place in range(places):
        value = pl.col(str(place))
        expressions += [
            value.min().alias(f"{place}:min"),
            value.max().alias(f"{place}:max"),
            # The sum of nothing is 0 to polars; here it is nothing.
            pl.when(value.count() > 0).then(value.sum()).alias(f"{place}:sum"),
            value.count().alias(f"{place}:count"),
            value.last(ignore_nulls=True).alias(f"{place}:last"),
            TIMES_US.filter(value.is_not_null()).last().alias(f"{place}:last_us"),
        ]
    return records.group_by(GPU, step_of(steps)).agg(expressions)


def partial_schema(places: int) -> pl.Schema:
    """The types of a partial result: counts and instants are Int64, values Float64."""
    kinds = {
        name: pl.Int64() if name.endswith((":count", ":last_us")) else pl.Float64() for name in partial_columns(places)
    }
    return pl.Schema({GPU: pl.String(), "step": pl.Int64(), **kinds})


def combine_partials(partials: Sequence[pl.DataFrame], places: int) -> pl.DataFrame:
    """Put partial results over different records together: one row for each GPU and step, in no order."""
    schema = partial_schema(places)
    rows = pl.concat(
        [pl.DataFrame(schema=schema), *(partial.cast(schema).select(schema.names()) for partial in partials)]
    )
    if len(partials) < 2:
        return rows
    expressions = []
    for place in range(places):
        low, high, total, count, last, last_us = (pl.col(name) for name in partial_columns(place + 1)[-6:])
        newest = last_us.arg_max()
        expressions += [
            low.min(),
            high.max(),
            pl.when(count.sum() > 0).then(total.sum()).alias(f"{place}:sum"),
            count.sum(),
            last.get(newest, null_on_oob=True),
            last_us.max(),
        ]
    return rows.group_by(GPU, "step").agg(expressions).select(schema.names())


def _aggregates(column: str) -> list[pl.Expr]:
    value = pl.col(column)
    return [
        value.min().alias(f"{column}:min"),
        value.max().alias(f"{column}:max"),
        pl.when(value.count() > 0).then(value.sum()).alias(f"{column}:sum"),
        value.count().cast(pl.Int64).alias(f"{column}:count"),
        value.last(ignore_nulls=True).alias(f"{column}:last"),
    ]


def _again(column: str, function: str) -> pl.Expr:
    value = pl.col(column)
    match function:
        case "min":
            return value.min()
        case "max":
            return value.max()
        case "sum":
            return pl.when(value.count() > 0).then(value.sum())
        case "count":
            return value.sum()
        case _:
            return value.last(ignore_nulls=True)
