"""The same samples in our store, Prometheus, VictoriaMetrics and SQLite: how fast they go in, how small they lie, how
fast one GPU's range comes out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.queue.programs import MissingError
from benchmarks.queue.report import Figure, Number, Row
from benchmarks.store.dataset import TEN, Dataset, spooled, unspooled
from benchmarks.store.pipeline import Pipeline, messages, publish, running
from benchmarks.store.report import Asked, Part, plain, ratio
from benchmarks.store.servers import (
    Server,
    each_of,
    folder_bytes,
    forget_cached,
    prometheus,
    victoria_metrics,
)
from benchmarks.store.size import Size
from benchmarks.store.sqlite import Sqlite
from benchmarks.store.timing import percentile, times_ms
from telemetry.v1 import query_pb2

ASKED: Final = "power_draw"
POINTS: Final = 300
"""About so many."""
COMPACTED_S_MAX: Final = 900.0

Ask = Callable[[str], int]
"""Asks for one GPU's range; returns how many points came."""


@dataclass(slots=True)
class Kept:
    """What one store did with the samples. ``records`` is its ``size`` without roll-ups."""

    name: str
    seconds: float
    cpu_s: float
    rss_mb: float | None
    size: int
    records: int
    cold_ms: Sequence[float]
    warm_ms: Sequence[float]
    note: str

    def row(self, samples: int) -> Row:
        """As a row of the table."""
        numbers = {
            "in, samples/s": samples / self.seconds,
            "CPU µs/sample": self.cpu_s / samples * 1e6,
            **({} if self.rss_mb is None else {"RSS MB": self.rss_mb}),
            "bytes/sample": self.size / samples,
            "without roll-ups": self.records / samples,
            "range, cold p50 ms": percentile(self.cold_ms, 50),
            "cold p99 ms": percentile(self.cold_ms, 99),
            "warm p50 ms": percentile(self.warm_ms, 50),
            "warm p99 ms": percentile(self.warm_ms, 99),
        }
        return Row(self.name, {name: Number([value]) for name, value in numbers.items()}, self.note)


def ten_metrics(size: Size) -> Part:
    """The ten metrics of a DCGM export, for which a size was asked."""
    dataset = Dataset(64, size.of(12, 24 * 10), TEN)
    part, kept = _compared("disk", "the ten metrics of a DCGM export", size, dataset)
    ours, peer = kept["telemetry"], kept.get("VictoriaMetrics")
    for what, size_bytes in (("records", ours.records), ("records and roll-ups", ours.size)):
        beside = ""
        if peer is not None:
            beside = f"{ratio(size_bytes, peer.size)} VictoriaMetrics' {plain(peer.size / dataset.samples)} B/sample"
        value = size_bytes / dataset.samples
        part.asked.append(Asked(f"disk, cold tier, {what}", "B/sample", value, 0.8, 0.4, "less", beside))
    return part


def all_metrics(size: Size) -> Part:
    """All that the simulator has, DCGM's profiling ratios with six random digits among them."""
    dataset = Dataset(64, size.of(8, 24 * 4))
    part, _ = _compared("disk-all", f"all {len(dataset.metrics)} metrics of the simulator", size, dataset)
    return part


def _compared(name: str, what: str, size: Size, dataset: Dataset) -> tuple[Part, dict[str, Kept]]:
    figure = Figure(
        name,
        f"{dataset.samples:,} samples: {dataset.gpus} GPUs every 10 s for {dataset.hours:g} h, {what}; "
        f"one GPU's {ASKED} over all of it in steps of {_step_s(dataset)} s",
    )
    kept: dict[str, Kept] = {}
    for measure in (_ours, _victoria_metrics, _prometheus, _sqlite):
        try:
            done = measure(size, dataset)
        except MissingError as error:
            figure.rows.append(Row(measure.__name__.strip("_"), {}, str(error)))
            continue
        kept[done.name] = done
        figure.rows.append(done.row(dataset.samples))
    return Part(figure), kept


