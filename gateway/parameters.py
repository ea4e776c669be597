"""Parameters that routes share: how each is read, bounded and documented."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final

from fastapi import Path, Query
from pydantic import AfterValidator, BeforeValidator, StringConstraints, WithJsonSchema

from gateway.shapes import EPOCH

PAGE_SIZE_MAX: Final = 10_000
PAGE_SIZE_DEFAULT: Final = 100
SMALL_PAGE_SIZE_MAX: Final = 1_000
METRICS_MAX: Final = 50
NAMES_MAX: Final = 1_000
"""The most GPUs or hosts in one filter."""
STEP_US_MIN: Final = 1_000
STEP_US_MAX: Final = 366 * 86_400_000_000

INSTANT_US_MIN: Final = (datetime.min.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
INSTANT_US_MAX: Final = (datetime.max.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
_STEP: Final = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d|)")
_UNIT_US: Final = {"ms": 1_000, "s": 1_000_000, "": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}


class Aggregation(StrEnum):
    """How the samples within a step become one."""

    AVG = "avg"
    MIN = "min"
    MAX = "max"
    SUM = "sum"
    COUNT = "count"
    LAST = "last"
    P50 = "p50"
    P95 = "p95"
    P99 = "p99"


class Order(StrEnum):
    """The order of records."""

    NEWEST = "newest"
    OLDEST = "oldest"


def parse_instant(value: Any) -> int:
    """Microseconds since 1970 of an RFC 3339 time or a number of seconds.

    Raises:
        ValueError: if it is neither, or outside the years 1 to 9999.
    """
    text = str(value).strip()
    try:
        seconds = float(text)
    except ValueError:
        return _parse_rfc3339(text, " nor a number of seconds since 1970")
    if not math.isfinite(seconds) or not INSTANT_US_MIN <= seconds * 1e6 <= INSTANT_US_MAX:
        raise ValueError(f"{text!r} is not a time between the years 1 and 9999")
    return round(seconds * 1e6)


def parse_rfc3339(value: Any) -> int:
    """Microseconds since 1970 of an RFC 3339 time.

    Raises:
        ValueError: if it is none.
    """
    return _parse_rfc3339(value if isinstance(value, str) else repr(value))


def _parse_rfc3339(text: str, nor: str = "") -> int:
    # A plus sign that a client forgot to encode arrives as a space.
    text = re.sub(r" (\d\d:\d\d)$", r"+\1", text)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        is_not = "is neither" if nor else "is not"
        raise ValueError(f"{text!r} {is_not} an RFC 3339 time such as 2025-07-18T20:42:34Z{nor}") from None
    if instant.tzinfo is None:
        raise ValueError(f"{text!r} lacks a time zone; write Z for UTC")
    instant_us = (instant - EPOCH) // timedelta(microseconds=1)
    if not INSTANT_US_MIN <= instant_us <= INSTANT_US_MAX:  # in UTC
        raise ValueError(f"{text!r} is not a time between the years 1 and 9999")
    return instant_us


def parse_step(value: Any) -> int:
    """Microseconds of a step such as ``10s``, ``1m`` or ``500ms``; a plain number is seconds.

    Raises:
        ValueError: if it is no such thing, or shorter than 1 ms or longer than a year.
    """
    match = _STEP.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(f"{value!r} is not a length of time such as 500ms, 10s, 1m, 1h or 1d")
    step_us = round(float(match[1]) * _UNIT_US[match[2]])
    if not STEP_US_MIN <= step_us <= STEP_US_MAX:
        raise ValueError(f"{value!r} is not between 1ms and 366d")
    return step_us


def _at_most_page_size_max(size: int) -> int:
    return min(size, PAGE_SIZE_MAX)


_Name = Annotated[str, StringConstraints(min_length=1, max_length=512)]
_INSTANT_SCHEMA: Final = {"type": "string", "examples": ["2025-07-18T20:42:34Z", "1752871354.5"]}

PageSize = Annotated[
    int,
    AfterValidator(_at_most_page_size_max),
    Query(ge=0, description="The most entries to return; 0 means 100, above 10,000 means 10,000."),
]
SmallPageSize = Annotated[
    int,
    AfterValidator(lambda size: min(size, SMALL_PAGE_SIZE_MAX)),
    Query(ge=0, description="The most entries to return; 0 means 100, above 1,000 means 1,000."),
]
Limit = Annotated[
    int,
    AfterValidator(_at_most_page_size_max),
    Query(ge=0, description="The most records to return; 0 means 100, above 10,000 means 10,000."),
]
PageToken = Annotated[
    str, Query(max_length=4096, description="The `next_page_token` of the page before; empty for the first page.")
]
Instant = Annotated[int, BeforeValidator(parse_instant), WithJsonSchema(_INSTANT_SCHEMA)]
"""Microseconds since 1970."""
StartTime = Annotated[Instant | None, Query(description="From this time on: RFC 3339, or seconds since 1970.")]
EndTime = Annotated[Instant | None, Query(description="Before this time: RFC 3339, or seconds since 1970.")]
Step = Annotated[
    Annotated[int, BeforeValidator(parse_step), WithJsonSchema({"type": "string", "examples": ["10s", "1m", "500ms"]})]
    | None,
    Query(description="The width of a step, at least 1 ms: `500ms`, `10s`, `1m`, `1h`, `1d`. Unset: about 300 steps."),
]
Metrics = Annotated[
    list[_Name], Query(max_length=METRICS_MAX, description="Only these metrics, by canonical name; repeat for more.")
]
RequiredMetrics = Annotated[
    list[_Name],
    Query(min_length=1, max_length=METRICS_MAX, description="A metric, by canonical name; repeat for more, up to 50."),
]
Gpus = Annotated[
    list[_Name],
    Query(
        max_length=NAMES_MAX,
        description="Only these GPUs, named as in the path of `gpus/{gpu}`; repeat for more.",
    ),
]
Hosts = Annotated[list[_Name], Query(max_length=NAMES_MAX, description="Only GPUs of these hosts; repeat for more.")]
ChosenAggregation = Annotated[
    Aggregation,
    Query(
        description="How the samples within a step become one: `avg`, `min`, `max`, `sum`, `count`, `last`, "
        "`p50`, `p95` or `p99`."
    ),
]
ChosenOrder = Annotated[Order, Query(description="Which records come first: the `newest` or the `oldest`.")]
GpuName = Annotated[
    str,
    Path(
        max_length=512,
        description="The identity, an unambiguous prefix of it, or `host%2Findex`.",
    ),
]
HostName = Annotated[str, Path(max_length=512, description="The host's name.")]
