"""`telemetry query`: what collectors answer, as a table, a chart, JSON or CSV."""

from __future__ import annotations

import csv
import enum
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isnan
from typing import Final

import click
from google.protobuf.timestamp_pb2 import Timestamp

from telemetry.console.collectors import Selection, tell_what_is_missing, time_range
from telemetry.console.plot import chart
from telemetry.console.session import Failure, notice, to_json
from telemetry.console.tables import instant, instant_of_us, number, plural, printable, table
from telemetry.query.fanout import Collectors
from telemetry.v1 import query_pb2

PAGE_SIZE: Final = 10_000
DEFAULT_SPAN_US: Final = 3_600_000_000
"""How far back a series goes unless said otherwise."""
TABLE_METRICS: Final = ("utilization", "temperature", "memory_used", "power_draw", "sm_clock")
"""What the table of newest values shows of GPUs that have many metrics, unless told which."""


class Form(enum.Enum):
    """In what form to answer."""

    TABLE = "table"
    PLOT = "plot"
    JSON = "json"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class SeriesWish:
    """How metrics over time are wanted.

    Attributes:
        step_us: the width of a step; ``None`` leaves it to the collector.
        aggregation: how samples of a step become one.
        group_by: labels by which GPUs become one series; empty means all of them, ``None`` that each stays apart.
        across: how the GPUs' values become one.
        explain: whether to say how the answer was found.
    """

    step_us: int | None = None
    aggregation: str = "avg"
    group_by: Sequence[str] | None = None
    across: str = "avg"
    explain: bool = False


async def show_gpus(collectors: Collectors, selection: Selection, form: Form) -> None:
    """Print GPUs by identity."""
    gpus, completeness = await _gpus(collectors, await selection.selector(collectors))
    _print(
        form,
        ["gpu", "host", "index", "model", "first_seen", "last_seen", "metrics"],
        [[g.gpu, g.host, g.index, g.model, _time(g.first_seen), _time(g.last_seen), len(g.metrics)] for g in gpus],
        lambda: {
            "gpus": [
                {
                    "gpu": gpu.gpu,
                    "host": gpu.host,
                    "index": gpu.index,
                    "model": gpu.model,
                    "labels": dict(gpu.labels),
                    "first_seen": _time(gpu.first_seen),
                    "last_seen": _time(gpu.last_seen),
                    "metrics": list(gpu.metrics),
                }
                for gpu in gpus
            ],
            **_completeness(completeness),
        },
        nothing="no GPU matches",
    )
    tell_what_is_missing(completeness)


async def show_hosts(collectors: Collectors, form: Form) -> None:
    """Print hosts by name."""
    hosts: list[query_pb2.Host] = []
    completeness = query_pb2.Completeness()
    request = query_pb2.ListHostsRequest(page_size=PAGE_SIZE)
    while True:
        page = await collectors.list_hosts(request)
        hosts += page.hosts
        completeness.MergeFrom(page.completeness)
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    columns = ["host", "gpus", "first_seen", "last_seen"]
    rows = [[host.host, host.gpus, _time(host.first_seen), _time(host.last_seen)] for host in hosts]
    document = {"hosts": [dict(zip(columns, row, strict=True)) for row in rows], **_completeness(completeness)}
    _print(form, columns, rows, lambda: document, nothing="there are no hosts yet")
    tell_what_is_missing(completeness)


async def show_latest(collectors: Collectors, selection: Selection, form: Form) -> None:
    """Print the newest value of each metric of each GPU."""
    selector = await selection.selector(collectors)
    answer = await collectors.get_latest(query_pb2.GetLatestRequest(selector=selector, metrics=selection.metrics))
    columns = {column.metric: list(column.values) for column in answer.columns}
    if form is Form.TABLE and not selection.metrics and len(columns) > len(TABLE_METRICS):
        shown = [name for name in TABLE_METRICS if name in columns] or list(columns)[: len(TABLE_METRICS)]
        notice(f"{plural(len(columns), 'metric')}, of which {len(shown)} are shown; --metric chooses, --json has all")
        columns = {name: columns[name] for name in shown}
    times = [_time_of_us(time_us) for time_us in answer.timestamps_us]
    rows = [
        [gpu, time, *(values[place] for values in columns.values())]
        for place, (gpu, time) in enumerate(zip(answer.gpus, times, strict=True))
    ]
    _print(
        form,
        ["gpu", "timestamp", *columns],
        rows,
        lambda: {
            "gpus": [
                {"gpu": gpu, "timestamp": time, "metrics": _present(zip(columns, values, strict=True))}
                for gpu, time, *values in rows
            ],
            **_completeness(answer.completeness),
        },
        nothing="no GPU matches",
    )
    tell_what_is_missing(answer.completeness)