def _ours(size: Size, dataset: Dataset) -> Kept:
    folder = size.folder / "telemetry"
    folder.mkdir()
    spool = folder / "messages"
    spooled(spool, (messages(slab.frame) for slab in dataset.slabs()))
    with running(folder) as pipeline:
        programs = (pipeline.queue, pipeline.collector)
        before_s = sum(program.cpu_s() for program in programs)
        begun = time.perf_counter()
        publish(pipeline.queue_address, (message for group in unspooled(spool) for message in group))
        pipeline.wait_stored(dataset.samples)
        seconds = time.perf_counter() - begun
        cpu_s = sum(program.cpu_s() for program in programs) - before_s
        rss_mb = sum(program.rss_mb() for program in programs)
    store = folder / "store"
    hot_bytes = folder_bytes(store / "hot")
    with running(folder, "--compact-interval", "1s", "--compact-after", "0s") as pipeline:
        begun = time.perf_counter()
        _wait_compacted(store, pipeline)
        compacted_s = time.perf_counter() - begun
        times = pipeline.collector.watched.cpu_times()
        compaction_cpu_s = times.children_user + times.children_system
    size_bytes = folder_bytes(store / "cold")
    cold_ms: list[float] = []
    gpus = each_of(dataset.identities())
    for _ in range(size.of(3, 15)):
        with running(folder) as pipeline:
            forget_cached(store)
            cold_ms += times_ms(_asking(pipeline, dataset), [next(gpus)])
    with running(folder) as pipeline:
        warm_ms = _warm(_asking(pipeline, dataset), gpus, size)
    records = sum(path.stat().st_size for level in ("hour", "day") for path in (store / "cold" / level).glob("*"))
    note = (
        f"Arrow messages → fsynced queue → store with checkpoint, {hot_bytes / dataset.samples:.3g} B/sample; "
        f"cold after {compacted_s:.0f} s and {compaction_cpu_s / dataset.samples * 1e6:.2g} µs CPU a sample"
    )
    return Kept("telemetry", seconds, cpu_s, rss_mb, size_bytes, records, cold_ms, warm_ms, note)


def _wait_compacted(store: Path, pipeline: Pipeline) -> None:
    """Wait until nothing is left in the hot tier and the round is over that moved it, which merges after that."""
    collector, stub = pipeline.collector, pipeline.stub()
    deadline = time.monotonic() + COMPACTED_S_MAX
    moved_at: float | None = None
    while True:
        left = folder_bytes(store / "hot")
        if left == 0 and moved_at is None:
            moved_at = time.time()
        if moved_at is not None:
            stats = stub.GetStats(query_pb2.QueryServiceGetStatsRequest()).stats
            if stats.compaction_time.ToMicroseconds() / 1e6 > moved_at:
                return
        if time.monotonic() > deadline or collector.process.poll() is not None:
            raise SystemExit(f"{left:,} bytes are still hot: {collector.log.read_text()[-2000:]}")
        time.sleep(0.1)


def _asking(pipeline: Pipeline, dataset: Dataset) -> Ask:
    stub = pipeline.stub()
    time_range = query_pb2.TimeRange()
    time_range.start_time.FromDatetime(dataset.fleet.start)
    time_range.end_time.FromDatetime(dataset.fleet.end)
    step_s = _step_s(dataset)

    def ask(gpu: str) -> int:
        request = query_pb2.QuerySeriesRequest(
            selector=query_pb2.GpuSelector(gpus=[gpu]), metrics=[ASKED], range=time_range
        )
        request.step.FromSeconds(step_s)
        return _checked(len(stub.QuerySeries(request).series[0].columns[0].values), dataset)

    return ask


def _victoria_metrics(size: Size, dataset: Dataset) -> Kept:
    note = "remote write, 100 series × 100 samples a request, 2 connections, answered before a sync; result cache off"
    return _server(victoria_metrics(size.folder), size, dataset, note)


