"""Tables as `text/csv`, for those who ask for it with `Accept`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from math import isnan
from typing import Any, Final

from starlette.responses import Response, StreamingResponse

from gateway.negotiation import CSV

VARY: Final = {"Vary": "Accept"}
"""For answers that are either JSON or CSV."""
PIECE_ROWS: Final = 500
"""Rows that are put in text at a time: some milliseconds, in which others do not wait."""


def csv_response(name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Response:
    """A table with a header line; what is missing is empty, times are RFC 3339.

    Args:
        name: of the file as which browsers save it, without its ending.
        header: the names of the columns.
        rows: a value a column.
    """
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"', **VARY}
    return StreamingResponse(_pieces(header, rows), media_type=f"{CSV}; charset=utf-8", headers=headers)


def _pieces(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """The text, some rows at a time; each piece is made in a thread when the one before is on its way."""
    rest = iter(rows)
    piece: list[Sequence[Any]] = [header, *islice(rest, PIECE_ROWS)]
    while piece:
        text = io.StringIO()
        csv.writer(text, lineterminator="\r\n").writerows([_cell(value) for value in row] for row in piece)
        yield text.getvalue()
        piece = [*islice(rest, PIECE_ROWS)]


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and isnan(value)):
        return ""
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
