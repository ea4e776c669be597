"""The name of a request to the gateway is in the log of every service that was called for it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio

from gateway.openapi import API
from telemetry.collector.query_service import QueryService
from telemetry.runtime import grpc_server
from telemetry.runtime.logs import JsonFormatter
from tests.contract.whole_pipeline import Running, whole_pipeline

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLS: list[tuple[str, str, dict[str, Any], set[str]]] = [
    ("GET", "/fleet", {}, {"GetLatest", "ListGpus"}),
    ("GET", "/gpus?prefix=GPU", {}, {"ListGpus"}),
    ("GET", "/gpus/GPU-a", {}, {"GetLatest", "ListGpus"}),
    ("GET", "/gpus/GPU-a/telemetry", {}, {"ListGpus", "StreamRecords"}),
    ("GET", "/gpus/GPU-a/series?metric=temperature", {}, {"ListGpus", "QuerySeries"}),
    ("GET", "/hosts", {}, {"ListHosts"}),
    ("GET", "/stream?gpu=GPU-", {}, {"ListGpus"}),
    ("GET", "/queue/topics/telemetry", {}, {"GetStats", "GetTopic"}),
    ("GET", "/queue/topics/telemetry/messages?from=earliest", {}, {"Browse", "GetStats", "GetTopic"}),
    ("POST", "/queue/topics", {"name": "jobs"}, {"CreateTopic"}),
    ("POST", "/queue/topics/jobs:purge", {}, {"PurgeTopic"}),
    ("POST", "/queue/groups/collectors:seek", {"position": "earliest", "dry_run": True}, {"GetGroup", "SeekGroup"}),
    ("GET", "/alerts", {}, {"ListAlerts"}),
    ("GET", "/alerts/rules", {}, {"ListRules"}),
    ("DELETE", "/alerts/silences/none", {}, {"ExpireSilence"}),
    ("GET", "/health", {}, {"Check", "GetStats"}),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with whole_pipeline(Path(tmp_path_factory.mktemp("names"))) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=running.url + API, timeout=30) as client:
        yield client


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """What servers log, as they would write it."""
    lines: list[dict[str, Any]] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(orjson.loads(JsonFormatter("test").format(record)))

    handler, level = Lines(), grpc_server.log.level
    grpc_server.log.addHandler(handler)
    grpc_server.log.setLevel(logging.DEBUG)
    yield lines
    grpc_server.log.setLevel(level)
    grpc_server.log.removeHandler(handler)


@pytest.mark.parametrize(("method", "path", "body", "called"), CALLS, ids=[f"{each[0]} {each[1]}" for each in CALLS])
async def test_calls_are_logged_by_the_name_of_their_request(
    method: str,
    path: str,
    body: dict[str, Any],
    called: set[str],
    client: httpx.AsyncClient,
    lines: list[dict[str, Any]],
) -> None:
    name = f"{method}:{path.partition('?')[0]}"
    json = body if method == "POST" else None
    await client.request(method, path, json=json, headers={"X-Request-Id": name})
    named = {each["method"].rpartition("/")[2] for each in lines if each.get("request_id") == name}
    assert named == called
    # Only the gateway calls these services, and nobody else has asked it.
    assert [each for each in lines if "QueryService" in each["method"] and each.get("request_id") != name] == []


async def test_a_call_that_took_long_is_logged_by_the_name_of_its_request(
    client: httpx.AsyncClient, lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_server, "SLOW_S", 0.0)
    answer = await client.get("/hosts")
    slow = [each for each in lines if each["level"] == "info"]
    assert [(each["message"], each["request_id"]) for each in slow] == [
        ("a call took long", answer.headers["x-request-id"])
    ]


async def test_a_call_that_fails_is_logged_by_the_name_of_its_request(
    client: httpx.AsyncClient, lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(QueryService, "_list_hosts", fail)
    await client.get("/hosts", headers={"X-Request-Id": "r-3"})
    (line,) = [each for each in lines if each["level"] == "error"]
    assert (line["message"], line["request_id"]) == ("unexpected error", "r-3")
    assert "broken" in line["exception"]
