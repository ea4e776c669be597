"""The queue administered over REST: a gateway in front of a real queue."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from gateway.server import GatewayServer
from telemetry.codec import ARROW_CONTENT_TYPE, JSON_CONTENT_TYPE, encode_arrow, encode_json, frame_of
from telemetry.live import LIVE_CONTENT_TYPE, LiveColumn, LiveUpdate
from telemetry.model import Record
from telemetry.queue.engines.memory import MemoryEngine
from telemetry.queue.server import QueueServer
from telemetry.runtime.grpc_server import CHANNEL_OPTIONS
from tests.integration.queue_server.wire_client import Client, read_delivery

TIME = datetime(2025, 7, 18, 20, 42, 34, tzinfo=UTC)


@pytest.fixture
async def queue() -> AsyncIterator[QueueServer]:
    async with QueueServer(MemoryEngine(), grpc_port=0, http_port=0) as server:
        yield server


@pytest.fixture
async def wire(queue: QueueServer) -> AsyncIterator[Client]:
    """Talks to the queue itself."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{queue.grpc_port}", options=CHANNEL_OPTIONS) as channel:
        yield Client(channel)


def gateway_to(queue: QueueServer, tmp_path: Path, **settings: Any) -> GatewayServer:
    return GatewayServer(
        host="127.0.0.1",
        dashboard_port=0,
        api_port=0,
        queue=f"127.0.0.1:{queue.grpc_port}",
        collectors=["127.0.0.1:1"],
        streamer_http="127.0.0.1:1",
        audit_log=tmp_path / "audit.jsonl",
        **settings,
    )


def client_of(gateway: GatewayServer) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.api_port}/api/v1/queue", timeout=30)


