"""The AlertService over gRPC and its HTTP side, with rules whose results a test decides."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import grpc
import httpx
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from telemetry.alerts.feed import WAITING_BYTES_MAX, Feed
from telemetry.alerts.rules import RuleError
from telemetry.alerts.server import AlertsServer, AlertsSettings
from telemetry.alerts.watchers import CHANGES_MAX, TooSlowError, Watchers
from telemetry.live import LiveUpdate
from telemetry.queue import wire_pb2
from telemetry.queue.client import ReceivedDelivery
from telemetry.runtime.errors import StartupError
from telemetry.v1 import alerts_pb2, queue_pb2
from tests.unit.alerts_service.fakes import ScriptedRules, group, rule, scripted, update
from tests.unit.alerts_service.serving import Serving, alerts_server
from tests.unit.alerts_service.test_notifiers import alert

WAIT_S = 30.0


@pytest.fixture
async def serving(tmp_path: Path) -> AsyncIterator[Serving]:
    rules = ScriptedRules([group("gpus", [rule("Hot"), rule("Slow", for_s=60)]), group("more", [rule("", record="r")])])
    async with alerts_server(tmp_path, rules) as made:
        yield made


def at(seconds: float) -> Timestamp:
    """A time from now."""
    stamp = Timestamp()
    stamp.FromNanoseconds(time.time_ns() + int(seconds * 1e9))
    return stamp


def matcher(
    name: str, value: str, match: alerts_pb2.LabelMatch.ValueType = alerts_pb2.LABEL_MATCH_EQUAL
) -> alerts_pb2.LabelMatcher:
    return alerts_pb2.LabelMatcher(name=name, value=value, match=match)


def silence(*matchers: alerts_pb2.LabelMatcher, **fields: Any) -> alerts_pb2.CreateSilenceRequest:
    given: dict[str, Any] = {"author": "kim", "comment": "being repaired", "end_time": at(3600)} | fields
    request_id = given.pop("request_id", "")
    made = alerts_pb2.Silence(matchers=matchers or [matcher("UUID", "a")], **given)
    return alerts_pb2.CreateSilenceRequest(silence=made, request_id=request_id)


async def refused(call: Any) -> tuple[str, str, str]:
    """How a call is refused: status, field, text."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    status = rpc_status.from_call(cast("grpc.Call", caught.value))
    field = ""
    for detail in status.details if status is not None else ():
        violations = error_details_pb2.BadRequest()
        if detail.Unpack(violations):
            field = violations.field_violations[0].field
    return caught.value.code().name, field, caught.value.details() or ""


async def test_alerts_are_listed_by_name_with_all_that_is_known_of_them(serving: Serving) -> None:
    await serving.tick("a", "b", true={"Hot": {"b": 95.0, "a": 96.5}, "Slow": {"a": 0.1}})
    answer = await serving.stub.ListAlerts(alerts_pb2.ListAlertsRequest())
    assert (answer.total, answer.next_page_token) == (3, "")
    assert sorted((each.alert, each.gpu, each.state) for each in answer.alerts) == [
        ("Hot", "a", alerts_pb2.ALERT_STATE_FIRING),
        ("Hot", "b", alerts_pb2.ALERT_STATE_FIRING),
        ("Slow", "a", alerts_pb2.ALERT_STATE_PENDING),
    ]
    hot = next(each for each in answer.alerts if each.value == 96.5)
    assert (hot.rule_group, hot.host, dict(hot.annotations)) == ("gpus", "node-1", {"summary": "it is 96.5"})
    assert hot.labels["severity"] == "critical"
    assert hot.HasField("fire_time")
    assert not hot.HasField("resolve_time")
    slow = answer.alerts[2]
    assert not slow.HasField("fire_time")