async def show_records(
    collectors: Collectors, selection: Selection, form: Form, limit: int, *, oldest_first: bool
) -> None:
    """Print records; in JSON one a line, as they come."""
    end_us = selection.end_us
    request = query_pb2.StreamRecordsRequest(
        selector=await selection.selector(collectors),
        range=time_range(selection.start_before(_now_us() if end_us is None else end_us), end_us),
        limit=limit,
        order=query_pb2.RECORD_ORDER_OLDEST_FIRST if oldest_first else query_pb2.RECORD_ORDER_NEWEST_FIRST,
        metrics=selection.metrics,
    )
    completeness = query_pb2.Completeness()
    records: list[query_pb2.Record] = []
    async with aclosing(collectors.stream_records(request, patient=True)) as pieces:
        async for piece in pieces:
            completeness.MergeFrom(piece.completeness)
            if form is Form.JSON:
                for each in piece.records:
                    click.echo(
                        to_json({"gpu": each.gpu, "timestamp": _time(each.timestamp), "metrics": _sorted(each.metrics)})
                    )
            else:
                records += piece.records
    if form is not Form.JSON:
        names = list(selection.metrics) or sorted({name for record in records for name in record.metrics})
        rows = [
            [record.gpu, _time(record.timestamp), *(record.metrics.get(name) for name in names)] for record in records
        ]
        _print(form, ["gpu", "timestamp", *names], rows, dict, nothing="no record matches")
    if len(records) == limit:
        notice(f"the first {plural(limit, 'record')}; --limit gives more")
    tell_what_is_missing(completeness)


async def show_series(collectors: Collectors, selection: Selection, form: Form, wish: SeriesWish) -> None:
    """Print metrics over time.

    Raises:
        Failure: if there is nothing that matches.
    """
    selector = await selection.selector(collectors)
    start_us, end_us, newest_us = await _span(collectors, selection, selector)
    request = query_pb2.QuerySeriesRequest(
        selector=selector,
        metrics=selection.metrics,
        range=time_range(start_us, end_us),
        aggregation=_aggregation(wish.aggregation),
        explain=wish.explain,
    )
    if wish.step_us is not None:
        request.step.FromMicroseconds(wish.step_us)
    if wish.group_by is not None:
        request.grouping.CopyFrom(query_pb2.Grouping(by=wish.group_by, aggregation=_aggregation(wish.across)))
    answer = await collectors.query_series(request)
    if form is Form.PLOT:
        _plot(answer, selection.metrics)
    else:
        _print_series(answer, selection.metrics, list(wish.group_by or ()) if wish.group_by is not None else None, form)
    if not any(not isnan(value) for each in answer.series for column in each.columns for value in column.values):
        newest = f"; the newest record of these GPUs is of {_time_of_us(newest_us)}" if newest_us else ""
        notice(f"there are no samples from {_time_of_us(start_us)} to {_time_of_us(end_us)}{newest}")
    for line in answer.plan:
        notice(line)
    tell_what_is_missing(answer.completeness)


async def _span(collectors: Collectors, selection: Selection, selector: query_pb2.GpuSelector) -> tuple[int, int, int]:
    """Where a series begins and ends, and when the newest record was. It ends with that one if nothing is said."""
    gpus, _ = await _gpus(collectors, selector)
    if not gpus:
        raise Failure("no GPU matches")
    newest_us = max(gpu.last_seen.ToMicroseconds() for gpu in gpus)
    oldest_us = min(gpu.first_seen.ToMicroseconds() for gpu in gpus)
    end_us = selection.end_us
    if end_us is None:
        said = selection.start_us is not None or selection.last_us is not None
        end_us = max(_now_us(), newest_us + 1) if said else newest_us + 1
    start_us = selection.start_before(end_us)
    if start_us is None:
        # Not the empty hour before the first record, unless there is nothing else.
        start_us = max(end_us - DEFAULT_SPAN_US, min(oldest_us, end_us - 1))
    if start_us >= end_us:
        raise Failure("the range is empty: it begins after it ends")
    return max(0, start_us), end_us, newest_us