@pytest.fixture
async def api(queue: QueueServer, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Asks a gateway with --admin."""
    async with gateway_to(queue, tmp_path, admin=True) as gateway, client_of(gateway) as client:
        yield client


async def publish_as(wire: Client, data: bytes, kind: str) -> None:
    """Publish a message of a content type to `t`."""
    request = wire.request("t", data)
    if kind:
        request.batch.messages[0].attributes["content-type"] = kind
    call = wire.queue.Publish()
    await call.write(request)
    await call.done_writing()
    await call.read()


async def ended(api: httpx.AsyncClient, task: dict[str, Any]) -> dict[str, Any]:
    """A task once it has ended."""
    while True:
        now: dict[str, Any] = (await api.get(f"/tasks/{task['id']}")).json()
        if now["state"] != "running":
            return now
        await asyncio.sleep(0.01)


async def audit(api: httpx.AsyncClient, **parameters: Any) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = (await api.get("/audit", params=parameters)).json()["entries"]
    return entries


# Looking


async def test_messages_are_shown_as_what_they_hold(api: httpx.AsyncClient, wire: Client) -> None:
    record = Record(TIME, "GPU-1", {"temperature": 63.0}, {"host": "node-1"})
    update = LiveUpdate(["GPU-1"], [0], {"temperature": LiveColumn([41.0], [40.0], [42.0])}, {"GPU-2": {"host": "n"}})
    bad_row = {"source": "a.csv", "line": 7, "reason": "no time", "raw": "x"}
    for data, kind in (
        (encode_arrow(frame_of([record] * 250)), ARROW_CONTENT_TYPE),
        (encode_json(record), JSON_CONTENT_TYPE),
        (update.encode(), LIVE_CONTENT_TYPE),
        (json.dumps(bad_row).encode(), JSON_CONTENT_TYPE),
        (b"hello", ""),
        (b"\xff\x00", ""),
        (b"not arrow", ARROW_CONTENT_TYPE),
    ):
        await publish_as(wire, data, kind)
    page = (await api.get("/topics/t/messages", params={"from": "earliest"})).json()
    arrow, one, live, row, text, binary, broken = page["messages"]
    shown = {
        "timestamp": "2025-07-18T20:42:34Z",
        "gpu": "GPU-1",
        "metrics": {"temperature": 63.0},
        "labels": {"host": "node-1"},
    }
    assert (arrow["kind"], arrow["rows_total"], len(arrow["rows"]), arrow["rows"][0]) == ("records", 250, 100, shown)
    assert (one["kind"], one["rows"]) == ("records", [shown])
    assert [each["gpu"] for each in live["rows"]] == ["GPU-1", "GPU-2"]
    assert (row["kind"], row["rows"]) == ("json", [bad_row])
    assert (text["kind"], text["text"], text["base64"]) == ("text", "hello", None)
    assert (binary["kind"], base64.b64decode(binary["base64"])) == ("binary", b"\xff\x00")
    assert (broken["kind"], broken["text"]) == ("text", "not arrow")
    assert broken["problem"].startswith("not an Arrow stream")
    assert page["next"] == {"0": 7}


async def test_a_large_message_is_cut_and_says_so(api: httpx.AsyncClient, wire: Client) -> None:
    await wire.publish("t", b"x" * 200_000)
    (message,) = (await api.get("/topics/t/messages")).json()["messages"]
    assert (message["bytes"], len(message["text"]), message["truncated"]) == (200_000, 65_536, True)


async def test_pages_lead_through_all_partitions_in_the_order_of_time(api: httpx.AsyncClient, wire: Client) -> None:
    await api.post("/topics", json={"name": "t", "partitions": 4})
    sent = [f"{number}".encode() for number in range(20)]
    for number, data in enumerate(sent):
        await wire.publish("t", data, partition=number % 3)
    seen: list[str] = []
    begin = "earliest"
    while True:
        page = (await api.get("/topics/t/messages", params={"from": begin, "limit": 6})).json()
        if not page["messages"]:
            break
        seen += [each["text"] for each in page["messages"]]
        begin = ",".join(f"{partition}:{offset}" for partition, offset in page["next"].items())
    assert seen == [data.decode() for data in sent]
    assert page["next"] == {"0": 7, "1": 7, "2": 6, "3": 0}
    newest = (await api.get("/topics/t/messages", params={"limit": 6})).json()
    assert [each["text"] for each in newest["messages"]] == ["19", "18", "17", "16", "15", "14"]
    one = (await api.get("/topics/t/messages", params={"partition": 1, "from": "5"})).json()
    assert [each["offset"] for each in one["messages"]] == [5, 6]


async def test_a_wrong_place_is_refused_by_name(api: httpx.AsyncClient) -> None:
    await api.post("/topics", json={"name": "t", "partitions": 2})
    wrong: list[tuple[dict[str, Any], str, int]] = [
        ({"from": "soon"}, "from", 400),
        ({"from": "99999999999999999999"}, "from", 400),
        ({"from": "0:99999999999999999999"}, "from", 400),
        ({"from": "5:1"}, "from", 404),
        ({"from": "0:1", "partition": 1}, "from", 400),
        ({"partition": 7}, "partition", 404),
        ({"partition": "first"}, "partition", 400),
        ({"limit": -1}, "limit", 400),
    ]
    for parameters, named, status in wrong:
        answer = await api.get("/topics/t/messages", params=parameters)
        assert (answer.status_code, answer.json()["parameter"]) == (status, named), parameters


# Changes


async def test_a_topic_is_made_changed_purged_and_removed(api: httpx.AsyncClient, wire: Client) -> None:
    made = await api.post("/topics", json={"name": "jobs", "partitions": 2, "retention": {"age_s": 90}})
    assert (made.status_code, made.headers["Location"]) == (201, "/api/v1/queue/topics/jobs")
    assert (made.json()["partitions"], made.json()["retention"]["age_s"]) == (2, 90)
    again = await api.post("/topics", json={"name": "jobs"})
    assert (again.status_code, again.json()["code"]) == (409, "ALREADY_EXISTS")
    changed = (await api.patch("/topics/jobs", json={"retention": {"bytes": 1000}})).json()["retention"]
    assert (changed["age_s"], changed["bytes"]) == (90, 1000)
    assert (await api.patch("/topics/jobs", json={"retention": {"age_s": None}})).json()["retention"]["age_s"] is None
    for number in range(5):
        await wire.publish("jobs", f"{number}".encode(), partition=1)
    assert (await api.post("/topics/jobs:purge", json={"partition": 1, "before_offset": 2})).json() == {"messages": 2}
    assert (await api.post("/topics/jobs:purge", json={})).json() == {"messages": 3}
    assert (await api.delete("/topics/jobs")).status_code == 204
    assert (await api.delete("/topics/jobs")).status_code == 404
    assert [(each["action"], each["outcome"]) for each in await audit(api)] == [
        ("topic.delete", "refused"),
        ("topic.delete", "done"),
        ("topic.purge", "done"),
        ("topic.purge", "done"),
        ("topic.update", "done"),
        ("topic.update", "done"),
        ("topic.create", "refused"),
        ("topic.create", "done"),
    ]


WRONG_BODIES: list[tuple[str, str, Any, str]] = [
    ("POST", "/topics", {}, "name"),
    ("POST", "/topics", {"name": "a", "colour": 1}, "colour"),
    ("POST", "/topics", {"name": "a", "partitions": 4000}, "partitions"),
    ("POST", "/topics", {"name": "a", "partitions": "2"}, "partitions"),
    ("POST", "/topics", {"name": "NO"}, "name"),
    ("POST", "/topics", {"name": "a", "retention": {"age_s": -1}}, "retention.age_s"),
    ("POST", "/topics", {"name": "a", "limits": {"batch_bytes": 1 << 70}}, "limits.batch_bytes"),
    ("POST", "/topics", [], "body"),
    ("POST", "/topics/t:purge", {"partition": -1}, "partition"),
    ("POST", "/topics/t:purge", {"partition": 9}, "partition"),
    ("POST", "/groups/readers:seek", {"position": "soon"}, "position"),
    ("POST", "/groups/readers:seek", {"position": "earliest", "partition": 0}, "topic"),
    ("POST", "/topics/t/dead-letters:discard", {}, "body"),
    ("POST", "/topics/t/dead-letters:discard", {"all": True, "offsets": [1]}, "body"),
    ("POST", "/topics/t/dead-letters:replay", {"all": True, "rate": -5}, "rate"),
    ("POST", "/topics/t/dead-letters:replay", {"offsets": [77]}, "offsets"),
]


async def test_a_wrong_body_is_refused_by_name(api: httpx.AsyncClient, wire: Client) -> None:
    await wire.bury("t", b"one")
    for method, path, body, named in WRONG_BODIES:
        answer = await api.request(method, path, json=body)
        assert 400 <= answer.status_code < 500, (path, body, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["parameter"] == named, (path, body)


async def test_a_body_that_is_no_json_is_refused(api: httpx.AsyncClient) -> None:
    answer = await api.post("/topics", content=b"{", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["parameter"]) == (400, "body")


async def test_a_seek_says_first_and_then_moves(api: httpx.AsyncClient, wire: Client) -> None:
    for number in range(10):
        await wire.publish("t", f"{number}".encode())
    call = await wire.subscribe("t", group="readers")
    for _ in range(10):
        delivery = await read_delivery(call)
        await wire.settle(delivery.delivery_id)
    in_the_way = await api.post("/groups/readers:seek", json={"position": "4"})
    assert (in_the_way.status_code, in_the_way.json()["code"]) == (409, "FAILED_PRECONDITION")
    call.cancel()
    tried = (await api.post("/groups/readers:seek", json={"position": "4", "dry_run": True, "force": True})).json()
    (position,) = tried["positions"]
    assert tried["dry_run"]
    assert (position["acked_through_before"], position["acked_through"]) == (10, 4)
    assert (position["again"], position["skipped"]) == (6, 0)
    assert (await api.get("/groups/readers")).json()["positions"][0]["acked_through"] == 10
    moved = (await api.post("/groups/readers:seek", json={"position": "4", "force": True})).json()
    assert moved["positions"] == tried["positions"]
    assert (await api.get("/groups/readers")).json()["positions"][0]["acked_through"] == 4
    future = (TIME + timedelta(days=36_500)).isoformat()
    (skipped,) = (await api.post("/groups/readers:seek", json={"position": future})).json()["positions"]
    assert (skipped["again"], skipped["skipped"]) == (0, 6)
    assert [each["outcome"] for each in await audit(api)] == ["done", "done", "refused"]


async def test_a_group_is_removed_and_with_members_only_by_force(api: httpx.AsyncClient, wire: Client) -> None:
    await wire.publish("t", b"one")
    call = await wire.subscribe("t", group="readers")
    assert (await api.get("/groups/readers")).json()["stats"]["members"]
    assert (await api.delete("/groups/readers")).status_code == 409
    assert (await api.delete("/groups/readers", params={"force": "true"})).status_code == 204
    assert (await api.get("/groups/readers")).status_code == 404
    call.cancel()


# Dead letters


async def test_dead_letters_say_where_they_came_from_and_go_back_there(api: httpx.AsyncClient, wire: Client) -> None:
    assert (await api.get("/topics/t/dead-letters")).status_code == 404
    await wire.publish("t", b"zero")
    none = (await api.get("/topics/t/dead-letters")).json()
    assert none == {"topic": "t.dead-letter", "total": 0, "messages": [], "next": {}}
    await wire.bury("t", b"zero", b"one")
    page = (await api.get("/topics/t/dead-letters")).json()
    assert (page["topic"], page["total"]) == ("t.dead-letter", 2)
    origin = page["messages"][1]["origin"]
    assert (origin["topic"], origin["partition"], origin["offset"]) == ("t", 0, 1)
    assert (origin["group"], origin["attempts"], origin["reason"]) == ("readers", 1, "no good")
    answer = await api.post("/topics/t/dead-letters:replay", json={"offsets": [1]})
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/api/v1/queue/tasks/{answer.json()['id']}"
    task = await ended(api, answer.json())
    assert (task["kind"], task["state"], task["done"], task["total"], task["error"]) == ("replay", "done", 1, 1, "")
    assert task["finished_at"] >= task["started_at"]
    assert [each["text"] for each in (await api.get("/topics/t.dead-letter/dead-letters")).json()["messages"]] == [
        "zero"
    ]
    discarded = await ended(api, (await api.post("/topics/t/dead-letters:discard", json={"all": True})).json())
    assert (discarded["state"], discarded["done"]) == ("done", 1)
    assert (await api.get("/topics/t/dead-letters")).json()["total"] == 0
    assert [each["id"] for each in (await api.get("/tasks")).json()["tasks"]] == [discarded["id"], task["id"]]
    assert [(each["action"], each["outcome"], each["detail"]) for each in await audit(api)] == [
        ("dead-letters.discard", "done", "1 of 1"),
        ("dead-letters.replay", "done", "1 of 1"),
    ]


async def test_a_replay_shows_progress_and_stops_when_cancelled(api: httpx.AsyncClient, wire: Client) -> None:
    await wire.bury("t", *(b"%d" % number for number in range(30)))
    task = (await api.post("/topics/t/dead-letters:replay", json={"all": True, "rate": 1})).json()
    assert (task["state"], task["total"]) == ("running", 30)
    second = await api.post("/topics/t/dead-letters:replay", json={"all": True})
    assert (second.status_code, second.json()["code"]) == (409, "FAILED_PRECONDITION")
    stopped = (await api.delete(f"/tasks/{task['id']}")).json()
    assert stopped["state"] == "cancelled"
    assert stopped["finished_at"]
    assert (await api.delete(f"/tasks/{task['id']}")).json() == stopped
    assert (await api.get("/topics/t/dead-letters")).json()["total"] >= 25
    assert [each["outcome"] for each in await audit(api)] == ["refused", "cancelled"]
    again = await ended(api, (await api.post("/topics/t/dead-letters:replay", json={"all": True, "rate": 1000})).json())
    assert again["state"] == "done"


async def test_what_is_alive_is_not_replayed_or_discarded(api: httpx.AsyncClient, wire: Client) -> None:
    await wire.publish("t", b"one")
    for what in ("replay", "discard"):
        assert (await api.post(f"/topics/t/dead-letters:{what}", json={"all": True})).status_code == 404
    assert (await api.get("/tasks/none")).status_code == 404
    assert (await api.delete("/tasks/none")).status_code == 404


async def test_a_gateway_that_ends_stops_its_tasks(queue: QueueServer, wire: Client, tmp_path: Path) -> None:
    await wire.bury("t", *(b"%d" % number for number in range(30)))
    async with gateway_to(queue, tmp_path, admin=True) as gateway, client_of(gateway) as api:
        await api.post("/topics/t/dead-letters:replay", json={"all": True, "rate": 1})
    async with gateway_to(queue, tmp_path, admin=True) as gateway, client_of(gateway) as api:
        (entry,) = await audit(api)
        assert (entry["action"], entry["outcome"]) == ("dead-letters.replay", "cancelled")


# Who may, and what is written down


CHANGES = [
    ("POST", "/topics"),
    ("PATCH", "/topics/t"),
    ("DELETE", "/topics/t"),
    ("POST", "/topics/t:purge"),
    ("DELETE", "/groups/readers"),
    ("POST", "/groups/readers:seek"),
    ("POST", "/topics/t/dead-letters:replay"),
    ("POST", "/topics/t/dead-letters:discard"),
    ("DELETE", "/tasks/1"),
    ("GET", "/audit"),
]


async def test_nothing_can_be_changed_without_admin(queue: QueueServer, wire: Client, tmp_path: Path) -> None:
    await wire.bury("t", b"one")
    async with gateway_to(queue, tmp_path) as gateway, client_of(gateway) as api:
        for method, path in CHANGES:
            answer = await api.request(method, path, json={} if method != "GET" else None)
            assert answer.status_code == 403, path
            assert "--admin" in answer.json()["detail"], path
        for path in ("/topics/t/messages", "/topics/t/dead-letters", "/groups/readers", "/tasks"):
            assert (await api.get(path)).status_code == 200, path
    assert not (tmp_path / "audit.jsonl").read_text()


async def test_changes_are_on_the_disk_and_come_back(queue: QueueServer, tmp_path: Path) -> None:
    async with gateway_to(queue, tmp_path, admin=True) as gateway, client_of(gateway) as api:
        await api.post("/topics", json={"name": "jobs"}, headers={"X-Request-Id": "my-request"})
    begun, done = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert begun["id"] == done["id"]
    assert (begun["outcome"], done["outcome"]) == ("begun", "done")
    assert (done["action"], done["target"], done["parameters"]) == ("topic.create", "jobs", {"name": "jobs"})
    assert done["peer"].startswith("127.0.0.1:")
    assert done["request_id"]
    async with gateway_to(queue, tmp_path, admin=True) as gateway, client_of(gateway) as api:
        assert await audit(api) == [done]


async def test_a_change_that_cannot_be_written_down_is_not_made(queue: QueueServer, tmp_path: Path) -> None:
    async with gateway_to(queue, tmp_path, admin=True) as gateway, client_of(gateway) as api:
        (tmp_path / "audit.jsonl").unlink()
        (tmp_path / "audit.jsonl").mkdir()
        answer = await api.post("/topics", json={"name": "jobs"})
        assert (answer.status_code, answer.json()["title"]) == (503, "Service Unavailable")
        assert (await api.get("/topics/jobs")).status_code == 404


async def test_a_change_whose_answer_is_lost_is_written_down_as_unknown(queue: QueueServer, tmp_path: Path) -> None:
    async with gateway_to(queue, tmp_path, admin=True, deadline_s=1.0) as gateway, client_of(gateway) as api:
        await queue.stop()
        answer = await api.post("/topics", json={"name": "jobs"})
        assert answer.status_code in (503, 504)
        (entry,) = await audit(api)
        assert entry["outcome"] == "unknown"
