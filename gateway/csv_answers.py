"""Tables as `text/csv`, for those who ask for it with `Accept`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime
from math import isnan
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

CSV: Final = "text/csv"
VARY: Final = {"Vary": "Accept"}
"""For answers that are either JSON or CSV."""


def wants_csv(request: Request) -> bool:
    """Whether the client would rather have CSV than JSON."""
    quality = {"application/json": 0.0, CSV: 0.0}
    for part in request.headers.get("accept", "").split(","):
        kind, *parameters = (each.strip().lower() for each in part.split(";"))
        if kind in quality:
            quality[kind] = max(quality[kind], _quality(parameters))
    return quality[CSV] > quality["application/json"]


def csv_response(name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Response:
    """A table with a header line; what is missing is empty, times are RFC 3339.

    Args:
        name: of the file as which browsers save it, without its ending.
        header: the names of the columns.
        rows: a value a column.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"', **VARY}
    return Response(text.getvalue(), media_type=f"{CSV}; charset=utf-8", headers=headers)


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and isnan(value)):
        return ""
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value


def _quality(parameters: Sequence[str]) -> float:
    for each in parameters:
        if each.startswith("q="):
            try:
                return float(each[2:])
            except ValueError:
                return 0.0
    return 1.0
