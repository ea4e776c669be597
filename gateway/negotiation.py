"""What a client would rather have, of what there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.requests import Request

from gateway.places import Coding

CSV: Final = "text/csv"
_CODINGS: Final[Sequence[Coding]] = ("zstd", "gzip")


def wants_csv(request: Request) -> bool:
    """Whether the client would rather have CSV than JSON."""
    liked = _qualities(request.headers.get("accept", ""))
    return liked.get(CSV, 0.0) > liked.get("application/json", 0.0)


def best_coding(request: Request) -> Coding:
    """The smallest coding of those that the client likes best."""
    liked = _qualities(request.headers.get("accept-encoding", ""))
    best = max(_CODINGS, key=lambda coding: liked.get(coding, 0.0))
    return best if liked.get(best, 0.0) > 0.0 else ""


def _qualities(header: str) -> dict[str, float]:
    """What a header names, and how much each is liked, from 0 (not at all) to 1."""
    liked: dict[str, float] = {}
    for part in header.split(","):
        name, *parameters = (each.strip().lower() for each in part.split(";"))
        liked[name] = max(liked.get(name, 0.0), _quality(parameters))
    return liked


def _quality(parameters: Sequence[str]) -> float:
    for each in parameters:
        if each.startswith("q="):
            try:
                return float(each[2:])
            except ValueError:
                return 0.0
    return 1.0
