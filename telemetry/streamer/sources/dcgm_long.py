"""Long files: one metric of one GPU a row, as DCGM exports have them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import Final

import polars as pl

from telemetry.model import CATALOGUE, GPU, TIMESTAMP, canonical_metric
from telemetry.streamer.sources import cells
from telemetry.streamer.sources.layout import FIRST_LINE, LAST_LINE, Identity, Placed, WrongCells
from telemetry.streamer.sources.table import LINE
from telemetry.tabular import Column, Role

METRIC_NAMES: Final = ("metric_name", "metric", "__name__")
VALUE_NAMES: Final = ("value",)
LABEL_TEXT_NAMES: Final = ("labels_raw",)
"""Names, in lower case, of the columns that make a file long."""

_METRIC: Final = "$metric"
_VALUE: Final = "$value"

_LABEL: Final = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"')
_INSTANCE: Final = r'GPU_I_ID="([^"]+)"'
_LABELS_KNOWN: Final = frozenset(
    {"__name__", "gpu", "gpu_id", "uuid", "device", "modelname", "hostname", "container", "pod", "namespace"}
)
"""What ``labels_raw`` repeats from other columns, in lower case."""
_LABELS_RENAMED: Final = {"DCGM_FI_DRIVER_VERSION": "driver_version"}


def is_long(headers: Sequence[str]) -> bool:
    """Whether a header is that of a long file."""
    names = {header.strip().lower() for header in headers}
    return bool(names & set(METRIC_NAMES)) and bool(names & set(VALUE_NAMES))


class LongLayout:
    """One metric of one GPU a row; rows of one GPU and time make one record."""

    keys: Sequence[str] = (GPU, _METRIC)

    def __init__(self, headers: Sequence[str], placed: Sequence[Placed], zone: tzinfo) -> None:
        """Read what the columns are.

        Raises:
            SourceError: if no column says which GPU.
        """
        by_name = {p.column.source.lower(): p.position for p in reversed(placed)}
        self._metric = next(by_name[name] for name in METRIC_NAMES if name in by_name)
        self._value = next(by_name[name] for name in VALUE_NAMES if name in by_name)
        self._label_text = next((by_name[name] for name in LABEL_TEXT_NAMES if name in by_name), None)
        special = {self._metric, self._value, self._label_text}
        self._identity = Identity(placed, headers, zone)
        self.has_time = self._identity.has_time
        self._labels = {
            p.position: p.column.name
            for p in placed
            if p.position not in special and p.column.role in (Role.LABEL, Role.UNKNOWN, Role.METRIC)
        }
        self._metrics: dict[str, Column] = {}
        self._parsed: dict[str, Mapping[str, str]] = {}

    def rows(self, table: pl.DataFrame, wrong: WrongCells) -> pl.DataFrame:
        """Read a table of text: time, GPU, metric, value and labels."""
        series = [table[LINE], *self._identity.read(table, wrong), *self._samples(table, wrong)]
        for position, name in self._labels.items():
            labels = cells.labels(table[position])
            if labels.null_count() < labels.len():
                series.append(labels.alias(name))
        rows = pl.DataFrame(series)
        if self._label_text is not None:
            rows = self._with_label_text(rows.with_columns(table[self._label_text].alias("$text")))
        return wrong.kept(rows)

    def records(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Merge the rows of each GPU and time, in the order in which they begin."""
        names = rows[_METRIC].unique(maintain_order=True)
        apart = (TIMESTAMP, GPU, LINE, _METRIC, _VALUE)
        return rows.group_by(TIMESTAMP, GPU, maintain_order=True).agg(
            *(pl.col(_VALUE).filter(pl.col(_METRIC) == name).first().alias(name) for name in names),
            *(pl.col(name).first(ignore_nulls=True) for name in rows.columns if name not in apart),
            pl.col(LINE).first().alias(FIRST_LINE),
            pl.col(LINE).last().alias(LAST_LINE),
        )

    def _samples(self, table: pl.DataFrame, wrong: WrongCells) -> tuple[pl.Series, pl.Series]:
        """The metric's name and value of each row."""
        sources = table[self._metric]
        distinct = sources.unique()
        columns = [self._metric_column(text) for text in distinct]
        number = sources.replace_strict(distinct, range(len(columns)), return_dtype=pl.UInt32)
        names = pl.Series([column.name for column in columns], dtype=pl.String).gather(number)
        texts = table[self._value]
        values, unreadable = cells.numbers(texts, _ANY)
        for place, column in enumerate(columns):
            if not column.name:
                without = table[LINE].filter(number == place)
                wrong.add(without, "metric_name", "the row does not say which metric it is about", row_lost=True)
            if column.scale != 1 or column.maximum is not None:
                # The few metrics with a factor or a maximum of their own.
                mine = (number == place).arg_true()
                own, _ = cells.numbers(texts.gather(mine), column)
                values = values.scatter(mine, own)
        wrong.add_texts(table, self._value, "value", unreadable, row_lost=True)
        return names.alias(_METRIC), values.alias(_VALUE)

    def _metric_column(self, text: str) -> Column:
        if text not in self._metrics:
            name, scale = canonical_metric(text)
            # A metric must not take the name of something else in a record.
            name = f"{name}_metric" if name in _RESERVED or name.startswith("$") else name
            self._metrics[text] = Column(text.strip(), "", Role.METRIC, name, scale)
        return self._metrics[text]

    def _with_label_text(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Read the label text of each GPU's first row in this block; and tell apart the instances of a divided GPU."""
        instance = pl.col("$text").str.extract(_INSTANCE)
        if rows["$text"].str.contains("GPU_I_ID=", literal=True).any():
            rows = rows.with_columns(pl.concat_str(GPU, pl.lit("/") + instance, ignore_nulls=True))
        first = rows.group_by(GPU, maintain_order=True).agg(pl.col("$text").first())
        labels = [self._parse(text or "") for text in first["$text"]]
        names = dict.fromkeys(name for found in labels for name in found if name not in rows.columns)
        extra = [pl.Series(name, [found.get(name) for found in labels], pl.String) for name in names]
        return rows.drop("$text").join(first.select(GPU).with_columns(extra), on=GPU, how="left", maintain_order="left")

    def _parse(self, text: str) -> Mapping[str, str]:
        found = self._parsed.get(text)
        if found is None:
            found = {
                _LABELS_RENAMED.get(name, name): value
                for name, value in _LABEL.findall(text)
                if name.lower() not in _LABELS_KNOWN and name not in CATALOGUE and value
            }
            if len(self._parsed) < LABEL_TEXTS_MAX:
                self._parsed[text] = found
        return found


_ANY: Final = Column("value", "", Role.METRIC, "value")
_RESERVED: Final = frozenset({TIMESTAMP, GPU, "uuid", "host", "index", "model"})

LABEL_TEXTS_MAX: Final = 10_000
"""How many label texts are remembered with what they say."""