async def test_alerts_are_chosen_by_state_gpu_and_matchers_and_come_in_pages(serving: Serving) -> None:
    await serving.tick("a", "b", true={"Hot": {"b": 95.0, "a": 96.5}, "Slow": {"a": 0.1}})

    async def listed(**asked: Any) -> list[str]:
        answer = await serving.stub.ListAlerts(alerts_pb2.ListAlertsRequest(**asked))
        return sorted(f"{each.alert} {each.gpu}" for each in answer.alerts)

    assert await listed(state=alerts_pb2.ALERT_STATE_PENDING) == ["Slow a"]
    assert await listed(gpu="a") == ["Hot a", "Slow a"]
    assert await listed(matchers=[matcher("alertname", "S.*|x", alerts_pb2.LABEL_MATCH_REGEX)]) == ["Slow a"]
    assert await listed(matchers=[matcher("UUID", "a", alerts_pb2.LABEL_MATCH_NOT_EQUAL)]) == ["Hot b"]
    await serving.tick("a", "b", true={})
    assert await listed() == []
    assert await listed(state=alerts_pb2.ALERT_STATE_RESOLVED) == ["Hot a", "Hot b"]
    await serving.tick("a", "b", true={"Hot": {"b": 95.0, "a": 96.5}, "Slow": {"a": 0.1}})
    seen, token = [], ""
    while True:
        page = await serving.stub.ListAlerts(alerts_pb2.ListAlertsRequest(page_size=1, page_token=token))
        seen += [each.fingerprint for each in page.alerts]
        assert page.total == 3
        if not (token := page.next_page_token):
            break
    assert len(seen) == len(set(seen)) == 3


async def test_rules_are_listed_with_how_their_last_evaluation_went(serving: Serving) -> None:
    serving.rules.errors["Slow"] = "two series have the same labels"
    await serving.tick("a", true={"Hot": {"a": 96.5}})
    answer = await serving.stub.ListRules(alerts_pb2.ListRulesRequest(page_size=1))
    assert [each.name for each in answer.groups] == ["gpus"]
    (gpus,) = answer.groups
    assert (gpus.file, gpus.interval.seconds) == ("test.yaml", 1)
    hot, slow = gpus.rules
    assert (hot.alert, hot.firing, hot.error, hot.line, hot.expression) == (
        "Hot",
        1,
        "",
        3,
        "DCGM_FI_DEV_GPU_TEMP > 90",
    )
    assert (slow.hold_duration.seconds, slow.error) == (60, "two series have the same labels")
    assert hot.evaluation_time == gpus.evaluation_time
    rest = await serving.stub.ListRules(alerts_pb2.ListRulesRequest(page_token=answer.next_page_token))
    assert [(each.name, each.rules[0].record) for each in rest.groups] == [("more", "r")]
    assert rest.next_page_token == ""


async def test_a_silence_is_made_shown_applied_and_ended(serving: Serving) -> None:
    await serving.tick("a", "b", true={"Hot": {"b": 95.0, "a": 96.5}})
    made = (await serving.stub.CreateSilence(silence(request_id="r1"))).silence
    assert (made.state, made.author, made.comment) == (alerts_pb2.SILENCE_STATE_ACTIVE, "kim", "being repaired")
    again = (await serving.stub.CreateSilence(silence(request_id="r1"))).silence
    assert again.silence_id == made.silence_id
    (listed,) = (await serving.stub.ListSilences(alerts_pb2.ListSilencesRequest())).silences
    assert (listed.silence_id, listed.matching) == (made.silence_id, 1)
    await serving.tick("a", "b")
    alerts = (await serving.stub.ListAlerts(alerts_pb2.ListAlertsRequest())).alerts
    assert {each.gpu: list(each.silenced_by) for each in alerts} == {"a": [made.silence_id], "b": []}
    ended = await serving.stub.ExpireSilence(alerts_pb2.ExpireSilenceRequest(silence_id=made.silence_id))
    assert ended.silence.state == alerts_pb2.SILENCE_STATE_EXPIRED
    code, _, _ = await refused(serving.stub.ExpireSilence(alerts_pb2.ExpireSilenceRequest(silence_id=made.silence_id)))
    assert code == "FAILED_PRECONDITION"
    active = alerts_pb2.ListSilencesRequest(state=alerts_pb2.SILENCE_STATE_ACTIVE)
    assert not (await serving.stub.ListSilences(active)).silences
    await serving.tick("a", "b")
    assert not any(each.silenced_by for each in (await serving.stub.ListAlerts(alerts_pb2.ListAlertsRequest())).alerts)


async def test_silences_come_in_pages_those_that_end_last_first(serving: Serving) -> None:
    for hours in (3, 1, 2, 5, 4):
        await serving.stub.CreateSilence(silence(comment=str(hours), end_time=at(hours * 3600)))
    seen, token = [], ""
    while True:
        page = await serving.stub.ListSilences(alerts_pb2.ListSilencesRequest(page_size=2, page_token=token))
        seen += [each.comment for each in page.silences]
        if not (token := page.next_page_token):
            break
    assert seen == ["5", "4", "3", "2", "1"]


