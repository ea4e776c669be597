"""How long answers take: the middle and the slowest hundredth of many."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from benchmarks.queue.report import Number

_Each = TypeVar("_Each")


def times_ms(ask: Callable[[_Each], object], of: Iterable[_Each]) -> list[float]:
    """Ask for each; how long each answer took, in milliseconds."""
    took = []
    for each in of:
        begun = time.perf_counter()
        ask(each)
        took.append((time.perf_counter() - begun) * 1e3)
    return took


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent do not exceed; of few values, the largest."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def p50_p99(name: str, values: Sequence[float]) -> dict[str, Number]:
    """Two cells of a table."""
    return {
        f"{name} p50 ms".strip(): Number([percentile(values, 50)]),
        f"{name} p99 ms".strip(): Number([percentile(values, 99)]),
    }
