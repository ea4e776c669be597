"""The QueryService over a real connection and a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from math import isnan
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from telemetry.codec import frame_of
from telemetry.collector import query_service as module
from telemetry.collector.counters import Counters, collector_stats
from telemetry.collector.query_service import QueryService
from telemetry.model import Record
from telemetry.queue.clients.errors import error_from_rpc
from telemetry.runtime.grpc_server import GrpcServer
from telemetry.storage.checkpoint import Block
from telemetry.storage.compactor import CompactionStats
from telemetry.storage.hot import HotGpu, HotTier
from telemetry.storage.store import Batch, StoreError
from telemetry.storage.tiered import TieredStore
from telemetry.v1 import query_pb2 as pb
from telemetry.v1 import query_pb2_grpc

START = datetime(2026, 1, 1, tzinfo=UTC)
START_US = int(START.timestamp()) * 1_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TieredStore]:
    """Four GPUs on two hosts, one record a second for 100 s; `a/0` began with its temperature at 0."""
    opened = TieredStore(tmp_path)
    records = [
        Record(
            START + timedelta(seconds=second),
            f"{host}/{index}",
            {"temperature": second + 1000.0 * index} | ({"power_draw": 7.0} if index else {}),
            {"host": host, "index": str(index), "model": "H100"},
        )
        for second in range(100)
        for host in "ab"
        for index in range(2)
    ]
    opened.commit(Batch([frame_of(records)]))
    yield opened
    opened.close()


@pytest.fixture
async def stub(store: TieredStore) -> AsyncIterator[query_pb2_grpc.QueryServiceAsyncStub]:
    service = QueryService(store, lambda: collector_stats(Counters(3), store.stats(), CompactionStats()))
    register = partial(query_pb2_grpc.add_QueryServiceServicer_to_server, service)
    server = GrpcServer([(pb.DESCRIPTOR.services_by_name["QueryService"], register)], host="127.0.0.1", port=0)
    await server.start()
    await server.set_serving()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield query_pb2_grpc.QueryServiceStub(channel)
    await server.stop(0)
    service.close()


def time_range(first: int | None, end: int | None) -> pb.TimeRange:
    result = pb.TimeRange()
    if first is not None:
        result.start_time.FromMicroseconds(START_US + first * 1_000_000)
    if end is not None:
        result.end_time.FromMicroseconds(START_US + end * 1_000_000)
    return result


async def refusal_of(call: Any) -> tuple[str, str]:
    """The status and field of a refused call."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call.read() if hasattr(call, "read") else call)
    error = error_from_rpc(caught.value)
    return error.code, error.field


async def test_gpus_come_by_identity_in_pages(stub: query_pb2_grpc.QueryServiceAsyncStub) -> None:
    first = await stub.ListGpus(pb.ListGpusRequest(page_size=3))
    assert [gpu.gpu for gpu in first.gpus] == ["a/0", "a/1", "b/0"]
    assert first.total == 4
    second = await stub.ListGpus(pb.ListGpusRequest(page_size=3, page_token=first.next_page_token))
    assert [gpu.gpu for gpu in second.gpus] == ["b/1"]
    assert second.next_page_token == ""
    gpu = first.gpus[1]
    assert (gpu.host, gpu.index, gpu.model) == ("a", "1", "H100")
    assert list(gpu.metrics) == ["power_draw", "temperature"]
    assert gpu.first_seen.ToMicroseconds() == START_US
    assert gpu.last_seen.ToMicroseconds() == START_US + 99_000_000
    assert first.HasField("completeness")
    assert not first.completeness.partial


async def test_selectors_must_all_match(stub: query_pb2_grpc.QueryServiceAsyncStub) -> None:
    async def chosen(prefix: str = "", **selector: Any) -> list[str]:
        request = pb.ListGpusRequest(selector=pb.GpuSelector(**selector), gpu_prefix=prefix)
        return [gpu.gpu for gpu in (await stub.ListGpus(request)).gpus]

    assert await chosen(hosts=["a"]) == ["a/0", "a/1"]
    assert await chosen(labels={"index": "1"}) == ["a/1", "b/1"]
    assert await chosen(hosts=["a"], labels={"index": "1"}, gpus=["a/1", "b/1"]) == ["a/1"]
    assert await chosen(prefix="b/") == ["b/0", "b/1"]
    assert await chosen(gpus=["nobody"]) == []


async def test_hosts_say_how_many_gpus_they_have(stub: query_pb2_grpc.QueryServiceAsyncStub) -> None:
    first = await stub.ListHosts(pb.ListHostsRequest(page_size=1))
    assert [(host.host, host.gpus) for host in first.hosts] == [("a", 2)]
    second = await stub.ListHosts(pb.ListHostsRequest(page_size=1, page_token=first.next_page_token))
    assert [(host.host, host.gpus) for host in second.hosts] == [("b", 2)]
    assert second.next_page_token == ""
    assert second.hosts[0].last_seen.ToMicroseconds() == START_US + 99_000_000