async def test_the_history_has_what_alerts_did_newest_first_in_pages(serving: Serving) -> None:
    for true in ({"Hot": {"a": 95.0}}, {}, {"Hot": {"a": 96.0, "b": 95.0}}):
        await serving.tick("a", "b", true=true)
    first = await serving.stub.ListAlertHistory(alerts_pb2.ListAlertHistoryRequest(page_size=3))
    assert len(first.events) == 3
    rest = await serving.stub.ListAlertHistory(
        alerts_pb2.ListAlertHistoryRequest(page_size=3, page_token=first.next_page_token)
    )
    events = [*first.events, *rest.events]
    assert [each.event_id for each in events] == [4, 3, 2, 1]
    assert rest.next_page_token == ""
    assert [each.state for each in rest.events] == [alerts_pb2.ALERT_STATE_FIRING]
    about = await serving.stub.ListAlertHistory(alerts_pb2.ListAlertHistoryRequest(gpu="b", end_time=at(60)))
    assert [(each.alert, each.value, each.silenced) for each in about.events] == [("Hot", 95.0, False)]


async def test_a_watch_begins_with_what_is_and_goes_on_with_what_changes(serving: Serving) -> None:
    await serving.tick("a", "b", true={"Hot": {"a": 96.5}})
    watch: Any = serving.stub.WatchAlerts(alerts_pb2.WatchAlertsRequest(matchers=[matcher("alertname", "Hot")]))
    async with asyncio.timeout(WAIT_S):
        first = await watch.read()
        assert (first.snapshot, first.snapshot_complete) == (True, True)
        assert [(each.gpu, each.state) for each in first.alerts] == [("a", alerts_pb2.ALERT_STATE_FIRING)]
        await serving.tick("a", "b", true={"Hot": {"a": 97.0}, "Slow": {"a": 1.0}})
        await serving.tick("a", "b", true={"Hot": {"b": 95.0}})
        news = await watch.read()
    assert not news.snapshot
    assert sorted((each.gpu, each.state) for each in news.alerts) == [
        ("a", alerts_pb2.ALERT_STATE_RESOLVED),
        ("b", alerts_pb2.ALERT_STATE_FIRING),
    ]
    watch.cancel()
    async with asyncio.timeout(WAIT_S):
        while len(serving.server.runner.watchers):
            await asyncio.sleep(0.005)


async def test_who_reads_too_slowly_is_told_to_watch_again() -> None:
    watchers = Watchers()
    watch = watchers.watch()
    await anext(watch)
    many = [alert(str(number)) for number in range(CHANGES_MAX)]
    watchers.publish(many)
    watchers.publish(many[:1])
    watchers.publish(many)
    with pytest.raises(TooSlowError, match="watch again"):
        await anext(watch)
    assert len(watchers) == 0


LONG = "x" * 3000


