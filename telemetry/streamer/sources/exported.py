"""CSV as `telemetry export` writes it: every cell means just what it says."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from telemetry.exchange import Kind, kind_of, unescaped, unescaped_texts
from telemetry.model import GPU, TIMESTAMP
from telemetry.streamer.sources import cells
from telemetry.streamer.sources.kinds import Kinds
from telemetry.streamer.sources.layout import WrongCells, each_row_a_record
from telemetry.streamer.sources.table import LINE


class ExportedLayout:
    """A row a record, under the names of :mod:`telemetry.exchange`."""

    keys: Sequence[str] = ()
    """Rows that repeat a GPU and a time are parts of one record."""
    has_time = True

    def __init__(self, headers: Sequence[str], positions: Sequence[str]) -> None:
        """Read what the columns are; of several with one name the first counts."""
        self._headers = dict(zip(positions, headers, strict=True))
        found = [(position, *kind_of(unescaped(header))) for position, header in self._headers.items()]
        self._time = next(position for position, kind, _ in found if kind is Kind.TIME)
        self._gpu = next(position for position, kind, _ in found if kind is Kind.IDENTITY)
        kinds = Kinds()
        self._columns: dict[str, tuple[Kind, str]] = {}
        self._left_out: dict[str, str] = {}
        names: set[str] = set()
        for position, kind, name in found:
            if kind in (Kind.METRIC, Kind.LABEL):
                refused = kinds.refuse([name], are_metrics=kind is Kind.METRIC)
                if not refused and name in names:
                    refused = {name: f"{kind.value} {name!r} is left out: the file has two columns of that name"}
                self._left_out.update((self._headers[position], reason) for reason in refused.values())
                if not refused:
                    names.add(name)
                    self._columns[position] = (kind, name)

    def rows(self, table: pl.DataFrame, wrong: WrongCells) -> pl.DataFrame:
        """Read a table of text into records and their lines."""
        times, unreadable = cells.times(table[self._time])
        wrong.add_texts(table, self._time, TIMESTAMP, unreadable, row_lost=True)
        without = table[LINE].filter(times.is_null() & ~table[self._time].is_in(list(unreadable)))
        wrong.add(without, TIMESTAMP, "the row has no time", row_lost=True)
        gpus = unescaped_texts(table[self._gpu])
        wrong.add(table[LINE].filter(gpus.is_null()), self._headers[self._gpu], "the row names no GPU", row_lost=True)
        for header, reason in self._left_out.items():
            wrong.add(table[LINE].head(1), header, reason)
        self._left_out.clear()
        series = [table[LINE], times.alias(TIMESTAMP), gpus.alias(GPU)]
        for position, (kind, name) in self._columns.items():
            if kind is Kind.LABEL:
                series.append(unescaped_texts(table[position]).alias(name))
            else:
                series.append(self._numbers(table, position, wrong).alias(name))
        return wrong.kept(pl.DataFrame(series))

    def records(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Every row is a record."""
        return each_row_a_record(rows)

    def _numbers(self, table: pl.DataFrame, position: str, wrong: WrongCells) -> pl.Series:
        texts = table[position]
        values = texts.cast(pl.Float64, strict=False)
        unread = texts.filter(values.is_null() & (texts != "")).unique()
        header = self._headers[position]
        wrong.add_texts(table, position, header, {text: f"{text[:100]!r} is not a number" for text in unread})
        # NaN and the infinities are not values.
        return values.to_frame().select(pl.when(pl.first().is_finite()).then(pl.first())).to_series()
