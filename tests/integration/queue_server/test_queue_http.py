"""The queue's HTTP pages over a real port."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx
import pytest
from google.protobuf.json_format import MessageToDict
from prometheus_client.parser import text_string_to_metric_families

from telemetry import __version__
from telemetry.queue.engines.disk import DiskEngine
from telemetry.queue.engines.memory import MemoryEngine
from telemetry.queue.server import QueueServer
from telemetry.v1 import queue_admin_pb2
from tests.integration.queue_server.wire_client import Client, read_delivery


@pytest.fixture
async def http(server: QueueServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.http_port}") as http:
        yield http


async def test_health_says_what_runs(http: httpx.AsyncClient) -> None:
    answer = await http.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "version": __version__, "engine": "memory"}


async def test_a_draining_queue_is_not_healthy(http: httpx.AsyncClient, server: QueueServer) -> None:
    await server.drain(within_s=0)
    answer = await http.get("/health")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == "the queue is shutting down"
    assert answer.json()["engine"] == "memory"


async def test_stats_have_the_names_and_values_of_the_admin_call(http: httpx.AsyncClient, client: Client) -> None:
    await client.publish("t", b"one", b"two")
    call = await client.subscribe("t", group="g", member="m")
    await read_delivery(call)
    shown = (await http.get("/stats")).json()
    message = (await client.admin.GetStats(queue_admin_pb2.GetStatsRequest())).stats
    called = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    assert set(shown) - {"log"} == set(called)
    assert (shown["version"], shown["engine"], shown["connections"], shown["log"]) == (__version__, "memory", 1, None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", shown["start_time"])
    assert shown["topics"][0]["partitions"] == [{"partition": 0, "start_offset": 0, "end_offset": 2, "bytes": 14}]
    group, called_group = shown["groups"][0], called["groups"][0]
    durations = {"oldest_unacked_age", "lag_age"}
    assert {name.removesuffix("_s") if name.removesuffix("_s") in durations else name for name in group} == set(
        called_group
    )
    assert (group["mode"], group["unacked"], group["lag_messages"]) == ("shared", 2, 2)
    assert group["oldest_unacked_age_s"] >= 0
    assert set(group["members"][0]) == set(called_group["members"][0])
    assert group["members"][0]["permits_bytes"] == 0, "not limited"
    call.cancel()


async def test_the_log_of_a_queue_on_disk_is_shown(tmp_path: Path) -> None:
    async with (
        QueueServer(DiskEngine(tmp_path / "queue"), grpc_port=0, http_port=0) as server,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.http_port}") as http,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        client = Client(channel)
        await client.publish("t", b"one")
        log = (await http.get("/stats")).json()["log"]
        called = (await client.admin.GetStats(queue_admin_pb2.GetStatsRequest())).stats.log
        assert [name.removesuffix("_s") for name in log] == [field.name for field in called.DESCRIPTOR.fields]
        assert (log["bytes"], log["segments"]) == (called.bytes, called.segments)
        assert log["fsyncs"] >= 1
        assert log["fsync_p99_s"] >= log["fsync_p50_s"] > 0
        assert f"telemetry_queue_log_bytes {float(log['bytes'])}" in (await http.get("/metrics")).text


async def test_topics_are_listed_with_their_counts(http: httpx.AsyncClient, client: Client) -> None:
    await client.publish("b", b"one")
    await client.publish("a", b"one")
    topics = (await http.get("/topics")).json()["topics"]
    assert [topic["name"] for topic in topics] == ["a", "b"]
    assert (topics[0]["partitions"], topics[0]["storage"], topics[0]["stats"]["messages"]) == (1, "memory", 1)
    assert topics[0]["retention"] == {"age_s": None, "bytes": 0, "drop_unacked": False, "drop_acked": False}


async def test_metrics_can_be_scraped(http: httpx.AsyncClient, client: Client) -> None:
    await client.publish("t", b"one", b"two")
    call = await client.subscribe("t", group="g", member="m")
    await client.settle((await read_delivery(call)).delivery_id)
    text = (await http.get("/metrics")).text
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    group = ("group", "g")
    assert samples["telemetry_queue_connections",] == 1
    assert samples["telemetry_queue_topic_messages", ("topic", "t")] == 2
    assert samples["telemetry_queue_topic_published_messages_total", ("topic", "t")] == 2
    assert samples["telemetry_queue_partition_end_offset", ("partition", "0"), ("topic", "t")] == 2
    assert samples["telemetry_queue_group_acked_messages_total", group] == 2
    assert samples["telemetry_queue_group_lag_messages", group] == 0
    assert samples["telemetry_queue_group_members", group] == 1
    assert samples["telemetry_queue_member_permits_messages", group, ("member", "m")] == 998
    assert ("telemetry_queue_group_lag_seconds", group) not in samples
    publishes = ("code", "OK"), ("method", "/telemetry.v1.QueueService/Publish")
    assert samples["telemetry_grpc_calls_total", *publishes] >= 1
    assert all(str(name).startswith(("telemetry_", "python_", "process_")) for name, *_ in samples)
    call.cancel()


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("POST", "/stats", 405)])
async def test_what_is_not_there_is_a_problem(http: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    answer = await http.request(method, path)
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert answer.headers["content-type"] == "application/problem+json"


class SlowEngine(MemoryEngine):
    """Recovers when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.recovered = asyncio.Event()

    async def start(self) -> None:
        await self.recovered.wait()
        await super().start()


async def test_nothing_is_served_until_recovery_is_done() -> None:
    engine = SlowEngine()
    server = QueueServer(engine, grpc_port=0, http_port=0)
    starting = asyncio.create_task(server.start())
    while server.grpc_port == 0:
        await asyncio.sleep(0)
    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.http_port}") as http,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        for page in ("/health", "/stats", "/topics", "/metrics"):
            answer = await http.get(page)
            assert answer.status_code == 503, page
            assert "starting" in answer.json()["detail"]
            assert answer.headers["retry-after"] == "1"
        client = Client(channel)
        services = ("", "telemetry.v1.QueueService", "telemetry.v1.QueueAdminService")
        assert [await client.health(service) for service in services] == [2, 2, 2], "NOT_SERVING"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.admin.GetStats(queue_admin_pb2.GetStatsRequest())
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        engine.recovered.set()
        await starting
        assert [await client.health(service) for service in services] == [1, 1, 1], "SERVING"
        assert (await http.get("/health")).json()["status"] == "ok"
    await server.stop()
