"""Metrics over time from several collectors: what several of them hold is counted once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

import polars as pl

from telemetry.query.collector import CollectorClient
from telemetry.query.fleet import Holding
from telemetry.query.listing import SELECTED_MAX, fleet_of
from telemetry.query.members import Answers, ask, refused, together
from telemetry.query.records import merged
from telemetry.query.steps import Stretch, doubtful, frame_of_records, grouped, overlaid, steps_of
from telemetry.storage.series import Aggregation, Steps
from telemetry.v1 import query_pb2

VALUES_MAX: Final = 1_500_000
"""Most values in one answer of a collector, and in one of ours."""
GROUPED_VALUES_MAX: Final = 6_000_000
"""Most values that are put together into groups."""
RECORDS_MAX: Final = 500_000
"""Most records that are aggregated here for one query."""
STREAMS_MAX: Final = 8
"""GPUs whose records are read at the same time."""

_AGGREGATIONS: Final = {
    query_pb2.AGGREGATION_UNSPECIFIED: Aggregation.AVG,
    **{query_pb2.Aggregation.Value(f"AGGREGATION_{each.name}"): each for each in Aggregation},
}


class SeriesQuery:
    """One QuerySeries over several collectors."""

    def __init__(self, members: Sequence[CollectorClient], request: query_pb2.QuerySeriesRequest) -> None:
        """Answer ``request`` from ``members``."""
        self._members = members
        self._request = request
        self._metrics = list(dict.fromkeys(request.metrics))
        self._records_left = RECORDS_MAX
        self._plan: list[str] = []

    async def answer(self) -> query_pb2.QuerySeriesResponse:
        """Ask and put together.

        Raises:
            UpstreamError: if the request is wrong or asks for too much, or no collector answers.
        """
        probed, (fleet, listed) = await asyncio.gather(self._probe(), fleet_of(self._members, self._request.selector))
        steps = steps_of(probed)
        self._check_size(len(fleet), steps)
        answers = await self._series(fleet, steps)
        completeness = together(listed, answers.completeness())
        parts: dict[str, dict[str, query_pb2.Series]] = {}
        for collector, part in answers.given:
            for series in part.series:
                parts.setdefault(series.gpu, {})[collector.address] = series
        room = asyncio.Semaphore(STREAMS_MAX)
        series_of_gpus = await asyncio.gather(
            *(self._one(fleet[gpu], found, steps, completeness, room) for gpu, found in sorted(parts.items()))
        )
        result: Sequence[query_pb2.Series] = series_of_gpus
        if self._request.HasField("grouping"):
            grouping = self._request.grouping
            gpus = {gpu: holding.gpu for gpu, holding in fleet.items()}
            aggregation = _AGGREGATIONS[grouping.aggregation]
            result = await asyncio.to_thread(
                grouped, gpus, series_of_gpus, list(grouping.by), steps, self._metrics, aggregation
            )
        response = query_pb2.QuerySeriesResponse(
            timestamps_us=probed.timestamps_us, step=probed.step, series=result, completeness=completeness
        )
        if self._request.explain:
            for collector, part in answers.given:
                response.plan.extend(f"{collector.address}: {line}" for line in part.plan)
            response.plan.extend(self._plan)
        return response

    async def _probe(self) -> query_pb2.QuerySeriesResponse:
        """The steps, and a refusal of what is wrong: the request for a GPU that cannot be."""
        probe = query_pb2.QuerySeriesRequest()
        probe.CopyFrom(self._request)
        probe.selector.CopyFrom(query_pb2.GpuSelector(gpus=[""]))
        probe.explain = False
        answers = await ask(self._members, lambda member, deadline_s: member.query_series(probe, deadline_s))
        return answers.given[0][1]

    def _check_size(self, gpus: int, steps: Steps) -> None:
        values = gpus * len(self._metrics) * steps.count
        most = GROUPED_VALUES_MAX if self._request.HasField("grouping") else VALUES_MAX
        if values > most:
            raise refused(
                "selector",
                f"the query would draw on {values} values of {len(self._members)} collectors, more than {most}; "
                "ask for fewer GPUs, metrics or steps",
            )

    async def _series(self, fleet: dict[str, Holding], steps: Steps) -> Answers[query_pb2.QuerySeriesResponse]:
        """Each GPU's series from each collector that has any of it."""
        names: dict[str, list[str]] = {}
        for gpu, holding in fleet.items():
            for holder in holding.holders:
                names.setdefault(holder.collector.address, []).append(gpu)
        having = [member for member in self._members if member.address in names]
        if not having:
            return Answers([], [])
        most = max(1, min(SELECTED_MAX, VALUES_MAX // (len(self._metrics) * steps.count)))

        async def of_one(member: CollectorClient, deadline_s: float) -> query_pb2.QuerySeriesResponse:
            whole = query_pb2.QuerySeriesResponse()
            mine = names[member.address]
            for start in range(0, len(mine), most):
                wanted = query_pb2.QuerySeriesRequest(
                    selector=query_pb2.GpuSelector(gpus=mine[start : start + most]),
                    metrics=self._metrics,
                    range=self._request.range,
                    aggregation=self._request.aggregation,
                    explain=self._request.explain,
                )
                wanted.step.FromMicroseconds(steps.width_us)
                answer = await member.query_series(wanted, deadline_s)
                answer.ClearField("timestamps_us")
                whole.MergeFrom(answer)
            return whole

        return await ask(having, of_one)

    async def _one(
        self,
        holding: Holding,
        found: dict[str, query_pb2.Series],
        steps: Steps,
        completeness: query_pb2.Completeness,
        room: asyncio.Semaphore,
    ) -> query_pb2.Series:
        """A GPU's series: as it is if one collector has the GPU, else each record once."""
        holders = [holder for holder in holding.holders if holder.collector.address in found]
        if len(holders) == 1:
            return found[holders[0].collector.address]
        stretches = doubtful(holders, steps)
        collectors = [holder.collector for holder in holders]
        frames: list[pl.DataFrame] = []
        async with room:
            for stretch in stretches:
                frames += await self._records(holding, collectors, stretch, steps, completeness)
        aggregation = _AGGREGATIONS[self._request.aggregation]
        parts = [found[each.address] for each in collectors]
        series, undecided = await asyncio.to_thread(
            overlaid, parts, stretches, frames, steps, self._metrics, aggregation
        )
        if undecided:
            completeness.partial = True
            completeness.warnings.append(
                f"GPU {series.gpu}: {undecided} values are left out, since several collectors have them, the records "
                "are gone, and what is the same in both cannot be told"
            )
        if self._request.explain:
            rows = sum(frame.height for frame in frames)
            addresses = ", ".join(each.address for each in collectors)
            self._plan.append(f"GPU {series.gpu} is on {addresses}: {rows} records aggregated here")
        return series

    async def _records(
        self,
        holding: Holding,
        collectors: Sequence[CollectorClient],
        stretch: Stretch,
        steps: Steps,
        completeness: query_pb2.Completeness,
    ) -> list[pl.DataFrame]:
        time_range = self._request.range
        start_us, end_us = stretch.span_us(
            steps, time_range.start_time.ToMicroseconds(), time_range.end_time.ToMicroseconds()
        )
        wanted = query_pb2.StreamRecordsRequest(
            selector=query_pb2.GpuSelector(gpus=[holding.gpu.gpu]),
            limit=self._records_left + 1,
            order=query_pb2.RECORD_ORDER_OLDEST_FIRST,
            metrics=self._metrics,
        )
        wanted.range.start_time.FromMicroseconds(start_us)
        wanted.range.end_time.FromMicroseconds(end_us)
        frames = []
        stream = merged(
            collectors,
            wanted,
            fleet={holding.gpu.gpu: holding},
            newest_first=False,
            patient=False,
            completeness=completeness,
        )
        async with aclosing(stream) as runs:
            async for records in runs:
                self._records_left -= len(records)
                if self._records_left < 0:
                    raise refused(
                        "range",
                        f"GPU {holding.gpu.gpu} is on {len(collectors)} collectors; putting together more than "
                        f"{RECORDS_MAX} records is too much for one query: ask for a shorter range, or for fewer GPUs",
                    )
                frames.append(frame_of_records(records, self._metrics))
        return frames