BAD: list[tuple[str, Any, str]] = [
    ("ListAlerts", alerts_pb2.ListAlertsRequest(state=9), "state"),  # type: ignore[arg-type]
    ("ListAlerts", alerts_pb2.ListAlertsRequest(page_size=-1), "page_size"),
    ("ListAlerts", alerts_pb2.ListAlertsRequest(page_token="nonsense!"), "page_token"),
    ("ListAlerts", alerts_pb2.ListAlertsRequest(gpu=LONG), "gpu"),
    ("ListAlerts", alerts_pb2.ListAlertsRequest(matchers=[matcher("", "x")]), "matchers[0].name"),
    ("ListAlerts", alerts_pb2.ListAlertsRequest(matchers=[matcher("a-b", "x")]), "matchers[0].name"),
    ("ListAlerts", alerts_pb2.ListAlertsRequest(matchers=[matcher("a", LONG)]), "matchers[0].value"),
    ("ListAlerts", alerts_pb2.ListAlertsRequest(matchers=[matcher("a", "x", 7)]), "matchers[0].match"),  # type: ignore[arg-type]
    ("ListAlerts", alerts_pb2.ListAlertsRequest(matchers=[matcher("a", "x")] * 21), "matchers"),
    (
        "ListAlerts",
        alerts_pb2.ListAlertsRequest(matchers=[matcher("a", "x"), matcher("b", "(", alerts_pb2.LABEL_MATCH_REGEX)]),
        "matchers[1].value",
    ),
    ("ListRules", alerts_pb2.ListRulesRequest(page_size=-5), "page_size"),
    ("ListRules", alerts_pb2.ListRulesRequest(page_token="MQ"), "page_token"),
    ("ListSilences", alerts_pb2.ListSilencesRequest(state=9), "state"),  # type: ignore[arg-type]
    ("ListSilences", alerts_pb2.ListSilencesRequest(page_size=-1), "page_size"),
    ("ListAlertHistory", alerts_pb2.ListAlertHistoryRequest(page_size=-1), "page_size"),
    ("ListAlertHistory", alerts_pb2.ListAlertHistoryRequest(page_token="MWFiYw=="), "page_token"),
    ("ListAlertHistory", alerts_pb2.ListAlertHistoryRequest(start_time=at(9), end_time=at(0)), "start_time"),
    ("ListAlertHistory", alerts_pb2.ListAlertHistoryRequest(end_time=Timestamp(nanos=-1)), "end_time"),
    ("ListAlertHistory", alerts_pb2.ListAlertHistoryRequest(alert=LONG), "alert"),
    ("CreateSilence", alerts_pb2.CreateSilenceRequest(), "silence.matchers"),
    ("CreateSilence", silence(matcher("a", ".*", alerts_pb2.LABEL_MATCH_REGEX)), "silence.matchers"),
    ("CreateSilence", silence(matcher("a", "x", alerts_pb2.LABEL_MATCH_NOT_EQUAL)), "silence.matchers"),
    ("CreateSilence", silence(matcher("a", "(?=x)", alerts_pb2.LABEL_MATCH_REGEX)), "silence.matchers[0].value"),
    ("CreateSilence", silence(author=" "), "silence.author"),
    ("CreateSilence", silence(comment=""), "silence.comment"),
    ("CreateSilence", silence(comment=LONG), "silence.comment"),
    ("CreateSilence", silence(end_time=at(-5)), "silence.end_time"),
    ("CreateSilence", silence(end_time=None), "silence.end_time"),
    ("CreateSilence", silence(end_time=at(400 * 86_400)), "silence.end_time"),
    ("CreateSilence", silence(start_time=at(7200)), "silence.end_time"),
    ("CreateSilence", silence(start_time=Timestamp(seconds=1 << 50)), "silence.start_time"),
    ("CreateSilence", silence(request_id="x" * 129), "request_id"),
    ("ExpireSilence", alerts_pb2.ExpireSilenceRequest(silence_id=LONG), "silence_id"),
    ("WatchAlerts", alerts_pb2.WatchAlertsRequest(matchers=[matcher("a b", "x")]), "matchers[0].name"),
]


async def test_a_bad_field_is_named(serving: Serving) -> None:
    expected, found = [], []
    for method, request, field in BAD:
        call = getattr(serving.stub, method)(request)
        code, named, text = await refused(call.read() if method == "WatchAlerts" else call)
        found.append((method, code, named, bool(text)))
        expected.append((method, "INVALID_ARGUMENT", field, True))
    assert found == expected


async def test_what_is_not_there_is_not_found(serving: Serving) -> None:
    code, _, text = await refused(serving.stub.ExpireSilence(alerts_pb2.ExpireSilenceRequest(silence_id="nope")))
    assert (code, text) == ("NOT_FOUND", "no silence is called 'nope'")


async def test_health_stats_and_metrics_say_how_it_is(serving: Serving) -> None:
    async with httpx.AsyncClient() as client:
        health = (await client.get(serving.url("/health"))).json()
        assert health["status"] == "degraded"
        assert not health["checks"]["queue"]["ok"]
        assert health["checks"]["feed"] == {"ok": False, "detail": "no GPU has been heard of yet"}
        assert health["checks"]["rules"] == {"ok": True, "detail": "3 in force"}
        await serving.tick("a", true={"Hot": {"a": 96.5}, "Slow": {"a": 1.0}})
        stats = (await client.get(serving.url("/stats"))).json()
        assert {name: stats[name] for name in ("rules", "rule_groups", "pending", "firing", "feed_silent")} == {
            "rules": 3,
            "rule_groups": 2,
            "pending": 1,
            "firing": 1,
            "feed_silent": False,
        }
        metrics = (await client.get(serving.url("/metrics"))).text
        assert 'telemetry_alerts_active{state="firing"} 1.0' in metrics
        assert "telemetry_alerts_feed_silent 0.0" in metrics
        assert "telemetry_alerts_tick_seconds_bucket" in metrics
        missing = await client.get(serving.url("/nothing"))
        assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")


