"""The QueryService: answers from the store, off the event loop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from math import nan
from time import perf_counter
from typing import Any, Final, TypeVar

import polars as pl
from google.protobuf.duration_pb2 import Duration

from telemetry.collector.counters import timestamp
from telemetry.collector.selection import aggregation_of, metrics_of, names_of, select, span_of, steps_of
from telemetry.model import GPU, TIMESTAMP
from telemetry.query.paging import page
from telemetry.runtime.status import InvalidArgumentError
from telemetry.storage.plan import Plan
from telemetry.storage.series import STEP, Aggregation, across, filled
from telemetry.storage.store import Gpu, Span, Store, StoreError
from telemetry.storage.values import Places
from telemetry.v1 import query_pb2, query_pb2_grpc

PIECE_RECORDS: Final = 1_000
"""Most records in one message of StreamRecords."""

VALUES_MAX: Final = 1_500_000
"""Most values in one answer of QuerySeries or GetLatest: what fits into one message."""

GROUPED_VALUES_MAX: Final = 6_000_000
"""Most values of GPUs that are put together into groups: they take 40 bytes each, for a moment."""

NAMED_MAX: Final = 1_000
"""Up to so many GPUs that are named are looked up one by one."""

NAMED_AT_ONCE_MAX: Final = 200
"""Up to so many GPUs that are named are answered at once: handing them to a thread takes a tenth longer."""

_THREADS: Final = 4
"""Queries that read at the same time."""

_Result = TypeVar("_Result")


class QueryService(query_pb2_grpc.QueryServiceServicer):
    """Answers from one store. What a store cannot read is left out, and the answer says so."""

    def __init__(self, store: Store, stats: Callable[[], query_pb2.CollectorStats]) -> None:
        """Answer from ``store``; ``stats`` counts what GetStats returns."""
        self._store = store
        self._stats = stats
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="query")

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def ListGpus(self, request: query_pb2.ListGpusRequest, context: Any) -> query_pb2.ListGpusResponse:  # noqa: N802
        if _names_few(request.selector):
            return self._list_gpus(request)
        return await self._off_loop(self._list_gpus, request)

    async def ListHosts(self, request: query_pb2.ListHostsRequest, context: Any) -> query_pb2.ListHostsResponse:  # noqa: N802
        return await self._off_loop(self._list_hosts, request)

    async def GetLatest(self, request: query_pb2.GetLatestRequest, context: Any) -> query_pb2.GetLatestResponse:  # noqa: N802
        if _names_few(request.selector):
            return self._get_latest(request)
        return await self._off_loop(self._get_latest, request)

    async def StreamRecords(  # noqa: N802
        self, request: query_pb2.StreamRecordsRequest, context: Any
    ) -> AsyncIterator[query_pb2.StreamRecordsResponse]:
        pieces = self._records(request)
        while (piece := await self._off_loop(next, pieces, None)) is not None:
            yield piece

    async def QuerySeries(self, request: query_pb2.QuerySeriesRequest, context: Any) -> query_pb2.QuerySeriesResponse:  # noqa: N802
        return await self._off_loop(self._query_series, request)

    async def GetStats(  # noqa: N802
        self, request: query_pb2.QueryServiceGetStatsRequest, context: Any
    ) -> query_pb2.QueryServiceGetStatsResponse:
        return query_pb2.QueryServiceGetStatsResponse(stats=self._stats())

    async def _off_loop(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def _gpus(self, selector: query_pb2.GpuSelector) -> Sequence[Gpu]:
        """GPUs by identity among which are all that a selector chooses: of a few named ones not the whole fleet."""
        if not 0 < len(selector.gpus) <= NAMED_MAX:
            return self._store.gpus()
        found = (self._store.find(name) for name in sorted(set(selector.gpus)))
        return [gpu for gpu in found if gpu is not None]

    def _list_gpus(self, request: query_pb2.ListGpusRequest) -> query_pb2.ListGpusResponse:
        chosen_by_selector = select(self._gpus(request.selector), request.selector)
        matching = [gpu for gpu in chosen_by_selector if gpu.gpu.startswith(request.gpu_prefix)]
        chosen, token = page(matching, lambda gpu: gpu.gpu, request.page_size, request.page_token, _weight)
        return query_pb2.ListGpusResponse(
            gpus=[_gpu_message(gpu) for gpu in chosen],
            next_page_token=token,
            total=len(matching),
            completeness=query_pb2.Completeness(),
        )

    def _list_hosts(self, request: query_pb2.ListHostsRequest) -> query_pb2.ListHostsResponse:
        hosts: dict[str, list[Gpu]] = {}
        for gpu in self._store.gpus():
            hosts.setdefault(gpu.labels.get("host", ""), []).append(gpu)
        chosen, token = page(sorted(hosts), lambda host: host, request.page_size, request.page_token, len)
        return query_pb2.ListHostsResponse(
            hosts=[
                query_pb2.Host(
                    host=host,
                    gpus=len(hosts[host]),
                    first_seen=timestamp(min(gpu.first_us for gpu in hosts[host])),
                    last_seen=timestamp(max(gpu.last_us for gpu in hosts[host])),
                )
                for host in chosen
            ],
            next_page_token=token,
            completeness=query_pb2.Completeness(),
        )

    def _get_latest(self, request: query_pb2.GetLatestRequest) -> query_pb2.GetLatestResponse:
        gpus = select(self._gpus(request.selector), request.selector)
        latest = [gpu.latest for gpu in gpus]
        names = list(dict.fromkeys(request.metrics)) or sorted(set().union(*latest))
        _check_size(len(gpus) * len(names), VALUES_MAX)
        numbers = _columns([(of.places, of.numbers) for of in latest], names, nan)
        columns = [
            query_pb2.MetricColumn(metric=name, values=values) for name, values in zip(names, numbers, strict=True)
        ]
        if request.with_timestamps:
            instants = _columns([(of.places, of.instants) for of in latest], names, 0)
            for column, times_us in zip(columns, instants, strict=True):
                column.timestamps_us.extend(times_us)
        return query_pb2.GetLatestResponse(
            gpus=[gpu.gpu for gpu in gpus],
            timestamps_us=[gpu.last_us for gpu in gpus],
            columns=columns,
            completeness=query_pb2.Completeness(),
        )

    def _records(self, request: query_pb2.StreamRecordsRequest) -> Iterator[query_pb2.StreamRecordsResponse]:
        gpus, span = select(self._gpus(request.selector), request.selector), span_of(request.range)
        if request.order not in query_pb2.RecordOrder.values():
            raise InvalidArgumentError(f"{request.order} is not an order", field="order")
        newest_first = request.order != query_pb2.RECORD_ORDER_OLDEST_FIRST
        completeness = query_pb2.Completeness()
        metrics = names_of(request.metrics) or None
        records = self._record_messages(gpus, span, metrics, newest_first, completeness)
        if request.limit:
            records = islice(records, min(request.limit, sys.maxsize))
        piece = list(islice(records, PIECE_RECORDS))
        while following := list(islice(records, PIECE_RECORDS)):
            yield query_pb2.StreamRecordsResponse(records=piece)
            piece = following
        yield query_pb2.StreamRecordsResponse(records=piece, completeness=completeness)

    def _record_messages(
        self,
        gpus: Sequence[Gpu],
        span: Span,
        metrics: Sequence[str] | None,
        newest_first: bool,
        completeness: query_pb2.Completeness,
    ) -> Iterator[query_pb2.Record]:
        for gpu in gpus:
            # However many are asked for, only those that it has cost anything.
            mine = None if metrics is None else [name for name in metrics if name in gpu.latest]
            if mine == []:
                continue
            plan = Plan()
            try:
                for frame in self._store.records(gpu.gpu, span, metrics=mine, newest_first=newest_first, plan=plan):
                    if mine is not None:
                        frame = frame.filter(pl.any_horizontal(pl.col(mine).is_not_null()))
                    yield from _messages(gpu.gpu, frame)
            except StoreError as error:
                plan.warn(f"GPU {gpu.gpu}: {error}")
            _take_over(completeness, plan)

    def _query_series(self, request: query_pb2.QuerySeriesRequest) -> query_pb2.QuerySeriesResponse:
        started = perf_counter()
        metrics, (span, steps) = metrics_of(request), steps_of(request)
        aggregation = aggregation_of(request.aggregation, "aggregation")
        gpus = select(self._gpus(request.selector), request.selector)
        grouping = aggregation_of(request.grouping.aggregation, "grouping.aggregation")
        groups: dict[str | tuple[str, ...], list[Gpu]] = {gpu.gpu: [gpu] for gpu in gpus}
        if request.HasField("grouping"):
            groups = _groups(gpus, request.grouping.by)
        _check_size(len(groups) * len(metrics) * steps.count, VALUES_MAX)
        if request.HasField("grouping"):
            _check_size(len(gpus) * len(metrics) * steps.count, GROUPED_VALUES_MAX, "draw on")
        response = query_pb2.QuerySeriesResponse(timestamps_us=steps.times_us, step=_duration(steps.width_us))
        plan = Plan()
        pieces = self._store.series([gpu.gpu for gpu in gpus], span, steps, metrics, aggregation, plan=plan)
        frames = _by_series(groups, pieces, grouping)
        nothing = pl.DataFrame(schema={STEP: pl.Int64(), **{str(place): pl.Float64() for place in range(len(metrics))}})
        for key, members in groups.items():
            known = {name for gpu in members for name in gpu.latest}
            has = [(str(place), name) for place, name in enumerate(metrics) if name in known]
            if isinstance(key, str):
                series = response.series.add(gpu=key)
            else:
                series = response.series.add(group=dict(zip(request.grouping.by, key, strict=True)))
            frame = frames.get(key, nothing)
            series.columns.extend(
                query_pb2.MetricColumn(metric=name, values=filled(frame, steps, place)) for place, name in has
            )
        _take_over(response.completeness, plan)
        if request.explain:
            steps_text = (
                f"{aggregation.value} of {len(gpus)} GPUs over {steps.count} steps of {steps.width_us / 1e6:g} s"
            )
            response.plan.extend([*plan.lines(), f"{steps_text} took {(perf_counter() - started) * 1e3:.1f} ms"])
        return response


def _names_few(selector: query_pb2.GpuSelector) -> bool:
    return 0 < len(selector.gpus) <= NAMED_AT_ONCE_MAX


def _by_series(
    groups: Mapping[str | tuple[str, ...], Sequence[Gpu]],
    pieces: Iterator[pl.DataFrame],
    grouping: Aggregation,
) -> Mapping[str | tuple[str, ...], pl.DataFrame]:
    """What :meth:`Store.series` yields, a frame for each group."""
    number_of = {gpu.gpu: number for number, members in enumerate(groups.values()) for gpu in members}
    keys = list(groups)
    group = pl.col(GPU).replace_strict(number_of, return_dtype=pl.Int64).alias(":group")
    found: dict[str | tuple[str, ...], list[pl.DataFrame]] = {}
    for piece in pieces:
        if len(keys) == 1:
            piece.drop_in_place(GPU)
            found.setdefault(keys[0], []).append(piece)
            continue
        parts = piece.with_columns(group).drop(GPU).partition_by(":group", as_dict=True, include_key=False)
        for (number,), part in parts.items():
            found.setdefault(keys[number], []).append(part)
    return {key: parts[0] if isinstance(key, str) else across(parts, grouping) for key, parts in found.items()}


def _groups(gpus: Sequence[Gpu], by: Sequence[str]) -> dict[str | tuple[str, ...], list[Gpu]]:
    groups: dict[str | tuple[str, ...], list[Gpu]] = {}
    for gpu in gpus:
        groups.setdefault(tuple(gpu.labels.get(name, "") for name in by), []).append(gpu)
    return dict(sorted(groups.items()))


def _messages(gpu: str, frame: pl.DataFrame) -> Iterator[query_pb2.Record]:
    times = frame.get_column(TIMESTAMP).dt.timestamp("us").to_list()
    for instant, metrics in zip(times, frame.drop(TIMESTAMP).iter_rows(named=True), strict=True):
        present = {name: value for name, value in metrics.items() if value is not None}
        yield query_pb2.Record(gpu=gpu, timestamp=timestamp(instant), metrics=present)


def _columns(
    rows: Sequence[tuple[Places, Sequence[Any]]], names: Sequence[str], nothing: object
) -> Sequence[Sequence[Any]]:
    """Rows of GPUs, whose metrics are at ``places``, as a column for each of ``names``."""
    # A GPU at a time, since what is known of one lies together in memory; and all in one list, since many small ones
    # would make Python look for garbage.
    values = [row[places[name]] if name in places else nothing for places, row in rows for name in names]
    return [values[place :: len(names)] for place in range(len(names))]


def _gpu_message(gpu: Gpu) -> query_pb2.Gpu:
    return query_pb2.Gpu(
        gpu=gpu.gpu,
        host=gpu.labels.get("host", ""),
        index=gpu.labels.get("index", ""),
        model=gpu.labels.get("model", ""),
        labels=gpu.labels,
        first_seen=timestamp(gpu.first_us),
        last_seen=timestamp(gpu.last_us),
        metrics=sorted(gpu.latest),
    )


def _weight(gpu: Gpu) -> int:
    """Bytes that a GPU takes in an answer, about."""
    labels = sum(len(name) + len(value) for name, value in gpu.labels.items())
    return 4 * (len(gpu.gpu) + labels) + sum(map(len, gpu.latest)) + 200


def _check_size(values: int, most: int, what: str = "hold") -> None:
    if values > most:
        raise InvalidArgumentError(
            f"the answer would {what} {values} values, more than {most}; ask for fewer GPUs, metrics or steps",
            field="selector",
        )


def _take_over(completeness: query_pb2.Completeness, plan: Plan) -> None:
    for warning in plan.warnings:
        completeness.partial = True
        if warning not in completeness.warnings:
            completeness.warnings.append(warning)


def _duration(width_us: int) -> Duration:
    return Duration(seconds=width_us // 1_000_000, nanos=width_us % 1_000_000 * 1000)
