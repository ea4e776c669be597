"""Alerts over REST and in the live stream, in front of a real AlertService with rules whose results a test decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.alerts import schemas as alert_schemas
from gateway.server import GatewayServer
from tests.unit.alerts_service.fakes import ScriptedRules, group, rule
from tests.unit.alerts_service.serving import WAIT_S, Serving, alerts_server
from tests.unit.gateway.services import SseEvent, SseReader, event_stream, gateway_to

API = "/api/v1/alerts"


@pytest.fixture
async def serving(tmp_path: Path) -> AsyncIterator[Serving]:
    hot, slow = rule("Hot"), rule("Slow", for_s=60)
    async with alerts_server(
        tmp_path, ScriptedRules([group("gpus", [hot, slow]), group("more", [rule("", record="r")])])
    ) as made:
        yield made


@pytest.fixture
async def gateway(serving: Serving, tmp_path: Path) -> AsyncIterator[GatewayServer]:
    """A gateway with nothing behind it but alerts."""
    alerts = f"127.0.0.1:{serving.server.grpc_port}"
    async with gateway_to(1, 1, static_folder=tmp_path / "static", alerts=alerts, admin=True) as server:
        yield server


@pytest.fixture
async def client(gateway: GatewayServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.api_port}", timeout=30) as http:
        yield http


async def get(client: httpx.AsyncClient, path: str, **parameters: Any) -> Any:
    answer = await client.get(API + path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def silence(*matchers: tuple[str, str, str], **fields: Any) -> dict[str, Any]:
    return {
        "matchers": [{"name": name, "op": op, "value": value} for name, op, value in matchers],
        "ends_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        "author": "kim",
        "comment": "being repaired",
    } | fields


async def test_alerts_can_be_found_by_all_that_they_have(serving: Serving, client: httpx.AsyncClient) -> None:
    await serving.tick("a", "b", "c", true={"Hot": {"a": 95.0, "b": 96.5}, "Slow": {"a": 0.5, "c": float("nan")}})
    await serving.tick("a", "b", "c", true={"Hot": {"a": 95.0}, "Slow": {"a": 0.5, "c": float("nan")}})
    everything = await get(client, "", state=["resolved", "pending", "firing"])
    alert_schemas.AlertPage.model_validate(everything, extra="forbid")
    assert [(each["rule"], each["gpu"], each["state"]) for each in everything["alerts"]] == [
        ("Hot", "a", "firing"),
        *sorted([("Slow", "a", "pending"), ("Slow", "c", "pending")], key=lambda each: order(everything, each)),
        ("Hot", "b", "resolved"),
    ]
    hot = everything["alerts"][0]
    assert (hot["severity"], hot["value"], hot["resolved_at"], hot["silenced_by"]) == ("critical", 95.0, None, [])
    assert hot["active_since"] == hot["firing_since"]
    assert everything["alerts"][1]["firing_since"] is None
    assert everything["alerts"][-1]["resolved_at"] is not None

    async def found(**filters: Any) -> list[str]:
        page = await get(client, "", **filters)
        assert page["total"] == len(page["alerts"])
        return sorted(f"{each['rule']} {each['gpu']}" for each in page["alerts"])

    assert await found() == ["Hot a", "Slow a", "Slow c"]
    assert await found(state="pending") == ["Slow a", "Slow c"]
    assert await found(state=["firing", "resolved"]) == ["Hot a", "Hot b"]
    assert await found(severity="critical", state="firing") == ["Hot a"]
    assert await found(severity="warning") == []
    assert await found(gpu="a") == ["Hot a", "Slow a"]
    assert await found(gpu="a", rule="Slow") == ["Slow a"]
    assert await found(gpu="nobody") == []
    assert await found(silenced=False) == ["Hot a", "Slow a", "Slow c"]
    assert await found(silenced=True) == []
    host = hot["host"]
    assert await found(host=host, state="firing") == ["Hot a"]


def order(page: dict[str, Any], wanted: tuple[str, str, str]) -> int:
    """Alerts of one rule are in the order of their ids."""
    return [(each["rule"], each["gpu"], each["state"]) for each in page["alerts"]].index(wanted)


async def test_pages_of_several_states_leave_nothing_out(serving: Serving, client: httpx.AsyncClient) -> None:
    await serving.tick("a", "b", "c", true={"Hot": {"a": 1, "b": 1, "c": 1}, "Slow": {"a": 1, "b": 1}})
    await serving.tick("a", "b", "c", true={"Hot": {"a": 1}, "Slow": {"a": 1, "b": 1}})
    states = ["firing", "pending", "resolved"]
    whole = (await get(client, "", state=states))["alerts"]
    assert len(whole) == 5
    for size in (1, 2, 3, 4, 7):
        pages: list[list[Any]] = []
        token = ""
        while token or not pages:
            page = await get(client, "", state=states, page_size=size, page_token=token)
            assert page["total"] == 5
            pages.append(page["alerts"])
            token = page["next_page_token"]
        assert [each for page in pages for each in page] == whole
        assert [len(page) for page in pages[:-1]] == [size] * (len(pages) - 1)


async def test_rules_tell_how_they_fare(serving: Serving, client: httpx.AsyncClient) -> None:
    await serving.tick("a", "b", true={"Hot": {"a": 95.0}, "Slow": {"a": 0.5, "b": 0.5}})
    rules = await get(client, "/rules")
    alert_schemas.Rules.model_validate(rules, extra="forbid")
    hot, slow = rules["groups"][0]["rules"]
    assert (hot["name"], hot["type"], hot["state"], hot["active"], hot["health"]) == (
        "Hot",
        "alerting",
        "firing",
        1,
        "ok",
    )
    assert (slow["name"], slow["state"], slow["active"], slow["for_s"]) == ("Slow", "pending", 2, 60.0)
    assert (rules["groups"][1]["rules"][0]["name"], rules["groups"][1]["rules"][0]["type"]) == ("r", "recording")
    assert rules["error"] == ""
    assert rules["loaded_at"]


async def test_a_silence_is_made_shown_and_ended(serving: Serving, client: httpx.AsyncClient) -> None:
    await serving.tick("a", "b", true={"Hot": {"a": 95.0, "b": 95.0}})
    made = await client.post(API + "/silences", json=silence(("UUID", "=", "a")), headers={"X-Request-Id": "r-1"})
    assert made.status_code == 201, made.text
    content = made.json()
    alert_schemas.Silence.model_validate(content, extra="forbid")
    assert made.headers["location"] == f"{API}/silences/{content['id']}"
    assert (content["state"], content["matching"], content["author"]) == ("active", 1, "kim")
    assert content["matchers"] == [{"name": "UUID", "value": "a", "op": "="}]
    page = await get(client, "/silences")
    alert_schemas.SilencePage.model_validate(page, extra="forbid")
    assert page == {"silences": [content], "next_page_token": ""}
    await serving.tick("a", "b")
    (silenced,) = (await get(client, "", silenced=True))["alerts"]
    assert (silenced["gpu"], silenced["silenced_by"]) == ("a", [content["id"]])

    ended = await client.delete(made.headers["location"])
    assert (ended.status_code, ended.content) == (204, b"")
    assert [each["state"] for each in (await get(client, "/silences"))["silences"]] == ["expired"]
    assert (await get(client, "/silences", state="active"))["silences"] == []
    again = await client.delete(made.headers["location"])
    assert (again.status_code, "has ended already" in again.json()["detail"]) == (409, True)
    unknown = await client.delete(f"{API}/silences/none")
    assert (unknown.status_code, unknown.json()["parameter"]) == (404, "silence")

    audit = (await client.get("/api/v1/queue/audit")).json()["entries"]
    assert [(each["action"], each["outcome"]) for each in audit[-2:]] == [
        ("silence.expire", "done"),
        ("silence.create", "done"),
    ]
    assert (audit[-1]["target"], audit[-1]["request_id"]) == ("UUID=a", "r-1")


WRONG_SILENCES: list[tuple[Any, str]] = [
    (silence(), "matchers"),
    (silence(("no name", "=", "a")), "matchers.0.name"),
    (silence(("UUID", "~", "a")), "matchers.0.op"),
    (silence(("UUID", "=", "a"), ("host", "=~", "(")), "matchers.1.value"),
    (silence(("UUID", "=~", ".*")), "matchers"),
    (silence(("UUID", "=", "a"), ends_at="2020-01-01T00:00:00Z"), "ends_at"),
    (silence(("UUID", "=", "a"), ends_at="2999-01-01T00:00:00Z"), "ends_at"),
    (silence(("UUID", "=", "a"), ends_at="tomorrow"), "ends_at"),
    (silence(("UUID", "=", "a"), ends_at=4_000_000_000), "ends_at"),
    (silence(("UUID", "=", "a"), starts_at="2025-07-18T20:42:34"), "starts_at"),
    (silence(("UUID", "=", "a"), author=" "), "author"),
    (silence(("UUID", "=", "a"), comment=""), "comment"),
    (silence(("UUID", "=", "a"), colour="red"), "colour"),
    ([], "body"),
]


async def test_a_wrong_silence_is_refused_by_the_name_of_what_is_wrong(client: httpx.AsyncClient) -> None:
    for body, parameter in WRONG_SILENCES:
        answer = await client.post(API + "/silences", json=body)
        assert (answer.status_code, answer.json().get("parameter")) == (400, parameter), answer.text
        assert answer.headers["content-type"] == "application/problem+json"


WRONG_PARAMETERS = [
    ("?state=angry", "state"),
    ("?severity=", "severity"),
    ("?silenced=perhaps", "silenced"),
    ("?page_size=-1", "page_size"),
    ("?page_token=mine", "page_token"),
    ("?page_token=OS5h", "page_token"),
    ("/silences?state=gone", "state"),
    ("/silences?page_token=mine", "page_token"),
    ("/history?start_time=yesterday", "start_time"),
    ("/history?start_time=2&end_time=1", "end_time"),
    ("/history?page_token=mine", "page_token"),
    ("/history?rule=", "rule"),
]


async def test_a_wrong_parameter_is_named(client: httpx.AsyncClient) -> None:
    for path, parameter in WRONG_PARAMETERS:
        answer = await client.get(API + path)
        assert (answer.status_code, answer.json().get("parameter")) == (400, parameter), answer.text


async def test_the_history_has_what_fired_and_was_resolved(serving: Serving, client: httpx.AsyncClient) -> None:
    await serving.tick("a", "b", true={"Hot": {"a": 95.0}})
    await serving.tick("a", "b", true={"Hot": {"b": 97.0}})
    history = await get(client, "/history")
    alert_schemas.AlertEventPage.model_validate(history, extra="forbid")
    shown = [(each["gpu"], each["state"], each["value"]) for each in history["events"]]
    assert sorted(shown[:2]) == [("a", "resolved", 95.0), ("b", "firing", 97.0)]
    assert shown[2:] == [("a", "firing", 95.0)]
    first = await get(client, "/history", gpu="a", page_size=1)
    second = await get(client, "/history", gpu="a", page_size=1, page_token=first["next_page_token"])
    assert [page["events"][0]["state"] for page in (first, second)] == ["resolved", "firing"]
    assert second["next_page_token"] == ""
    assert (await get(client, "/history", rule="Slow"))["events"] == []
    assert len((await get(client, "/history", alert=history["events"][2]["alert_id"]))["events"]) == 2
    earliest = min(each["at"] for each in history["events"])
    assert (await get(client, "/history", end_time=earliest))["events"] == []
    assert len((await get(client, "/history", start_time=earliest))["events"]) == 3


async def next_news(events: SseReader) -> SseEvent:
    while True:
        event = await asyncio.wait_for(events.next_event(), WAIT_S)
        if event.event == "alerts":
            alert_schemas.AlertNews.model_validate(event.data, extra="forbid")
            return event


def changes(event: SseEvent) -> list[tuple[str, str]]:
    return sorted((each["gpu"], each["state"]) for each in event.data["alerts"])


async def watched(serving: Serving) -> None:
    """Wait until the gateway watches."""
    async with asyncio.timeout(WAIT_S):
        while not len(serving.server.runner.watchers):
            await asyncio.sleep(0.01)


async def test_the_stream_tells_of_alerts_that_change(serving: Serving, client: httpx.AsyncClient) -> None:
    await watched(serving)
    async with event_stream(client) as events, event_stream(client, gpu="b") as of_b:
        await serving.tick("a", "b", true={"Hot": {"a": 95.0, "b": 95.0}, "Slow": {"a": 1.0}})
        news = await next_news(events)
        assert changes(news) == [("a", "firing"), ("a", "pending"), ("b", "firing")]
        assert (news.data["firing"], news.data["pending"]) == (2, 1)
        listed = {each["id"]: each for each in (await get(client, ""))["alerts"]}
        assert {each["id"]: each for each in news.data["alerts"]} == listed
        filtered = await next_news(of_b)
        assert (changes(filtered), filtered.data["firing"]) == ([("b", "firing")], 2)
        await client.post(API + "/silences", json=silence(("UUID", "=", "b")))
        await serving.tick("a", "b")
        (silenced,) = (await next_news(events)).data["alerts"]
        assert (silenced["gpu"], len(silenced["silenced_by"])) == ("b", 1)
        await serving.tick("a", "b", true={})
        news = await next_news(events)
        assert changes(news) == [("a", "resolved"), ("a", "resolved"), ("b", "resolved")]
        assert (news.data["firing"], news.data["pending"]) == (0, 0)


async def test_what_has_changed_while_the_alerts_were_away_is_told_when_they_are_back(tmp_path: Path) -> None:
    def rules() -> ScriptedRules:
        return ScriptedRules([group("gpus", [rule("Hot")])])

    async with alerts_server(tmp_path / "one", rules()) as first:
        port = first.server.grpc_port
        gateway = gateway_to(1, 1, static_folder=tmp_path, alerts=f"127.0.0.1:{port}")
        await gateway.start()
        await watched(first)
        await first.tick("a", "b", true={"Hot": {"a": 95.0, "b": 95.0}})
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.api_port}", timeout=30) as client:
            async with event_stream(client) as events:
                async with alerts_server(tmp_path / "two", rules(), grpc_port=port) as second:
                    await second.tick("b", "c", true={"Hot": {"b": 95.0, "c": 95.0}})
                    told: dict[str, str] = {}
                    while {"b": "firing"} | told != {"a": "resolved", "b": "firing", "c": "firing"}:
                        news = await next_news(events)
                        told |= dict(changes(news))
                    assert news.data["firing"] == 2
    finally:
        await gateway.stop()


async def test_without_the_service_only_its_own_routes_fail(tmp_path: Path) -> None:
    async with gateway_to(1, 1, static_folder=tmp_path, admin=True) as gateway:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.api_port}", timeout=30) as client:
            for path in ("", "/rules", "/silences", "/history"):
                answer = await client.get(API + path)
                assert (answer.status_code, answer.json()["service"]) == (503, "alerts"), answer.text
                assert answer.headers["retry-after"]
            health = (await client.get("/api/v1/health")).json()
            async with event_stream(client) as events:
                assert events.first.event_id
    alerts = next(each for each in health["services"] if each["name"] == "alerts")
    assert (alerts["state"], alerts["detail"]) == ("unknown", "127.0.0.1:1 does not answer")


async def test_health_says_since_when_and_that_it_has_gone(tmp_path: Path) -> None:
    async def health(client: httpx.AsyncClient) -> dict[str, Any]:
        services = (await client.get("/api/v1/health")).json()["services"]
        alerts: dict[str, Any] = next(each for each in services if each["name"] == "alerts")
        return alerts

    async with alerts_server(tmp_path / "data", ScriptedRules([group("gpus", [rule("Hot")])])) as serving:
        gateway = gateway_to(1, 1, static_folder=tmp_path, alerts=f"127.0.0.1:{serving.server.grpc_port}")
        await gateway.start()
        client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.api_port}", timeout=30)
        well = await health(client)
    try:
        assert (well["state"], well["detail"]) == ("ok", "")
        assert well["version"]
        assert well["since"]
        assert (await health(client))["state"] == "down"
    finally:
        await client.aclose()
        await gateway.stop()


async def test_silences_need_the_role_to_operate(serving: Serving, tmp_path: Path) -> None:
    alerts = f"127.0.0.1:{serving.server.grpc_port}"
    async with gateway_to(1, 1, static_folder=tmp_path, alerts=alerts) as gateway:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.api_port}", timeout=30) as client:
            refused = [
                await client.post(API + "/silences", json=silence(("UUID", "=", "a"))),
                await client.delete(API + "/silences/x"),
            ]
    assert [each.status_code for each in refused] == [403, 403]
    assert "--admin" in refused[0].json()["detail"]
