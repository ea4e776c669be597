"""Records as files for other programs and back, without loss: what `telemetry export` writes and `import` reads.

Tables (CSV, Parquet, Arrow) have a row a record and the columns ``timestamp``, ``gpu_identity``, then a column a metric
under its name, then a column a label under ``label:`` and its name. The identity's column tells such a table from any
other, in which names and texts have to be interpreted; here everything means just what it says. A metric whose name
would be mistaken for another column has ``metric:`` before it. A cell without a value is empty or null.

CSV has a line a row, so texts are written with escapes: ``\\\\``, ``\\n``, ``\\r``, ``\\0``, ``\\s`` for a blank at the
beginning, and ``\\e`` for a text that is empty, which is not the same as none.

JSON Lines have an object a line, as the hot tier has them, and the labels::

    {"gpu_id": "…", "labels": {…}, "metrics": {"temperature": 63.0}, "timestamp": "2025-07-18T20:42:34.000000Z"}
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable
from typing import Final

import polars as pl

from telemetry.model import TIMESTAMP

IDENTITY: Final = "gpu_identity"
"""The column that holds a record's GPU, and that marks a table as one of ours."""

_LABEL: Final = "label:"
_METRIC: Final = "metric:"
_ESCAPES: Final = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\0": "\\0"}
_UNESCAPED: Final = {"\\\\": "\\", "\\n": "\n", "\\r": "\r", "\\0": "\0", "\\s": " ", "\\e": ""}
_ESCAPE: Final = re.compile(r"\\[\\nr0se]")


class Kind(enum.Enum):
    """What a column holds."""

    TIME = "time"
    IDENTITY = "identity"
    METRIC = "metric"
    LABEL = "label"


def metric_column(metric: str) -> str:
    """The column of a metric."""
    is_taken = metric in (TIMESTAMP, IDENTITY) or metric.startswith((_LABEL, _METRIC))
    return _METRIC + metric if is_taken else metric


def label_column(label: str) -> str:
    """The column of a label."""
    return _LABEL + label


def kind_of(column: str) -> tuple[Kind, str]:
    """What a column holds, and the name of the metric or label."""
    if column == TIMESTAMP:
        return Kind.TIME, column
    if column == IDENTITY:
        return Kind.IDENTITY, column
    if column.startswith(_LABEL):
        return Kind.LABEL, column.removeprefix(_LABEL)
    return Kind.METRIC, column.removeprefix(_METRIC)


def is_exported(columns: Iterable[str]) -> bool:
    """Whether a table with these columns is one of ours."""
    return {TIMESTAMP, IDENTITY} <= set(columns)


def escaped(text: str) -> str:
    """A text as it is written into CSV."""
    for plain, written in _ESCAPES.items():
        text = text.replace(plain, written)
    return "\\e" if not text else "\\s" + text[1:] if text[0] == " " else text


def unescaped(text: str) -> str:
    """A text as it was before it was written into CSV; what is no escape of ours stands for itself."""
    return _ESCAPE.sub(lambda match: _UNESCAPED[match[0]], text) if "\\" in text else text


def escaped_texts(texts: pl.Series) -> pl.Series:
    """:func:`escaped` over a column."""
    return _changed(texts, escaped)


def unescaped_texts(texts: pl.Series) -> pl.Series:
    """:func:`unescaped` over a column of cells; an empty cell has no text."""
    return _changed(texts.replace([""], [None]), unescaped)


def _changed(texts: pl.Series, change: Callable[[str], str]) -> pl.Series:
    """Each distinct text is changed once; most need not be."""
    changes = {text: new for text in texts.unique().drop_nulls() if (new := change(text)) != text}
    return texts.replace(list(changes), list(changes.values())) if changes else texts