def _prometheus(size: Size, dataset: Dataset) -> Kept:
    note = "the same requests, answered before a sync; its size is that of a snapshot"
    return _server(prometheus(size.folder), size, dataset, note)


def _server(server: Server, size: Size, dataset: Dataset, note: str) -> Kept:
    spool = size.folder / "remote-write"
    if not spool.exists():
        spooled(spool, ([(0, body) for body in bodies] for bodies in dataset.remote_writes()))
    server.start()
    try:
        assert server.running is not None
        before_s = server.running.cpu_s()
        seconds = server.load([body for _, body in group] for group in unspooled(spool))
        cpu_s, rss_mb = server.running.cpu_s() - before_s, server.running.rss_mb()
        size_bytes = server.settled_bytes()
        end = dataset.fleet.end.timestamp()
        found = server.query("/api/v1/query", query=f"sum(count_over_time({ASKED}[{dataset.hours + 1:g}h]))", time=end)
        stored, sent = int(found[0]["value"][1]), dataset.gpus * dataset.fleet.instants
        assert stored == sent, f"{server.name} has {stored} of {sent} samples of {ASKED}"
        gpus = each_of(dataset.identities())
        cold_ms: list[float] = []
        for _ in range(size.of(3, 15)):
            server.stop()
            forget_cached(server.data)
            server.start()
            forget_cached(server.data)
            cold_ms += times_ms(_querying(server, dataset), [next(gpus)])
        warm_ms = _warm(_querying(server, dataset), gpus, size)
    finally:
        server.stop()
    return Kept(server.name, seconds, cpu_s, rss_mb, size_bytes, size_bytes, cold_ms, warm_ms, note)


def _querying(server: Server, dataset: Dataset) -> Ask:
    step_s = _step_s(dataset)
    # A range looks back from its end, so the first step ends a step after the start.
    first, last = dataset.fleet.start.timestamp() + step_s, dataset.fleet.end.timestamp()

    def ask(gpu: str) -> int:
        found = server.query(
            "/api/v1/query_range", query=f'avg_over_time({ASKED}{{gpu="{gpu}"}}[{step_s}s])',
            start=first, end=last, step=step_s, nocache=1,
        )  # fmt: skip
        return _checked(len(found[0]["values"]), dataset)

    return ask


def _sqlite(size: Size, dataset: Dataset) -> Kept:
    database = Sqlite(size.folder / "samples.sqlite", dataset)
    seconds, cpu_s = database.load(dataset.slabs())
    size_bytes = database.settled_bytes()
    start_us, end_us = (round(at.timestamp() * 1e6) for at in (dataset.fleet.start, dataset.fleet.end))
    step_us = _step_s(dataset) * 1_000_000

    def ask(gpu: str) -> int:
        return _checked(len(database.averages(gpu, ASKED, start_us, end_us, step_us)), dataset)

    gpus = each_of(dataset.identities())
    cold_ms: list[float] = []
    for _ in range(size.of(3, 15)):
        database.reopen()
        forget_cached(size.folder)
        cold_ms += times_ms(ask, [next(gpus)])
    warm_ms = _warm(ask, gpus, size)
    database.close()
    note = "in this process, a row an instant and GPU clustered by both, synchronous=NORMAL"
    return Kept("SQLite", seconds, cpu_s, None, size_bytes, size_bytes, cold_ms, warm_ms, note)


def _warm(ask: Ask, gpus: Iterator[str], size: Size) -> list[float]:
    times_ms(ask, [next(gpus) for _ in range(5)])
    return times_ms(ask, [next(gpus) for _ in range(size.of(50, 300))])


def _step_s(dataset: Dataset) -> int:
    """Whole minutes that make the range into about ``POINTS``."""
    return 60 * math.ceil(dataset.hours * 60 / POINTS)


def _checked(points: int, dataset: Dataset) -> int:
    expected = math.ceil(dataset.hours * 3600 / _step_s(dataset))
    assert abs(points - expected) <= 1, f"{points} points instead of {expected}"
    return points