async def test_the_latest_values_are_columns(stub: query_pb2_grpc.QueryServiceAsyncStub) -> None:
    answer = await stub.GetLatest(pb.GetLatestRequest(selector=pb.GpuSelector(hosts=["a"])))
    assert list(answer.gpus) == ["a/0", "a/1"]
    assert list(answer.timestamps_us) == [START_US + 99_000_000] * 2
    columns = {column.metric: list(column.values) for column in answer.columns}
    assert columns["temperature"] == [99.0, 1099.0]
    assert isnan(columns["power_draw"][0])
    assert columns["power_draw"][1] == 7.0
    only = await stub.GetLatest(pb.GetLatestRequest(metrics=["temperature"]))
    assert [column.metric for column in only.columns] == ["temperature"]


async def test_records_stream_gpu_by_gpu_and_newest_first(stub: query_pb2_grpc.QueryServiceAsyncStub) -> None:
    request = pb.StreamRecordsRequest(selector=pb.GpuSelector(hosts=["a"]), range=time_range(97, 99))
    pieces = [piece async for piece in stub.StreamRecords(request)]
    records = [(record.gpu, record.metrics["temperature"]) for piece in pieces for record in piece.records]
    assert records == [("a/0", 98.0), ("a/0", 97.0), ("a/1", 1098.0), ("a/1", 1097.0)]
    assert "power_draw" not in pieces[0].records[0].metrics
    assert pieces[-1].HasField("completeness")
    request.order = pb.RECORD_ORDER_OLDEST_FIRST
    request.limit = 3
    pieces = [piece async for piece in stub.StreamRecords(request)]
    assert [r.metrics["temperature"] for piece in pieces for r in piece.records] == [97.0, 98.0, 1097.0]
    request.limit = 2**64 - 1
    request.metrics[:] = ["temperature", *(f"unknown{number}" for number in range(100_000))]
    pieces = [piece async for piece in stub.StreamRecords(request)]
    assert [len(piece.records) for piece in pieces] == [4]
    request.metrics[:] = ["unknown"]
    assert [len(piece.records) async for piece in stub.StreamRecords(request)] == [0]


