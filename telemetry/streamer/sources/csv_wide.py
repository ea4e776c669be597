"""Wide files: a row a record, a column a metric, as nvidia-smi and most scripts write them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import tzinfo
from typing import Final

import polars as pl

from telemetry.model import GPU
from telemetry.streamer.sources import cells
from telemetry.streamer.sources.layout import Identity, Placed, SourceError, WrongCells, each_row_a_record
from telemetry.streamer.sources.table import LINE
from telemetry.tabular import Column, Role

_NUMBER_NOT_ID: Final = re.compile(
    r"[+-]?(?:0|[1-9]\d{0,15})(?:\.\d*)?(?:[eE][+-]?\d+)?(?:\s*[%A-Za-z°/]+)?|0[xX][0-9a-fA-F]+"
)
"""Numbers with leading zeros or more digits than a floating point number holds are names of things."""


class WideLayout:
    """A row a record."""

    keys: Sequence[str] = (GPU,)

    def __init__(self, headers: Sequence[str], placed: Sequence[Placed], zone: tzinfo) -> None:
        """Read what the columns are.

        Raises:
            SourceError: if no column says which GPU, or none can hold a value.
        """
        self._identity = Identity(placed, headers, zone)
        self.has_time = self._identity.has_time
        self._columns = {p.position: p.column for p in placed if p.column.role in _VALUES}
        if not any(column.role in (Role.METRIC, Role.UNKNOWN) for column in self._columns.values()):
            raise SourceError(f"no column holds a metric; found are: {', '.join(headers)[:500]}")

    def rows(self, table: pl.DataFrame, wrong: WrongCells) -> pl.DataFrame:
        """Read a table of text into records and their lines."""
        series = [table[LINE], *self._identity.read(table, wrong)]
        for position, column in self._columns.items():
            texts = table[position]
            if column.role is Role.UNKNOWN:
                column = self._columns[position] = _decided(column, texts)
            if column.role is Role.LABEL:
                series.append(cells.labels(texts).alias(column.name))
            elif column.role is Role.METRIC:
                values, unreadable = cells.numbers(texts, column)
                wrong.add_texts(table, position, column.source, unreadable)
                series.append(values.alias(column.name))
        return wrong.kept(pl.DataFrame(series))

    def records(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Every row is a record."""
        return each_row_a_record(rows)


_VALUES: Final = (Role.METRIC, Role.LABEL, Role.UNKNOWN)


def _decided(column: Column, texts: pl.Series) -> Column:
    """Say what a column of unknown name is once it has values: a metric if all of them are numbers.

    Switches (``Enabled``, ``Yes``) are labels. A column without any value stays unknown.
    """
    distinct = cells.labels(texts).drop_nulls().unique()
    if not distinct.len():
        return column
    numeric = all(_NUMBER_NOT_ID.fullmatch(text) for text in distinct)
    return replace(column, role=Role.METRIC if numeric else Role.LABEL)
