"""The collector's HTTP side."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from telemetry.codec import frame_of
from telemetry.collector.counters import Counters, collector_stats
from telemetry.collector.http_app import Check, collector_app
from telemetry.model import Record
from telemetry.storage.compactor import CompactionStats
from telemetry.storage.store import Batch
from telemetry.storage.tiered import TieredStore

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TieredStore]:
    opened = TieredStore(tmp_path)
    records = [Record(START + timedelta(seconds=second), "node/0", {"x": float(second)}) for second in range(20)]
    opened.commit(Batch([frame_of(records)]))
    yield opened
    opened.close()


@pytest.fixture
def checks() -> dict[str, Check]:
    return {"disk": Check(True, "fine")}


@pytest.fixture
def client(store: TieredStore, checks: dict[str, Check]) -> httpx.AsyncClient:
    app = collector_app(store, lambda: collector_stats(Counters(2), store.stats(), CompactionStats()), lambda: checks)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://collector")


async def test_a_gpu_shows_its_newest_records_first(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/telemetry/node%2F0")).json()
    assert (answer["gpu_id"], answer["count"]) == ("node/0", 10)
    assert answer["telemetry"][0] == {"timestamp": "2026-01-01T00:00:19Z", "gpu_id": "node/0", "metrics": {"x": 19.0}}
    assert [record["metrics"]["x"] for record in answer["telemetry"]] == [float(second) for second in range(19, 9, -1)]
    assert (await client.get("/telemetry/node/0?limit=3")).json()["count"] == 3
    assert (await client.get("/telemetry/node/0?limit=10000")).json()["count"] == 20


@pytest.mark.parametrize("limit", ["0", "-1", "x", "10001", "1.5", "", "²", "9" * 5000, "000000001999999"])
async def test_a_bad_limit_is_named(client: httpx.AsyncClient, limit: str) -> None:
    response = await client.get("/telemetry/node/0", params={"limit": limit})
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["parameter"] == "limit"
    assert response.json()["detail"].startswith("limit is ")


async def test_an_unknown_gpu_is_named(client: httpx.AsyncClient) -> None:
    response = await client.get("/telemetry/nobody")
    assert response.status_code == 404
    assert "nobody" in response.json()["detail"]


async def test_health_says_what_is_wrong(client: httpx.AsyncClient, checks: dict[str, Check]) -> None:
    assert (await client.get("/health")).json()["status"] == "ok"
    checks["disk"] = Check(False, "no space left")
    answer = (await client.get("/health")).json()
    assert answer["status"] == "degraded"
    assert answer["checks"]["disk"] == {"ok": False, "detail": "no space left"}


async def test_statistics_have_the_contracts_names(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/stats")).json()
    assert (answer["gpus"], answer["workers"]) == (1, 2)
    assert answer["start_time"].endswith("Z")
    assert answer["checkpoint_time"].endswith("Z")


async def test_memory_is_reported_with_its_limits(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/memory-stats")).json()
    assert answer["cached_records"] == 20
    assert answer["records_per_gpu"] == {"min": 20, "median": 20, "max": 20}
    assert answer["limits"]["records_per_gpu"] == 1000
    assert answer["process_rss_bytes"] > 1_000_000


async def test_paths_that_do_not_exist_are_problems(client: httpx.AsyncClient) -> None:
    response = await client.get("/nothing")
    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")
