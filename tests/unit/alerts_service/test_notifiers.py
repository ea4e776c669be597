"""Who is told: the body, the order, and what happens when the receiver is away, slow or will not have it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from telemetry.alerts.alert import Alert, Event, State, fingerprint
from telemetry.alerts.notify.alertmanager import ALERTS_MAX, Alertmanager
from telemetry.alerts.notify.log import LINES_MAX, AlertLog
from telemetry.alerts.notify.notifier import Notifier
from telemetry.alerts.notify.outgoing import target
from telemetry.alerts.notify.webhook import WAITING_MAX, Webhook, cursor_name
from tests.unit.alerts_service.fakes import SECOND, START, labels
from tests.unit.alerts_service.receiver import WAIT_S, receiver


def alert(gpu: str, name: str = "Hot", state: State = State.FIRING, rule_id: str = "r") -> Alert:
    mine = labels(name, gpu)
    return Alert(
        fingerprint=fingerprint(rule_id, mine),
        rule_id=rule_id,
        group="gpus",
        labels=mine,
        annotations={"summary": f"{gpu} is hot"},
        value=95.0,
        state=state,
        active_us=START,
        evaluated_us=START + SECOND,
        annotated_us=START,
        fired_us=START + SECOND,
        resolved_us=START + 9 * SECOND if state is State.RESOLVED else None,
        announced=True,
    )


def event(number: int, of: Alert, silenced: bool = False) -> Event:
    return Event(START + SECOND, of, silenced, number)


@asynccontextmanager
async def running(notifier: Notifier) -> AsyncIterator[None]:
    task = asyncio.create_task(notifier.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def idle(notifier: Notifier) -> None:
    async with asyncio.timeout(WAIT_S):
        while notifier.waiting:
            await asyncio.sleep(0.005)


def sent(notifier: Notifier, outcome: str) -> float:
    value = REGISTRY.get_sample_value(
        "telemetry_alerts_notifications_total", {"receiver": notifier.name, "outcome": outcome}
    )
    return value or 0.0


def told(bodies: Sequence[Any]) -> list[str]:
    return [f"{each['labels']['UUID']} {each['status']}" for body in bodies for each in body["alerts"]]


async def test_a_webhook_gets_the_json_of_alertmanagers_own_webhooks() -> None:
    async with receiver() as to:
        webhook = Webhook(to.url(), 0)
        webhook.offer([event(1, alert("a")), event(2, alert("b"))], {})
        async with running(webhook):
            (body,) = await to.wait(1)
    common = {"alertname": "Hot", "severity": "critical", "Hostname": "node-1"}
    assert {name: value for name, value in body.items() if name != "alerts"} == {
        "version": "4",
        "groupKey": '{}:{alertname="Hot"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "telemetry",
        "groupLabels": {"alertname": "Hot"},
        "commonLabels": common,
        "commonAnnotations": {},
        "externalURL": "",
    }
    assert body["alerts"][0] == {
        "status": "firing",
        "labels": common | {"UUID": "a"},
        "annotations": {"summary": "a is hot"},
        "startsAt": "2023-11-14T22:13:21Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "",
        "fingerprint": alert("a").fingerprint,
    }


async def test_a_webhook_hears_of_events_in_order_and_not_of_silenced_ones() -> None:
    async with receiver() as to:
        webhook = Webhook(to.url(), 0)
        events = [
            event(1, alert("a")),
            event(2, alert("b"), silenced=True),
            event(3, alert("c", "Slow")),
            event(4, alert("a", state=State.RESOLVED)),
            event(5, alert("a")),
        ]
        async with running(webhook):
            webhook.offer(events, {})
            bodies = await to.wait(4)
            await idle(webhook)
    assert told(bodies) == ["a firing", "c firing", "a resolved", "a firing"]
    assert bodies[2]["alerts"][0]["endsAt"] == "2023-11-14T22:13:29Z"
    assert webhook.told == 5


async def test_a_webhook_that_is_away_gets_everything_when_it_is_back() -> None:
    async with receiver() as first:
        port = first.port
    webhook = Webhook(f"http://127.0.0.1:{port}/hook", 0)
    async with running(webhook):
        webhook.offer([event(1, alert("a"))], {})
        async with asyncio.timeout(WAIT_S):
            while not webhook.trouble:
                await asyncio.sleep(0.005)
        assert "cannot be reached" in webhook.trouble
        webhook.offer([event(2, alert("a", state=State.RESOLVED))], {})
        async with receiver(port) as to:
            assert told(await to.wait(2)) == ["a firing", "a resolved"]
            await idle(webhook)
            assert webhook.trouble == ""


@pytest.mark.parametrize("status", [500, 503, 429, 408])
async def test_what_a_receiver_cannot_take_now_is_sent_again(status: int) -> None:
    async with receiver() as to:
        to.answers = [(status, {}), (status, {"Retry-After": "0"})]
        webhook = Webhook(to.url(), 0)
        async with running(webhook):
            webhook.offer([event(1, alert("a"))], {})
            assert told(await to.wait(1)) == ["a firing"]
            await idle(webhook)
        assert (to.refused, sent(webhook, "failed"), sent(webhook, "delivered")) == (2, 2.0, 1.0)


async def test_what_a_webhook_refuses_is_counted_and_does_not_hold_up_the_rest() -> None:
    async with receiver() as to:
        to.answers = [(400, {})]
        webhook = Webhook(to.url(), 0)
        async with running(webhook):
            webhook.offer([event(1, alert("a"))], {})
            await to.wait_refused(1)
            await idle(webhook)
            assert webhook.trouble == f"{to.url()} answered 400: label names are bad"
            webhook.offer([event(2, alert("b"))], {})
            assert told(await to.wait(1)) == ["b firing"]
        assert sent(webhook, "refused") == 1.0


async def test_a_webhook_that_is_told_again_after_a_restart_begins_where_it_was() -> None:
    async with receiver() as to:
        webhook = Webhook(to.url(), 7, [event(8, alert("a")), event(9, alert("b"))])
        async with running(webhook):
            assert told(await to.wait(1)) == ["a firing", "b firing"]
            await idle(webhook)
    assert webhook.told == 9


async def test_what_waits_for_a_webhook_is_bounded_and_what_is_dropped_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    webhook = Webhook("http://127.0.0.1:9/hook", 0)
    webhook.offer([event(number, alert(str(number))) for number in range(1, WAITING_MAX + 31)], {})
    assert webhook.waiting == WAITING_MAX
    assert sent(webhook, "dropped") == 30.0
    assert webhook.told == 30
    assert "notifications were dropped" in caplog.text


async def test_alertmanager_gets_what_fires_with_an_end_to_come_and_what_is_resolved_with_its_end() -> None:
    fires, over = alert("a"), alert("b", state=State.RESOLVED)
    async with receiver() as to:
        manager = Alertmanager(to.url("/am/"), clock=lambda: START / 1e6 + 20)
        manager.offer([event(1, fires), event(2, over)], {each.fingerprint: each for each in (fires, over)})
        async with running(manager):
            (body,) = await to.wait(1)
            await idle(manager)
    assert body == [
        {
            "labels": labels("Hot", "a"),
            "annotations": {"summary": "a is hot"},
            "startsAt": "2023-11-14T22:13:21Z",
            "endsAt": "2023-11-14T22:17:40Z",
        },
        {
            "labels": labels("Hot", "b"),
            "annotations": {"summary": "b is hot"},
            "startsAt": "2023-11-14T22:13:21Z",
            "endsAt": "2023-11-14T22:13:29Z",
        },
    ]
    assert to.headers[0]["content-type"] == "application/json"


async def test_alertmanager_hears_again_and_again_of_what_fires_and_never_of_what_is_silenced_or_pending() -> None:
    fires, silenced = alert("a"), replace(alert("b"), silenced_by=("s",))
    pending = replace(alert("c"), state=State.PENDING, fired_us=None)
    unannounced = replace(alert("d", state=State.RESOLVED), announced=False)
    async with receiver() as to:
        manager = Alertmanager(to.url("/"), resend_s=0.02)
        manager.offer([], {each.fingerprint: each for each in (fires, silenced, pending, unannounced)})
        async with running(manager):
            bodies = await to.wait(5)
    assert [[each["labels"]["UUID"] for each in body] for body in bodies[:5]] == [["a"]] * 5


async def test_alertmanager_that_is_away_hears_once_of_how_it_is_then_however_much_happened() -> None:
    async with receiver() as first:
        port = first.port
    manager = Alertmanager(f"http://127.0.0.1:{port}")
    async with running(manager):
        number = 0
        for place in range(200):
            state = State.FIRING if place % 2 == 0 else State.RESOLVED
            now = {each.fingerprint: each for each in (alert("a", state=state), alert("b"))}
            number += 1
            manager.offer([event(number, alert("a", state=state))], now)
            await asyncio.sleep(0)
        manager.offer([event(number + 1, alert("b"))], now)
        assert manager.waiting == 2
        async with receiver(port) as to:
            await to.wait(1)
            await idle(manager)
    # A request that was on its way while something happened is followed by another; no more than that.
    assert len(to.got) <= 2
    ends = {each["labels"]["UUID"]: each["endsAt"] for body in to.got for each in body}
    assert ends["a"] == "2023-11-14T22:13:29Z"
    assert ends["b"] > "2024"


async def test_what_happens_while_a_request_is_on_its_way_is_sent_after_it() -> None:
    fires, over = alert("a"), alert("a", state=State.RESOLVED)
    async with receiver() as to:
        to.held = asyncio.Event()
        manager = Alertmanager(to.url("/"))
        async with running(manager):
            manager.offer([event(1, fires)], {fires.fingerprint: fires})
            await to.wait(1)
            manager.offer([event(2, over)], {over.fingerprint: over})
            to.held.set()
            bodies = await to.wait(2)
            await idle(manager)
    assert bodies[1][0]["endsAt"] == "2023-11-14T22:13:29Z"


async def test_an_alert_that_moved_to_another_rule_is_not_resolved_for_alertmanager() -> None:
    old, new = alert("a", state=State.RESOLVED, rule_id="old"), alert("a", rule_id="new")
    async with receiver() as to:
        manager = Alertmanager(to.url("/"), clock=lambda: START / 1e6 + 20)
        manager.offer([event(1, old), event(2, new)], {each.fingerprint: each for each in (old, new)})
        async with running(manager):
            (body,) = await to.wait(1)
    assert [each["endsAt"] for each in body] == ["2023-11-14T22:17:40Z"]


async def test_many_alerts_go_in_several_requests() -> None:
    many = [alert(str(number)) for number in range(2 * ALERTS_MAX + 1)]
    async with receiver() as to:
        manager = Alertmanager(to.url("/"))
        manager.offer([event(n, each) for n, each in enumerate(many, 1)], {each.fingerprint: each for each in many})
        async with running(manager):
            bodies = await to.wait(3)
            await idle(manager)
    assert [len(body) for body in bodies] == [ALERTS_MAX, ALERTS_MAX, 1]


async def test_a_batch_that_alertmanager_refuses_waits_for_the_next_round() -> None:
    fires = alert("a")
    async with receiver() as to:
        to.answers = [(400, {})]
        manager = Alertmanager(to.url("/"), resend_s=0.2)
        manager.offer([event(1, fires)], {fires.fingerprint: fires})
        async with running(manager):
            await to.wait_refused(1)
            await to.wait(1)
            await idle(manager)
        assert (sent(manager, "refused"), manager.trouble) == (1.0, "")


async def test_passwords_are_sent_and_not_shown() -> None:
    async with receiver() as to:
        webhook = Webhook(to.url(user="kim:p%40ss@"), 0)
        async with running(webhook):
            webhook.offer([event(1, alert("a"))], {})
            await to.wait(1)
    assert to.headers[0]["authorization"] == "Basic a2ltOnBAc3M="
    assert webhook.name == f"http://127.0.0.1:{to.port}/hook"
    assert "p%40ss" not in cursor_name(to.url(user="kim:p%40ss@")) + repr(target("http://kim:p%40ss@host/"))


@pytest.mark.parametrize("url", ["", "host:80", "ftp://host/", "http://", "http://host:port/", "http://h/#x"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Webhook(url, 0)


def test_the_log_has_a_line_an_event_up_to_a_bound(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    events = [event(1, alert("a")), event(2, alert("a", state=State.RESOLVED), silenced=True)]
    AlertLog().offer(events, {})
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "alert firing"),
        ("INFO", "alert resolved"),
    ]
    first = caplog.records[0].__dict__
    assert (first["alert"], first["summary"], first["labels"]["UUID"]) == ("Hot", "a is hot", "a")
    caplog.clear()
    AlertLog().offer([event(n, alert("a")) for n in range(LINES_MAX + 5)], {})
    assert len(caplog.records) == LINES_MAX + 1
    assert caplog.records[-1].__dict__["events"] == 5
