"""Whatever several collectors hold between them, asking all is as asking one that holds everything."""

from __future__ import annotations

import asyncio
import math
import os
import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from telemetry.model import Record
from telemetry.query.fanout import Collectors
from telemetry.v1 import query_pb2 as pb
from tests.unit.query.collectors import between, fan_out, record

ROUNDS = int(os.environ.get("TELEMETRY_TEST_ROUNDS", "1"))
GPUS = ["GPU-a", "GPU-b", "GPU-c", "h/0", "é/😀"]
METRICS = ["temperature", "power_draw", "x"]
AGGREGATIONS = [value for value in pb.Aggregation.values() if value]


def scattered(rng: random.Random, collectors: int) -> tuple[list[list[Record]], list[list[list[Record]]]]:
    """Everything in batches, and the same divided.

    A GPU moves from collector to collector, and what it sent last before that may be on both. When it moved to one that
    had nothing of it, it may afterwards send another value for what both hold.
    """
    whole: list[list[Record]] = []
    parts: list[list[list[Record]]] = [[] for _ in range(collectors)]
    for gpu in GPUS:
        labels = {"host": rng.choice("xy"), "index": str(rng.randrange(4))}
        second, owner = rng.randrange(50), rng.randrange(collectors)
        fresh, corrected = set(range(collectors)) - {owner}, False
        for _ in range(rng.randrange(1, 5)):
            if rng.random() < 0.3:
                labels = {**labels, "pod": rng.choice("pq")}
            batch = []
            for _ in range(rng.randrange(1, 40)):
                names = rng.sample(METRICS, rng.randrange(1, len(METRICS) + 1))
                batch.append(record(gpu, second, {name: float(rng.randrange(100)) for name in names}, **labels))
                second += rng.choice([1, 1, 1, 7, 30])
            whole.append(batch)
            parts[owner].append(batch)
            if rng.random() < 0.7:
                # Who comes back after a correction would be taken to know it.
                successor = rng.choice(sorted(fresh) or [owner]) if corrected else rng.randrange(collectors)
                if successor != owner:
                    tail = batch[rng.randrange(len(batch)) :]
                    parts[successor].append(tail)
                    if successor in fresh and rng.random() < 0.5:
                        corrected = True
                        newest = record(gpu, second, {"power_draw": 1000.0}, **labels)
                        instant = rng.choice([rng.choice(tail), tail[-1]]).timestamp
                        again = [Record(instant, gpu, {"x": 1001.0, "temperature": 1002.0}, labels), newest]
                        second += 1
                        whole.append(again)
                        parts[successor].append(again)
                owner = successor
                fresh.discard(owner)
    return whole, parts


def plain(value: Any) -> Any:
    """What can be compared: NaN equal to itself, sums as near as another order of adding leaves them."""
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 9)
    return value


def series(answer: pb.QuerySeriesResponse) -> list[Any]:
    assert not answer.completeness.partial, answer.completeness
    return [
        list(answer.timestamps_us),
        answer.step.ToMicroseconds(),
        [
            (each.gpu, dict(each.group), {c.metric: [plain(v) for v in c.values] for c in each.columns})
            for each in answer.series
        ],
    ]


def selector(rng: random.Random) -> pb.GpuSelector:
    return rng.choice(
        [
            pb.GpuSelector(),
            pb.GpuSelector(gpus=rng.sample([*GPUS, "nobody"], 2)),
            pb.GpuSelector(hosts=["x"]),
            pb.GpuSelector(labels={"pod": "p"}),
            pb.GpuSelector(hosts=["y"], labels={"pod": "q"}),
        ]
    )


async def compare(rng: random.Random, one: Collectors, several: Collectors) -> None:
    """Ask both the same, in many ways."""
    pages: list[list[Any]] = [[], []]
    for found, collectors in zip(pages, (one, several), strict=True):
        request = pb.ListGpusRequest(page_size=2)
        while True:
            answer = await collectors.list_gpus(request)
            found.append((list(answer.gpus), answer.total))
            request.page_token = answer.next_page_token
            if not request.page_token:
                break
    assert pages[0] == pages[1]
    for _ in range(4):
        chosen = selector(rng)
        listing = pb.ListGpusRequest(selector=chosen, gpu_prefix=rng.choice(["", "GPU-", "h/"]))
        left, right = await asyncio.gather(one.list_gpus(listing), several.list_gpus(listing))
        assert (list(left.gpus), left.total) == (list(right.gpus), right.total)
        wanted = pb.GetLatestRequest(selector=chosen, metrics=rng.choice([[], ["x"], ["power_draw", "nothing"]]))
        left_latest, right_latest = await asyncio.gather(one.get_latest(wanted), several.get_latest(wanted))
        assert latest(left_latest) == latest(right_latest)
        start = rng.randrange(0, 900)
        records = pb.StreamRecordsRequest(
            selector=chosen,
            range=rng.choice([pb.TimeRange(), between(start, start + 300)]),
            limit=rng.choice([0, 0, 7]),
            order=rng.choice([0, 1, 2]),  # type: ignore[arg-type]
            metrics=rng.choice([[], ["x"]]),
        )
        (left_records, _), (right_records, completeness) = await asyncio.gather(
            one.records(records), several.records(records)
        )
        assert left_records == right_records
        assert not completeness.partial
        query = pb.QuerySeriesRequest(
            selector=chosen,
            metrics=rng.sample(METRICS, 2),
            range=between(start, start + rng.choice([60, 700])),
            aggregation=rng.choice(AGGREGATIONS),
        )
        if rng.random() < 0.8:
            query.step.FromSeconds(rng.choice([1, 10, 60]))
        if rng.random() < 0.5:
            query.grouping.CopyFrom(
                pb.Grouping(by=rng.choice([[], ["host"], ["pod", "host"]]), aggregation=rng.choice(AGGREGATIONS))
            )
        left_series, right_series = await asyncio.gather(one.query_series(query), several.query_series(query))
        assert series(left_series) == series(right_series), query
    left_hosts, right_hosts = await asyncio.gather(*(c.list_hosts(pb.ListHostsRequest()) for c in (one, several)))
    assert list(left_hosts.hosts) == list(right_hosts.hosts)


def latest(answer: pb.GetLatestResponse) -> Any:
    columns = {c.metric: [plain(value) for value in c.values] for c in answer.columns}
    # One collector leaves out metrics that no GPU has; where others have none of the chosen, there is no column either.
    return list(answer.gpus), list(answer.timestamps_us), columns


@pytest.mark.parametrize("seed", range(6 * ROUNDS))
async def test_several_collectors_answer_as_one_that_holds_everything(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    whole, parts = scattered(rng, rng.randrange(2, 4))
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(fan_out(tmp_path / "one", whole))
        several = await stack.enter_async_context(fan_out(tmp_path / "several", *parts))
        for _ in range(3):
            await compare(rng, one, several)