async def test_records_come_in_pieces_and_an_empty_answer_is_one_piece(
    stub: query_pb2_grpc.QueryServiceAsyncStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE_RECORDS", 30)
    pieces = [piece async for piece in stub.StreamRecords(pb.StreamRecordsRequest(limit=90))]
    assert [len(piece.records) for piece in pieces] == [30, 30, 30]
    assert [piece.HasField("completeness") for piece in pieces] == [False, False, True]
    nothing = pb.StreamRecordsRequest(selector=pb.GpuSelector(gpus=["nobody"]))
    assert [len(piece.records) async for piece in stub.StreamRecords(nothing)] == [0]


async def test_series_are_columns_over_steps(stub: query_pb2_grpc.QueryServiceAsyncStub) -> None:
    request = pb.QuerySeriesRequest(
        selector=pb.GpuSelector(gpus=["a/0", "b/1"]),
        metrics=["temperature", "power_draw"],
        range=time_range(5, 35),
        aggregation=pb.AGGREGATION_MAX,
        explain=True,
    )
    request.step.FromSeconds(10)
    answer = await stub.QuerySeries(request)
    assert list(answer.timestamps_us) == [START_US + second * 1_000_000 for second in (0, 10, 20, 30)]
    first, second = answer.series
    assert (first.gpu, second.gpu) == ("a/0", "b/1")
    assert [(column.metric, list(column.values)) for column in first.columns] == [
        ("temperature", [9.0, 19.0, 29.0, 34.0])
    ]
    assert [column.metric for column in second.columns] == ["temperature", "power_draw"]
    assert answer.plan[0] == "hot: 2 GPUs, 60 rows"
    assert answer.plan[1].startswith("max of 2 GPUs over 4 steps of 10 s")


async def test_series_of_gpus_become_one_by_label(stub: query_pb2_grpc.QueryServiceAsyncStub) -> None:
    request = pb.QuerySeriesRequest(metrics=["temperature"], range=time_range(0, 100))
    request.step.FromSeconds(100)
    request.grouping.by.append("index")
    request.grouping.aggregation = pb.AGGREGATION_SUM
    answer = await stub.QuerySeries(request)
    assert [(dict(series.group), list(series.columns[0].values)) for series in answer.series] == [
        ({"index": "0"}, [99.0]),
        ({"index": "1"}, [2099.0]),
    ]
    request.grouping.by[:] = []
    (series,) = (await stub.QuerySeries(request)).series
    assert list(series.columns[0].values) == [2198.0]


async def test_an_open_step_gives_about_300(stub: query_pb2_grpc.QueryServiceAsyncStub) -> None:
    request = pb.QuerySeriesRequest(metrics=["temperature"], range=time_range(0, 3600))
    answer = await stub.QuerySeries(request)
    assert 150 <= len(answer.timestamps_us) <= 301


async def test_bad_requests_are_refused_naming_the_field(stub: query_pb2_grpc.QueryServiceAsyncStub) -> None:
    series = partial(pb.QuerySeriesRequest, metrics=["temperature"], range=time_range(0, 10))
    cases: list[tuple[Any, str]] = [
        (stub.ListGpus(pb.ListGpusRequest(page_size=-1)), "page_size"),
        (stub.ListGpus(pb.ListGpusRequest(page_token="nonsense!")), "page_token"),
        (stub.ListGpus(pb.ListGpusRequest(selector=pb.GpuSelector(gpus=["x"] * 10_001))), "selector.gpus"),
        (stub.ListGpus(pb.ListGpusRequest(selector=pb.GpuSelector(hosts=["x"] * 1_001))), "selector.hosts"),
        (stub.ListHosts(pb.ListHostsRequest(page_size=-1)), "page_size"),
        (stub.StreamRecords(pb.StreamRecordsRequest(range=time_range(5, 4))), "range.start_time"),
        (stub.StreamRecords(pb.StreamRecordsRequest(order=9)), "order"),  # type: ignore[arg-type]
        (stub.StreamRecords(pb.StreamRecordsRequest(metrics=["temperature", "timestamp"])), "metrics"),
        (stub.QuerySeries(series(metrics=["gpu"], aggregation=pb.AGGREGATION_P50)), "metrics"),
        (stub.QuerySeries(pb.QuerySeriesRequest(range=time_range(0, 1))), "metrics"),
        (stub.QuerySeries(pb.QuerySeriesRequest(metrics=["x"])), "range.start_time"),
        (stub.QuerySeries(pb.QuerySeriesRequest(metrics=["x"], range=time_range(0, None))), "range.end_time"),
        (stub.QuerySeries(series(range=time_range(1, 1))), "range.end_time"),
        (stub.QuerySeries(series(step=Duration(nanos=999_999))), "step"),
        (stub.QuerySeries(series(step=Duration(seconds=-1))), "step"),
        (stub.QuerySeries(series(step=Duration(seconds=10**13))), "step"),
        (stub.QuerySeries(series(range=time_range(0, 12), step=Duration(nanos=1_000_000))), "step"),
        (stub.QuerySeries(pb.QuerySeriesRequest(metrics=["x"], range=time_range(0, 1), aggregation=99)), "aggregation"),  # type: ignore[arg-type]
        (stub.QuerySeries(series(metrics=[f"m{number}" for number in range(51)])), "metrics"),
    ]
    for call, field in cases:
        assert await refusal_of(call) == ("INVALID_ARGUMENT", field)


async def test_an_answer_too_large_for_a_message_is_refused(
    stub: query_pb2_grpc.QueryServiceAsyncStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VALUES_MAX", 3)
    assert await refusal_of(stub.GetLatest(pb.GetLatestRequest())) == ("INVALID_ARGUMENT", "selector")


async def test_groups_of_too_many_values_are_refused(
    stub: query_pb2_grpc.QueryServiceAsyncStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = pb.QuerySeriesRequest(metrics=["temperature"], range=time_range(0, 10), step=Duration(seconds=10))
    request.grouping.SetInParent()
    assert len((await stub.QuerySeries(request)).series) == 1
    monkeypatch.setattr(module, "GROUPED_VALUES_MAX", 2)
    assert await refusal_of(stub.QuerySeries(request)) == ("INVALID_ARGUMENT", "selector")


async def test_an_answer_says_what_could_not_be_read(
    stub: query_pb2_grpc.QueryServiceAsyncStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = HotTier.lines

    def read(tier: HotTier, view: HotGpu, block: Block) -> bytes:
        if view.entry.gpu.gpu == "a/0":
            raise StoreError("disk on fire")
        return original(tier, view, block)

    monkeypatch.setattr(HotTier, "lines", read)
    hosts = pb.GpuSelector(hosts=["a"])
    answer = await stub.QuerySeries(
        pb.QuerySeriesRequest(selector=hosts, metrics=["temperature"], range=time_range(0, 9))
    )
    assert answer.completeness.partial
    assert list(answer.completeness.warnings) == ["GPU a/0: disk on fire"]
    assert [isnan(series.columns[0].values[0]) for series in answer.series] == [True, False]
    pieces = [piece async for piece in stub.StreamRecords(pb.StreamRecordsRequest(selector=hosts))]
    assert pieces[-1].completeness.partial
    assert sum(len(piece.records) for piece in pieces) == 100


async def test_statistics_count_what_is_stored(stub: query_pb2_grpc.QueryServiceAsyncStub) -> None:
    stats = (await stub.GetStats(pb.QueryServiceGetStatsRequest())).stats
    assert (stats.gpus, stats.cached_records, stats.workers) == (4, 400, 3)
    assert stats.stored_bytes > 0
    assert stats.HasField("checkpoint_time")
