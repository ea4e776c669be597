"""The REST API over real connections: what each route answers, and what it says when a request is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from gateway import schemas
from gateway.server import GatewayServer
from telemetry.runtime.grpc_server import GrpcServer
from telemetry.runtime.status import UnavailableError
from telemetry.v1 import query_pb2
from tests.unit.gateway.services import NEWEST_S, FakeCollector, gateway_to, gpu_message

pytestmark = pytest.mark.asyncio(loop_scope="module")

API = "/api/v1"
GPU_A = "GPU-5fd4f087"
SERIES = f"/gpus/{GPU_A}/series"
RECORDS = f"/gpus/{GPU_A}/telemetry"


async def get(client: httpx.AsyncClient, path: str, **parameters: Any) -> Any:
    answer = await client.get(API + path, params=parameters or None)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def problem(client: httpx.AsyncClient, path: str, status: int, **parameters: Any) -> Mapping[str, Any]:
    """The problem that a request is answered with."""
    answer = await client.get(path, params=parameters or None)
    content: dict[str, Any] = answer.json()
    assert answer.status_code == status == content["status"], content
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "detail"} <= content.keys()
    schemas.Problem.model_validate(content, extra="forbid")
    return content


ROUTES: list[tuple[str, type[BaseModel]]] = [
    ("/gpus", schemas.GpuPage),
    (f"/gpus/{GPU_A}", schemas.GpuLatest),
    (f"/gpus/{GPU_A}/telemetry", schemas.Records),
    (f"/gpus/{GPU_A}/series?metric=temperature", schemas.Series),
    ("/hosts", schemas.HostPage),
    ("/hosts/node-1/gpus", schemas.GpuPage),
    ("/fleet", schemas.Fleet),
    ("/queue/stats", schemas.QueueStats),
    ("/queue/topics", schemas.TopicPage),
    ("/queue/topics/telemetry", schemas.TopicDetail),
    ("/queue/groups", schemas.GroupPage),
    ("/metrics", schemas.MetricList),
    ("/health", schemas.Health),
]


@pytest.mark.parametrize(("path", "shape"), ROUTES)
async def test_every_answer_has_the_documented_shape(
    path: str, shape: type[BaseModel], client: httpx.AsyncClient
) -> None:
    answer = await client.get(API + path)
    assert answer.headers["content-type"] == "application/json"
    shape.model_validate_json(answer.content, extra="forbid")


async def test_both_ports_serve_the_same(gateway: GatewayServer, client: httpx.AsyncClient) -> None:
    answer = await client.get(f"http://127.0.0.1:{gateway.dashboard_port}{API}/hosts")
    assert answer.json() == await get(client, "/hosts")


async def test_gpus_are_listed_in_pages(client: httpx.AsyncClient) -> None:
    first = await get(client, "/gpus", page_size=4)
    assert first["total"] == 6
    rest = await get(client, "/gpus", page_size=4, page_token=first["next_page_token"])
    assert rest["next_page_token"] == ""
    names = [gpu["gpu"] for page in (first, rest) for gpu in page["gpus"]]
    assert names == ["GPU-5b8ae3c1", GPU_A, "MIG-1", "MIG-2", "node-2/0", "node-2/01"]
    assert first["gpus"][0] == {
        "gpu": "GPU-5b8ae3c1",
        "host": "node-1",
        "index": "1",
        "model": "NVIDIA H100 80GB HBM3",
        "labels": {"host": "node-1", "index": "1"},
        "first_seen": "2025-07-18T20:32:34Z",
        "last_seen": "2025-07-18T20:42:34Z",
        "metrics": ["power_draw", "temperature"],
    }


@pytest.mark.parametrize(
    ("parameters", "gpus"),
    [
        ({"host": "node-2"}, ["node-2/0", "node-2/01"]),
        ({"host": ["node-2", "node-1"], "prefix": "GPU-5f"}, [GPU_A]),
        ({"prefix": "MIG"}, ["MIG-1", "MIG-2"]),
        ({"host": "nobody"}, []),
    ],
)
async def test_gpus_are_filtered(parameters: dict[str, str], gpus: list[str], client: httpx.AsyncClient) -> None:
    assert [gpu["gpu"] for gpu in (await get(client, "/gpus", **parameters))["gpus"]] == gpus


async def test_a_page_size_beyond_the_maximum_is_coerced(client: httpx.AsyncClient, collector: FakeCollector) -> None:
    await get(client, "/gpus", page_size=10**30)
    assert collector.last(query_pb2.ListGpusRequest).page_size == 10_000


@pytest.mark.parametrize(
    ("path", "gpu"),
    [
        (GPU_A, GPU_A),
        ("GPU-5f", GPU_A),
        ("node-1%2F0", GPU_A),  # by host and index
        ("node-1/0", GPU_A),
        ("node-2%2F0", "node-2/0"),  # its identity, though another begins with it
        ("node-2%2F01", "node-2/01"),
    ],
)
@pytest.mark.parametrize("below", ["", "/telemetry", "/series?metric=temperature"])
async def test_a_gpu_is_found_by_identity_prefix_or_host_and_index(
    path: str, gpu: str, below: str, client: httpx.AsyncClient
) -> None:
    assert (await get(client, f"/gpus/{path}{below}"))["gpu"] == gpu


async def test_an_identity_is_found_though_another_begins_with_it(
    client: httpx.AsyncClient, collector: FakeCollector
) -> None:
    collector.gpus.insert(1, gpu_message("GPU-5b8ae3c1-2", "node-4", "0"))
    assert (await get(client, "/gpus/GPU-5b8ae3c1"))["host"] == "node-1"


@pytest.mark.parametrize(
    ("path", "candidates"), [("GPU-5", ["GPU-5b8ae3c1", GPU_A]), ("node-3%2F0", ["MIG-1", "MIG-2"])]
)
async def test_an_ambiguous_gpu_is_answered_with_candidates(
    path: str, candidates: list[str], client: httpx.AsyncClient
) -> None:
    answer = await problem(client, f"{API}/gpus/{path}", 409)
    assert answer["parameter"] == "gpu"
    assert answer["candidates"] == candidates
    assert "2 GPUs" in answer["detail"]


@pytest.mark.parametrize("path", ["GPU-9", "node-1%2F7", "%2F", "gpu-5fd4f087", "GPU-5fd4f087%20"])
@pytest.mark.parametrize("below", ["", "/telemetry", "/series?metric=x"])
async def test_a_gpu_that_does_not_exist_is_not_found(path: str, below: str, client: httpx.AsyncClient) -> None:
    assert (await problem(client, f"{API}/gpus/{path}{below}", 404))["parameter"] == "gpu"


async def test_one_gpu_comes_with_its_newest_values(client: httpx.AsyncClient) -> None:
    gpu = await get(client, "/gpus/GPU-5b")
    assert gpu["latest"] == {"power_draw": 400.0, "temperature": 60.0}
    assert gpu["latest_time"] == "2025-07-18T20:42:34Z"
    assert gpu["completeness"] == {"partial": True, "warnings": ["one collector is missing"]}


async def test_records_are_answered_and_asked_for_as_given(client: httpx.AsyncClient, collector: FakeCollector) -> None:
    content = await get(
        client,
        f"/gpus/{GPU_A}/telemetry",
        start_time="2025-07-18T20:42:00Z",
        end_time=NEWEST_S,
        limit=7,
        order="oldest",
    )
    assert content["records"] == [
        {"timestamp": "2025-07-18T20:42:33.500000Z", "metrics": {"temperature": 60.0, "power_draw": None}},
        {"timestamp": "2025-07-18T20:42:32.500000Z", "metrics": {"temperature": 61.0, "power_draw": None}},
    ]
    asked = collector.last(query_pb2.StreamRecordsRequest)
    assert list(asked.selector.gpus) == [GPU_A]
    assert asked.range.start_time.seconds == NEWEST_S - 34
    assert asked.range.end_time.seconds == NEWEST_S
    assert (asked.limit, asked.order) == (7, query_pb2.RECORD_ORDER_OLDEST_FIRST)


@pytest.mark.parametrize(("given", "asked"), [({}, 100), ({"limit": 0}, 100), ({"limit": 10**9}, 10_000)])
async def test_the_number_of_records_is_always_bounded(
    given: dict[str, int], asked: int, client: httpx.AsyncClient, collector: FakeCollector
) -> None:
    await get(client, f"/gpus/{GPU_A}/telemetry", **given)
    request = collector.last(query_pb2.StreamRecordsRequest)
    assert request.limit == asked
    assert request.order == query_pb2.RECORD_ORDER_NEWEST_FIRST
    assert not request.range.HasField("start_time")


async def test_a_series_is_columns_over_steps(client: httpx.AsyncClient, collector: FakeCollector) -> None:
    content = await get(
        client,
        f"/gpus/{GPU_A}/series",
        metric=["temperature", "power_draw"],
        step="10s",
        agg="p95",
        start_time=NEWEST_S - 60,
    )
    assert content["step_s"] == 10.0
    assert content["timestamps"] == [NEWEST_S - 10, NEWEST_S]
    assert content["columns"] == {"temperature": [62.5, None], "power_draw": [62.5, None]}
    asked = collector.last(query_pb2.QuerySeriesRequest)
    assert asked.aggregation == query_pb2.AGGREGATION_P95
    assert asked.step.seconds == 10


@pytest.mark.parametrize(
    ("given", "start_us", "end_us"),
    [
        ({}, (NEWEST_S - 900) * 1_000_000 + 1, NEWEST_S * 1_000_000 + 1),  # the newest record is part of it
        ({"start_time": NEWEST_S - 60}, (NEWEST_S - 60) * 1_000_000, NEWEST_S * 1_000_000 + 1),
        ({"end_time": NEWEST_S - 60}, (NEWEST_S - 960) * 1_000_000, (NEWEST_S - 60) * 1_000_000),
        ({"start_time": NEWEST_S + 60}, (NEWEST_S + 60) * 1_000_000, (NEWEST_S + 960) * 1_000_000),
        ({"end_time": -62135596740}, -62135596800_000000, -62135596740_000000),  # the year 1
        ({"start_time": 253402300799}, 253402300799_000000, 253402300799_999999),
    ],
)
async def test_the_range_of_a_series_has_a_default(
    given: dict[str, int], start_us: int, end_us: int, client: httpx.AsyncClient, collector: FakeCollector
) -> None:
    await get(client, f"/gpus/{GPU_A}/series", metric="temperature", **given)
    asked = collector.last(query_pb2.QuerySeriesRequest)
    assert asked.range.start_time.ToMicroseconds() == start_us
    assert asked.range.end_time.ToMicroseconds() == end_us
    assert not asked.HasField("step")
    assert asked.aggregation == query_pb2.AGGREGATION_AVG


async def test_the_fleet_joins_values_with_what_is_known_of_each_gpu(client: httpx.AsyncClient) -> None:
    fleet = await get(client, "/fleet")
    assert fleet["gpus"][:2] == ["GPU-5b8ae3c1", GPU_A]
    assert fleet["hosts"] == ["node-1", "node-1", "node-3", "node-3", "node-2", "node-2"]
    assert fleet["indexes"] == ["1", "0", "0", "0", "0", "01"]
    assert fleet["models"][4] == ""
    assert fleet["timestamps"] == [NEWEST_S] * 6
    assert fleet["columns"]["temperature"] == [60.0, None, None, None, None, None]
    assert fleet["completeness"]["partial"] is True
    assert list((await get(client, "/fleet", metric="power_draw"))["columns"]) == ["power_draw"]


async def test_the_list_of_gpus_is_read_once_a_second_for_the_fleet(
    client: httpx.AsyncClient, collector: FakeCollector
) -> None:
    await asyncio.gather(*(get(client, "/fleet") for _ in range(5)))
    assert sum(isinstance(each, query_pb2.ListGpusRequest) for each in collector.requests) <= 1


async def test_a_gpu_that_has_just_come_is_known_to_the_fleet(
    client: httpx.AsyncClient, collector: FakeCollector
) -> None:
    await get(client, "/fleet")
    new = query_pb2.Gpu()
    new.CopyFrom(collector.gpus[0])
    new.gpu, new.host = "zz", "node-new"
    collector.gpus.append(new)
    assert (await get(client, "/fleet"))["hosts"][-1] == "node-new"


async def test_the_queue_is_shown_as_the_queue_shows_itself(client: httpx.AsyncClient) -> None:
    stats = await get(client, "/queue/stats")
    assert (stats["engine"], stats["start_time"]) == ("disk", "2025-07-18T20:27:34Z")
    (group,) = stats["groups"]
    assert (group["mode"], group["lag_age_s"], group["oldest_unacked_age_s"]) == ("ordered", 0.25, None)
    assert group["members"][0]["partitions"] == [{"topic": "telemetry", "partition": 0}]
    assert stats["log"]["fsync_p50_s"] == 0.0005
    topics = await get(client, "/queue/topics")
    assert topics["next_page_token"] == "more"
    assert topics["topics"][0]["storage"] == "disk"
    assert topics["topics"][0]["retention"]["age_s"] == 3600.0
    topic = await get(client, "/queue/topics/telemetry")
    assert topic["stats"] == stats["topics"][0]
    groups = await get(client, "/queue/groups")
    assert groups["groups"][0]["backoff_s"] == [1.5]
    assert (await get(client, "/queue/groups", topic="other"))["groups"] == []


@pytest.mark.parametrize("path", ["/gpus", "/hosts", "/metrics"])
async def test_inventories_are_not_sent_again_to_who_has_them(path: str, client: httpx.AsyncClient) -> None:
    first = await client.get(API + path)
    again = await client.get(API + path, headers={"If-None-Match": f'"other", {first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    changed = await client.get(API + path, headers={"If-None-Match": '"other"'})
    assert changed.status_code == 200


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("/gpus", {"page_size": -1}, "page_size"),
    ("/gpus", {"page_size": "many"}, "page_size"),
    ("/gpus", {"page_size": "1.5"}, "page_size"),
    ("/gpus", {"page_token": "mine"}, "page_token"),
    ("/gpus", {"page_token": "x" * 5000}, "page_token"),
    ("/gpus", {"prefix": "x" * 600}, "prefix"),
    ("/gpus", {"host": ""}, "host"),
    ("/gpus/" + "x" * 600, {}, "gpu"),
    ("/hosts", {"page_size": -1}, "page_size"),
    ("/hosts", {"page_size": "0x10"}, "page_size"),
    ("/hosts/node-1/gpus", {"page_size": -5}, "page_size"),
    ("/hosts/node-1/gpus", {"page_token": "mine"}, "page_token"),
    (RECORDS, {"start_time": "yesterday"}, "start_time"),
    (RECORDS, {"end_time": "2025-07-18T20:42:34"}, "end_time"),
    (RECORDS, {"start_time": "1e300"}, "start_time"),
    (RECORDS, {"start_time": "2000", "end_time": "1000"}, "end_time"),
    (RECORDS, {"start_time": "2000", "end_time": "2000"}, "end_time"),
    (RECORDS, {"limit": -1}, "limit"),
    (RECORDS, {"limit": "all"}, "limit"),
    (RECORDS, {"order": "random"}, "order"),
    (SERIES, {}, "metric"),
    (SERIES, {"metric": ""}, "metric"),
    (SERIES, {"metric": ["m"] * 51}, "metric"),
    (SERIES, {"metric": "temperature", "step": "fast"}, "step"),
    (SERIES, {"metric": "temperature", "step": "0s"}, "step"),
    (SERIES, {"metric": "temperature", "step": "1ms"}, "step"),  # the collector refuses it
    (SERIES, {"metric": "temperature", "agg": "mode"}, "agg"),
    (SERIES, {"metric": "temperature", "start_time": "soon"}, "start_time"),
    (SERIES, {"metric": "temperature", "end_time": "late"}, "end_time"),
    (SERIES, {"metric": "temperature", "start_time": 9, "end_time": 1}, "end_time"),
    ("/fleet", {"metric": ""}, "metric"),
    ("/fleet", {"metric": ["m"] * 51}, "metric"),
    ("/stream", {"gpu": ""}, "gpu"),
    ("/stream", {"metric": ""}, "metric"),
    ("/stream", {"host": "x" * 600}, "host"),
    ("/queue/topics", {"page_size": -1}, "page_size"),
    ("/queue/topics", {"page_token": "mine"}, "page_token"),
    ("/queue/topics/" + "t" * 300, {}, "topic"),
    ("/queue/groups", {"page_size": "x"}, "page_size"),
    ("/queue/groups", {"page_token": "mine"}, "page_token"),
    ("/queue/groups", {"topic": "t" * 300}, "topic"),
]


@pytest.mark.parametrize(("path", "parameters", "wrong"), WRONG)
async def test_a_wrong_parameter_is_named(
    path: str, parameters: dict[str, Any], wrong: str, client: httpx.AsyncClient
) -> None:
    answer = await problem(client, API + path, 400, **parameters)
    assert answer["parameter"] == wrong


async def test_all_wrong_parameters_are_listed(client: httpx.AsyncClient) -> None:
    answer = await problem(client, API + RECORDS, 400, limit=-1, order="random")
    assert [each["parameter"] for each in answer["errors"]] == ["limit", "order"]
    assert answer["detail"] == "limit: input should be greater than or equal to 0"


@pytest.mark.parametrize("last_id", ["x", "-1", "1.5", "9" * 19])
async def test_a_wrong_last_event_id_is_named(last_id: str, client: httpx.AsyncClient) -> None:
    answer = await client.get(f"{API}/stream", headers={"Last-Event-ID": last_id})
    assert answer.status_code == 400
    assert answer.json()["parameter"] == "Last-Event-ID"


@pytest.mark.parametrize(
    ("path", "parameter"),
    [("/hosts/nobody/gpus", "host"), ("/queue/topics/nothing", "topic"), ("/stream?gpu=nothing", "gpu")],
)
async def test_what_does_not_exist_is_not_found(path: str, parameter: str, client: httpx.AsyncClient) -> None:
    assert (await problem(client, API + path, 404))["parameter"] == parameter


@pytest.mark.parametrize("path", [API, f"{API}/", f"{API}/nothing", "/api/v2/gpus", "/metrics/nothing"])
async def test_a_path_that_does_not_exist_is_a_problem(path: str, client: httpx.AsyncClient) -> None:
    assert path in (await problem(client, path, 404))["detail"]


@pytest.mark.parametrize("path", [f"{API}/gpus", f"{API}/stream", "/", "/health"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_another_method_is_a_problem(method: str, path: str, client: httpx.AsyncClient) -> None:
    answer = await client.request(method, path, content=b"x" * 100_000)
    assert answer.status_code == 405
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", [f"{API}/fleet", f"{API}/stream", "/health", "/"])
async def test_head_is_answered_as_get_without_the_body(path: str, client: httpx.AsyncClient) -> None:
    head = await client.head(path)
    async with client.stream("GET", path) as answer:
        assert head.status_code == answer.status_code
        assert head.headers["content-type"] == answer.headers["content-type"]
    assert head.content == b""


async def test_a_service_that_is_not_there_is_503_with_the_time_to_try_again(tmp_path: Path) -> None:
    async with gateway_to(1, 1, static_folder=tmp_path) as gateway:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.api_port}", timeout=30) as client:
            for path, service in [("/fleet", "collector"), (RECORDS, "collector"), ("/queue/stats", "queue")]:
                answer = await client.get(API + path)
                assert answer.status_code == 503
                assert answer.headers["retry-after"] == "2"
                content = answer.json()
                assert (content["service"], content["code"]) == (service, "UNAVAILABLE")
                assert content["detail"] == f"the {service} at 127.0.0.1:1 cannot be reached"


async def test_what_a_service_says_of_its_troubles_is_passed_on(
    client: httpx.AsyncClient, collector: FakeCollector
) -> None:
    collector.fail = UnavailableError("recovering, half done", retry_after_s=6.5)
    answer = await client.get(f"{API}/gpus")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "7"
    assert (answer.json()["detail"], answer.json()["retry_after_s"]) == ("recovering, half done", 6.5)


async def test_an_unexpected_error_of_a_service_is_500_without_its_text(
    client: httpx.AsyncClient, collector: FakeCollector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.fail = ValueError("secret")
    answer = await problem(client, f"{API}/gpus", 500)
    assert answer["service"] == "collector"
    assert "secret" not in answer["detail"]


async def test_a_service_that_does_not_answer_in_time_is_504(
    queue_server: GrpcServer, collector_server: GrpcServer, collector: FakeCollector, tmp_path: Path
) -> None:
    collector.gate = asyncio.Event()
    async with gateway_to(queue_server.port, collector_server.port, deadline_s=0.1, static_folder=tmp_path) as gateway:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.api_port}", timeout=30) as client:
            answer = await problem(client, f"{API}/fleet", 504)
    assert answer["code"] == "DEADLINE_EXCEEDED"
    assert "did not answer in time" in answer["detail"]


async def test_every_call_has_a_deadline(client: httpx.AsyncClient, collector: FakeCollector) -> None:
    for path, _ in ROUTES:
        await client.get(API + path)
    assert min(collector.deadlines_s) > 0
    assert max(collector.deadlines_s) < 5.1


async def test_a_client_that_goes_away_takes_its_calls_with_it(
    client: httpx.AsyncClient, collector: FakeCollector
) -> None:
    collector.gate = asyncio.Event()
    request = asyncio.create_task(client.get(f"{API}/fleet"))
    await collector.called.wait()
    request.cancel()
    await collector.cancelled.wait()


async def test_big_answers_are_compressed_and_streams_are_not(client: httpx.AsyncClient) -> None:
    assert (await client.get(f"{API}/metrics")).headers["content-encoding"] == "gzip"
    assert "content-encoding" not in (await client.get(f"{API}/hosts")).headers
    plain = await client.get(f"{API}/metrics", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    async with client.stream("GET", f"{API}/stream") as stream:
        assert "content-encoding" not in stream.headers


async def test_requests_are_counted_by_route(client: httpx.AsyncClient) -> None:
    def line(route: str, status: int, method: str = "GET") -> str:
        return f'telemetry_gateway_requests_total{{method="{method}",route="{route}",status="{status}"}}'

    await client.get(f"{API}/gpus/{GPU_A}/telemetry")
    await client.get(f"{API}/gpus/nothing")
    await client.head(f"{API}/fleet")
    await client.get("/some/page")
    text = (await client.get("/metrics")).text
    assert line("/api/v1/gpus/{gpu:path}/telemetry", 200) in text
    assert line("/api/v1/gpus/{gpu:path}", 404) in text
    assert line("/api/v1/fleet", 200, "HEAD") in text
    assert line("page", 503) in text
    assert "telemetry_gateway_request_seconds_bucket" in text
    assert "telemetry_gateway_stream_clients" in text
