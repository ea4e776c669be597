"""The newest value of one metric of 10,000 GPUs, in one answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from benchmarks.queue.programs import MissingError
from benchmarks.queue.report import Figure, Row
from benchmarks.store.dataset import TEN, Dataset
from benchmarks.store.pipeline import messages, publish, running
from benchmarks.store.report import Asked, Part, plain, ratio
from benchmarks.store.servers import Server, prometheus, victoria_metrics
from benchmarks.store.size import Size
from benchmarks.store.timing import p50_p99, percentile, times_ms
from telemetry.v1 import query_pb2

GPUS = 10_000
INSTANTS = 3
METRIC = "utilization"
SHOWN_S_MAX = 30.0


def fleet(size: Size) -> Part:
    """Fill each store with a few instants of a large fleet, and ask for all of it."""
    dataset = Dataset(GPUS, INSTANTS * 10 / 3600, TEN)
    count = size.of(40, 200)
    figure = Figure("fleet", f"{GPUS:,} GPUs × {len(dataset.metrics)} metrics: the newest {METRIC} of all")
    ours = _ours(size, dataset, count)
    figure.rows.append(Row("telemetry", p50_p99("", ours), "GetLatest over gRPC, read by a client in Python"))
    best = float("inf")
    for make in (prometheus, victoria_metrics):
        try:
            server = make(size.folder)
        except MissingError as error:
            figure.rows.append(Row(make.__name__, {}, str(error)))
            continue
        took = _theirs(server, dataset, count)
        best = min(best, percentile(took, 99))
        figure.rows.append(Row(server.name, p50_p99("", took), "an instant query over HTTP, the JSON not read"))
    asked = Asked("fleet of 10,000 GPUs, latest of one metric, p99", "ms", percentile(ours, 99), 100, 20, "less")
    if best < float("inf"):
        beside = f"{ratio(percentile(ours, 99), best)} the better peer's {plain(best)} ms"
        asked = Asked(asked.what, asked.unit, asked.value, asked.floor, asked.aim, asked.better, beside)
    return Part(figure, [asked])


def _ours(size: Size, dataset: Dataset, count: int) -> list[float]:
    folder = size.folder / "fleet"
    folder.mkdir()
    with running(folder) as pipeline:
        publish(pipeline.queue_address, (message for slab in dataset.slabs() for message in messages(slab.frame)))
        pipeline.wait_stored(dataset.samples)
        stub = pipeline.stub()
        request = query_pb2.GetLatestRequest(metrics=[METRIC])

        def ask(_: int) -> None:
            answer = stub.GetLatest(request)
            assert len(answer.columns[0].values) == GPUS, f"{len(answer.gpus)} GPUs in the answer"

        return _warm(ask, count)


def _theirs(server: Server, dataset: Dataset, count: int) -> list[float]:
    server.start()
    try:
        server.load(dataset.remote_writes())
        now = (dataset.fleet.end - timedelta(seconds=1)).timestamp()
        deadline = time.monotonic() + SHOWN_S_MAX
        while (found := len(server.query("/api/v1/query", query=METRIC, time=now, nocache=1))) < GPUS:
            if time.monotonic() > deadline:
                raise SystemExit(f"{server.name} shows {found} of {GPUS} GPUs after {SHOWN_S_MAX:g} s")
            time.sleep(0.1)
        return _warm(lambda _: server.get(f"/api/v1/query?query={METRIC}&time={now}&nocache=1"), count)
    finally:
        server.stop()


def _warm(ask: Callable[[int], object], count: int) -> list[float]:
    times_ms(ask, range(3))
    return times_ms(ask, range(count))