async def test_new_rules_come_into_force_and_bad_ones_leave_the_old_ones_running(serving: Serving) -> None:
    await serving.tick("a", true={"Hot": {"a": 96.5}})
    serving.newer = RuleError("gpu.yaml", 7, "rule Hot: no function is called rte")
    async with httpx.AsyncClient() as client:
        refusal = await client.post(serving.url("/-/reload"))
        assert refusal.status_code == 422
        assert "gpu.yaml:7: rule Hot: no function is called rte" in refusal.json()["detail"]
        check = (await client.get(serving.url("/health"))).json()["checks"]["rules"]
        assert (check["ok"], "gpu.yaml:7" in check["detail"]) == (False, True)
        assert "telemetry_alerts_rules_load_failed 1.0" in (await client.get(serving.url("/metrics"))).text
        listed = await serving.stub.ListRules(alerts_pb2.ListRulesRequest())
        assert listed.load_error == "gpu.yaml:7: rule Hot: no function is called rte"
        await serving.tick("a", true={"Hot": {"a": 96.5}})
        assert (await serving.stub.ListAlerts(alerts_pb2.ListAlertsRequest())).total == 1
        serving.newer = scripted("Hot", "New")
        assert (await client.post(serving.url("/-/reload"))).status_code == 200
        assert (await client.get(serving.url("/-/reload"))).status_code == 405
    listed = await serving.stub.ListRules(alerts_pb2.ListRulesRequest())
    assert ([each.alert for each in listed.groups[0].rules], listed.load_error) == (["Hot", "New"], "")
    await serving.tick("a", true={"Hot": {"a": 96.5}, "New": {"a": 1.0}})
    assert (await serving.stub.ListAlerts(alerts_pb2.ListAlertsRequest())).total == 2


async def test_updates_that_cannot_be_read_are_left_out(serving: Serving) -> None:
    feed = serving.server.runner._feed
    ragged = replace(update("a"), timestamps_us=[1, 2])
    no_list = b'{"gpus":1,"timestamps_us":[],"columns":{},"labels":{}}'
    no_labels = replace(update(), labels={"a": "x"}, gpus=[], timestamps_us=[], columns={})  # type: ignore[dict-item]
    for data in (b"", b"[]", b'{"gpus": []}', ragged.encode(), b"\xff", no_list, no_labels.encode()):
        feed._waiting.append((time.time_ns() // 1000, data))
    await serving.tick("a")
    (taken,) = serving.rules.ingested
    assert isinstance(taken, LiveUpdate)
    assert taken.gpus == ["a"]


def test_updates_that_wait_take_bounded_memory_and_the_newest_stay() -> None:
    feed = Feed("127.0.0.1:9")
    for number in range(20):
        batch = queue_pb2.MessageBatch(messages=[queue_pb2.Message(data=b"%02d" % number + bytes(8 << 20))])
        wire = wire_pb2.Delivery(topic="live", batch=batch.SerializeToString())
        feed._receive(ReceivedDelivery(wire, lambda delivery, settlement: asyncio.Future()))
    waiting = feed.take()
    assert sum(len(data) for _, data in waiting) <= WAITING_BYTES_MAX
    assert [int(data[:2]) for _, data in waiting] == list(range(13, 20))
    assert feed.take() == []


async def test_a_start_with_bad_rules_or_addresses_is_refused_with_the_reason(tmp_path: Path) -> None:
    def bad() -> ScriptedRules:
        raise RuleError("gpu.yaml", 7, "rule Hot: no function is called rte")

    with pytest.raises(StartupError, match=r"gpu\.yaml:7: rule Hot: no function is called rte"):
        AlertsServer(AlertsSettings(queue="q:1"), tmp_path, bad)
    with pytest.raises(StartupError, match="--alertmanager is no address: it must look like"):
        AlertsServer(AlertsSettings(queue="q:1", alertmanagers=["am:9093"]), tmp_path, lambda: scripted("Hot"))
    with pytest.raises(StartupError, match="--webhook is no address: it must look like"):
        AlertsServer(AlertsSettings(queue="q:1", webhooks=["am:9093"]), tmp_path, lambda: scripted("Hot"))
    assert not any(tmp_path.iterdir())
    (tmp_path / "alerts.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(StartupError, match=r"alerts\.sqlite cannot be used for alerts"):
        AlertsServer(AlertsSettings(queue="q:1"), tmp_path, lambda: scripted("Hot"))
