"""Which GPUs, when and how finely: requests of the QueryService, checked and put into the store's terms. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from telemetry.model import GPU, TIMESTAMP
from telemetry.runtime.status import InvalidArgumentError
from telemetry.storage.series import Aggregation, Steps
from telemetry.storage.store import Gpu, Span
from telemetry.v1 import query_pb2

GPUS_MAX: Final = 10_000
HOSTS_MAX: Final = 1_000
LABELS_MAX: Final = 20
METRICS_MAX: Final = 50
STEPS_MAX: Final = 11_000
STEP_US_MIN: Final = 1_000
STEP_US_MAX: Final = 366 * 86_400_000_000
STEPS_WANTED: Final = 300
"""About so many steps, when the request leaves their width open."""

_NICE_US: Final[tuple[int, ...]] = (
    *(factor * 10**power for power in range(3, 6) for factor in (1, 2, 5)),
    *(seconds * 1_000_000 for seconds in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)),
    *(seconds * 1_000_000 for seconds in (14_400, 21_600, 43_200, 86_400)),
)

_AGGREGATIONS: Final[Mapping[int, Aggregation]] = {
    0: Aggregation.AVG,
    **{query_pb2.Aggregation.Value(f"AGGREGATION_{each.name}"): each for each in Aggregation},
}


def select(gpus: Iterable[Gpu], selector: query_pb2.GpuSelector) -> list[Gpu]:
    """The GPUs that a selector chooses, in their order.

    Raises:
        InvalidArgumentError: if the selector is larger than the contract allows.
    """
    for name, size, most in (
        ("gpus", len(selector.gpus), GPUS_MAX),
        ("hosts", len(selector.hosts), HOSTS_MAX),
        ("labels", len(selector.labels), LABELS_MAX),
    ):
        if size > most:
            raise InvalidArgumentError(f"{size} {name} are too many; at most {most}", field=f"selector.{name}")
    names, hosts, labels = set(selector.gpus), set(selector.hosts), dict(selector.labels)
    if not (names or hosts or labels):
        return list(gpus)
    return [
        gpu
        for gpu in gpus
        if (not names or gpu.gpu in names)
        and (not hosts or gpu.labels.get("host", "") in hosts)
        and all(gpu.labels.get(name) == value for name, value in labels.items())
    ]


def span_of(time_range: query_pb2.TimeRange) -> Span:
    """A range of time.

    Raises:
        InvalidArgumentError: if it is upside down or not a time.
    """
    start = _micros(time_range.start_time, "start_time") if time_range.HasField("start_time") else None
    end = _micros(time_range.end_time, "end_time") if time_range.HasField("end_time") else None
    if start is not None and end is not None and start > end:
        raise InvalidArgumentError("start_time is after end_time", field="range.start_time")
    return Span(start, end)


def steps_of(request: query_pb2.QuerySeriesRequest) -> tuple[Span, Steps]:
    """The range and steps of a query.

    Raises:
        InvalidArgumentError: if an end is missing, the range is empty, or the steps are too narrow or too many.
    """
    span = span_of(request.range)
    if span.start_us is None or span.end_us is None:
        missing = "start_time" if span.start_us is None else "end_time"
        raise InvalidArgumentError(f"range.{missing} must be set", field=f"range.{missing}")
    if span.start_us == span.end_us:
        raise InvalidArgumentError("the range is empty: end_time must be after start_time", field="range.end_time")
    if request.HasField("step"):
        width = _width(request.step)
    else:
        width = _nice_width((span.end_us - span.start_us) // STEPS_WANTED)
    steps = Steps.over(span.start_us, span.end_us, width)
    if steps.count > STEPS_MAX:
        raise InvalidArgumentError(f"{steps.count} steps are too many; at most {STEPS_MAX}", field="step")
    return span, steps


def names_of(metrics: Iterable[str]) -> list[str]:
    """Names of metrics, each once.

    Raises:
        InvalidArgumentError: if one names what every record has, which no metric can be called.
    """
    names = list(dict.fromkeys(metrics))
    for name in (TIMESTAMP, GPU):
        if name in names:
            raise InvalidArgumentError(f"{name!r} is not the name of a metric", field="metrics")
    return names


def metrics_of(request: query_pb2.QuerySeriesRequest) -> list[str]:
    """The metrics of a query, each once.

    Raises:
        InvalidArgumentError: if there are none or too many, or one can be none.
    """
    metrics = names_of(request.metrics)
    if not 1 <= len(metrics) <= METRICS_MAX:
        raise InvalidArgumentError(f"{len(metrics)} metrics; it must be 1 to {METRICS_MAX}", field="metrics")
    return metrics


def aggregation_of(value: int, field: str) -> Aggregation:
    """An aggregation.

    Raises:
        InvalidArgumentError: if there is no such.
    """
    if value not in _AGGREGATIONS:
        raise InvalidArgumentError(f"{value} is not an aggregation", field=field)
    return _AGGREGATIONS[value]


def _micros(time: Timestamp, name: str) -> int:
    if not 0 <= time.nanos < 1_000_000_000 or not -62_135_596_800 <= time.seconds < 253_402_300_800:
        raise InvalidArgumentError(f"range.{name} is not a time", field=f"range.{name}")
    return time.ToMicroseconds()


def _width(step: Duration) -> int:
    width = step.ToMicroseconds()
    if not STEP_US_MIN <= width <= STEP_US_MAX:
        raise InvalidArgumentError("the step must be at least 1 ms and at most 366 days", field="step")
    return width


def _nice_width(least_us: int) -> int:
    for width in _NICE_US:
        if width >= least_us:
            return width
    day = _NICE_US[-1]
    return -(-least_us // day) * day