async def _gpus(
    collectors: Collectors, selector: query_pb2.GpuSelector
) -> tuple[list[query_pb2.Gpu], query_pb2.Completeness]:
    gpus: list[query_pb2.Gpu] = []
    completeness = query_pb2.Completeness()
    request = query_pb2.ListGpusRequest(selector=selector, page_size=PAGE_SIZE)
    while True:
        page = await collectors.list_gpus(request)
        gpus += page.gpus
        completeness.MergeFrom(page.completeness)
        request.page_token = page.next_page_token
        if not request.page_token:
            return gpus, completeness


def _print_series(
    answer: query_pb2.QuerySeriesResponse, metrics: Sequence[str], group_by: Sequence[str] | None, form: Form
) -> None:
    keys = ["gpu"] if group_by is None else list(group_by)
    names = list(dict.fromkeys(metrics))
    times = [_time_of_us(time_us) for time_us in answer.timestamps_us]
    rows: list[list[object]] = []
    document: list[object] = []
    for each in answer.series:
        values = {column.metric: column.values for column in each.columns}
        key = [each.gpu] if group_by is None else [each.group.get(name, "") for name in group_by]
        document.append(
            dict(zip(keys, key, strict=True)) if group_by is None else {"group": dict(zip(keys, key, strict=True))}
        )
        document[-1] |= {"columns": {name: [_value(v) for v in column] for name, column in values.items()}}  # type: ignore[operator]
        for place, time in enumerate(times):
            cells = [values[name][place] if name in values else None for name in names]
            if any(cell is not None and not isnan(cell) for cell in cells):
                rows.append([*key, time, *cells])
    whole = {
        "step_s": answer.step.ToMicroseconds() / 1e6,
        "timestamps": times,
        "series": document,
        **_completeness(answer.completeness),
        **({"plan": list(answer.plan)} if answer.plan else {}),
    }
    _print(form, [*keys, "timestamp", *names], rows, lambda: whole, nothing="")


def _plot(answer: query_pb2.QuerySeriesResponse, metrics: Sequence[str]) -> None:
    for metric in dict.fromkeys(metrics):
        series = {
            _name(each): column.values for each in answer.series for column in each.columns if column.metric == metric
        }
        for line in chart(metric, answer.timestamps_us, series):
            click.echo(line)


def _name(series: query_pb2.Series) -> str:
    return series.gpu or ", ".join(f"{name}={value}" for name, value in sorted(series.group.items())) or "all"


def _print(
    form: Form,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    document: Callable[[], Mapping[str, object]],
    *,
    nothing: str,
) -> None:
    if form is Form.JSON:
        click.echo(to_json(document()))
    elif form is Form.CSV:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(value) for value in row] for row in rows)
        click.echo(text.getvalue(), nl=False)
    elif rows:
        numeric = [all(isinstance(row[place], int | float | None) for row in rows) for place in range(len(columns))]
        heads = [
            f">{printable(name)}" if right else printable(name) for name, right in zip(columns, numeric, strict=True)
        ]
        for line in table(heads, [[_shown(value) for value in row] for row in rows]):
            click.echo(line)
    elif nothing:
        notice(nothing)


def _shown(value: object) -> str:
    """A cell of a table."""
    if isinstance(value, float):
        return "-" if isnan(value) else f"{value:,.15g}" if value.is_integer() else f"{value:,.6g}"
    if isinstance(value, int):
        return number(value)
    return "-" if value in (None, "") else printable(str(value))


def _cell(value: object) -> str:
    """A cell of CSV: values in full."""
    if isinstance(value, float):
        return "" if isnan(value) else repr(value)
    return "" if value is None else str(value)


def _value(value: float) -> float | None:
    return None if isnan(value) else value


def _present(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    return {name: value for name, value in pairs if isinstance(value, float) and not isnan(value)}


def _sorted(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: metrics[name] for name in sorted(metrics)}


def _completeness(message: query_pb2.Completeness) -> dict[str, object]:
    return {"completeness": {"partial": message.partial, "warnings": list(message.warnings)}}


def _aggregation(name: str) -> query_pb2.Aggregation.ValueType:
    return query_pb2.Aggregation.Value(f"AGGREGATION_{name.upper()}")


def _time(timestamp: Timestamp) -> str:
    return instant(timestamp.ToDatetime(UTC))


def _time_of_us(time_us: int) -> str:
    return instant(instant_of_us(time_us))


def _now_us() -> int:
    return int(datetime.now(UTC).timestamp() * 1e6)
