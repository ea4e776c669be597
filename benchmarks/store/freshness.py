"""How long it takes from publishing a record until a query shows it, at a steady 10,000 samples a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta

import grpc
import numpy as np
import polars as pl

from benchmarks.queue.programs import HOST, MissingError
from benchmarks.queue.report import Figure, Row
from benchmarks.store.pipeline import messages, running
from benchmarks.store.remote_write import RemoteWriter, compressed, label_bytes, sample_template, series_bytes
from benchmarks.store.report import Asked, Part, plain, ratio
from benchmarks.store.servers import prometheus
from benchmarks.store.size import Size
from benchmarks.store.timing import p50_p99, percentile
from telemetry.codec import ARROW_CONTENT_TYPE, CONTENT_TYPE, TIME_TYPE
from telemetry.model import TIMESTAMP
from telemetry.queue.client import OutgoingMessage, Publisher
from telemetry.simulator import Fleet
from telemetry.topics import DATA
from telemetry.v1 import query_pb2, query_pb2_grpc

GPUS = 100
TICK_S = 0.1
METRICS = (
    "temperature", "memory_temperature", "utilization", "memory_utilization", "memory_used", "memory_free",
    "power_draw", "energy", "sm_clock", "graphics_active",
)  # fmt: skip
PROBED = "power_draw"
POLL_S = 0.005
PROBE_EVERY = 3
"""Only so many ticks are asked for, so that the questions do not become the load."""
VISIBLE_S_MAX = 30.0


def freshness(size: Size) -> Part:
    """Publish a tenth of a second's records at a time, and ask for one GPU until the answer has them."""
    ticks = size.of(100, 600)
    ours = asyncio.run(_ours(size, ticks))
    figure = Figure("fresh", f"{GPUS} GPUs × {len(METRICS)} metrics every {TICK_S} s: publish → visible to a query")
    figure.rows.append(Row("telemetry", p50_p99("", ours), "confirmed after fsync, shown after the store's checkpoint"))
    beside = ""
    try:
        theirs = _prometheus(size, ticks)
    except MissingError as error:
        figure.rows.append(Row("Prometheus", {}, str(error)))
    else:
        figure.rows.append(
            Row("Prometheus", p50_p99("", theirs), "remote write; its log is not synced before it answers")
        )
        beside = f"{ratio(percentile(ours, 99), percentile(theirs, 99))} Prometheus' {plain(percentile(theirs, 99))} ms"
    asked = Asked("publish → visible, 10,000 samples/s, p99", "ms", percentile(ours, 99), 1000, 100, "less", beside)
    return Part(figure, [asked])


def _ticks(count: int) -> Iterator[pl.DataFrame]:
    """Each instant's records; whoever sends them gives them the time."""
    fleet = Fleet(GPUS, duration=timedelta(seconds=count * TICK_S), interval=timedelta(seconds=TICK_S))
    for frame in fleet.frames():
        yield from frame.select(TIMESTAMP, "gpu", *METRICS, "host", "index").partition_by(
            TIMESTAMP, maintain_order=True
        )


async def _ours(size: Size, count: int) -> list[float]:
    folder = size.folder / "fresh"
    folder.mkdir()
    took: list[float] = []
    with running(folder) as pipeline:
        async with (
            grpc.aio.insecure_channel(pipeline.collector_address) as channel,
            Publisher(pipeline.queue_address) as publisher,
            asyncio.TaskGroup() as tasks,
        ):
            await publisher.ensure(DATA)
            stub = query_pb2_grpc.QueryServiceStub(channel)
            due = time.monotonic()
            for number, frame in enumerate(_ticks(count)):
                await asyncio.sleep(due - time.monotonic())
                due += TICK_S
                now_us = time.time_ns() // 1000
                gpu = frame.item(number % GPUS, "gpu")
                stamped = frame.with_columns(pl.lit(now_us).cast(TIME_TYPE).alias(TIMESTAMP))
                began = time.perf_counter()
                for partition, data in messages(stamped):
                    message = OutgoingMessage(data, {CONTENT_TYPE: ARROW_CONTENT_TYPE})
                    tasks.create_task(publisher.publish_batch(DATA.name, [message], partition=partition))
                if number % PROBE_EVERY == 0:
                    tasks.create_task(_seen(stub, gpu, now_us, began, took))
    return _settled(took)


def _settled(took: list[float]) -> list[float]:
    """Without the first tenth: what those wait for is the start, with its topics, members and files."""
    return took[len(took) // 10 :]


async def _seen(
    stub: query_pb2_grpc.QueryServiceAsyncStub, gpu: str, time_us: int, began: float, took: list[float]
) -> None:
    request = query_pb2.GetLatestRequest(selector=query_pb2.GpuSelector(gpus=[gpu]), metrics=[PROBED])
    while time.perf_counter() - began < VISIBLE_S_MAX:
        try:
            newest = list((await stub.GetLatest(request)).timestamps_us)
        except grpc.aio.AioRpcError as error:
            # Until its first record is stored, a GPU is not known.
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            newest = []
        if newest and newest[0] >= time_us:
            took.append((time.perf_counter() - began) * 1e3)
            return
        await asyncio.sleep(POLL_S)
    raise SystemExit(f"a record was not visible after {VISIBLE_S_MAX:g} s")


def _prometheus(size: Size, count: int) -> list[float]:
    server = prometheus(size.folder)
    took: list[float] = []
    server.start()
    try:
        writer = RemoteWriter(HOST, server.port, server.write_path)
        due = time.monotonic()
        for number, frame in enumerate(_ticks(count)):
            time.sleep(max(0.0, due - time.monotonic()))
            due += TICK_S
            now_ms = time.time_ns() // 1_000_000
            gpu = frame.item(number % GPUS, "gpu")
            began = time.perf_counter()
            template = sample_template(np.array([now_ms]))
            writer.send(
                compressed(
                    series_bytes(label_bytes({"__name__": name, "gpu": row["gpu"]}), template, np.array([row[name]]))
                    for row in frame.iter_rows(named=True)
                    for name in METRICS
                )
            )
            while number % PROBE_EVERY == 0:
                found = server.query(
                    "/api/v1/query", query=f'timestamp({PROBED}{{gpu="{gpu}"}})', time=now_ms / 1e3 + 1
                )
                if found and float(found[0]["value"][1]) * 1e3 >= now_ms - 0.5:
                    took.append((time.perf_counter() - began) * 1e3)
                    break
                time.sleep(POLL_S)
        writer.close()
    finally:
        server.stop()
    return _settled(took)
