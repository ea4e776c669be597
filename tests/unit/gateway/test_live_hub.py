"""The hub behind the event stream: order, filters, coming back, and viewers that are slow."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from contextlib import aclosing

import orjson
import pytest

from gateway import live
from gateway.live import Filter, Gap, LiveHub, Update
from tests.unit.gateway.services import live_update

Viewer = AsyncGenerator[Update | Gap | None, None]


async def next_update(viewer: Viewer) -> Update:
    event = await anext(viewer)
    assert isinstance(event, Update)
    return event


async def next_gap(viewer: Viewer) -> Gap:
    event = await anext(viewer)
    assert isinstance(event, Gap)
    return event


def values(update: Update) -> dict[str, float]:
    """The temperature of each GPU of an update."""
    content = orjson.loads(update.data)
    return dict(zip(content["gpus"], content["columns"]["temperature"]["last"], strict=True))


async def opened(hub: LiveHub, wanted: Filter | None = None) -> Viewer:
    """A viewer that has seen one update: it follows from then on."""
    viewer = hub.follow(wanted or Filter(), hub.last_id)
    hub.publish(live_update("GPU-a"))
    await next_update(viewer)
    return viewer


async def test_updates_come_in_order_with_increasing_ids() -> None:
    hub = LiveHub()
    async with aclosing(await opened(hub)) as viewer:
        for number in range(5):
            hub.publish(live_update("GPU-a", value=number))
        seen = [await next_update(viewer) for _ in range(5)]
    assert [values(each)["GPU-a"] for each in seen] == [0, 1, 2, 3, 4]
    assert [each.event_id - seen[0].event_id for each in seen] == [0, 1, 2, 3, 4]


async def test_a_new_viewer_does_not_get_the_past() -> None:
    hub = LiveHub()
    hub.publish(live_update("GPU-a", value=1))
    async with aclosing(hub.follow(Filter(), hub.last_id, idle_s=0.01)) as viewer:
        assert await anext(viewer) is None
        hub.publish(live_update("GPU-a", value=2))
        assert values(await next_update(viewer)) == {"GPU-a": 2}


async def test_a_viewer_hears_that_nothing_happened_even_when_something_did_for_others() -> None:
    now_s = 0.0
    hub = LiveHub(clock=lambda: now_s)
    async with aclosing(await opened(hub, Filter(gpus=frozenset({"GPU-a"})))) as viewer:
        waiting = asyncio.ensure_future(anext(viewer))
        for at_s in (0.0, 5.0, 10.0, 15.0):
            now_s = at_s
            hub.publish(live_update("GPU-b"))
            await asyncio.sleep(0.01)  # the viewer takes notice
        assert await waiting is None


async def test_a_viewer_that_comes_back_gets_what_it_missed() -> None:
    hub = LiveHub()
    for number in range(100):
        hub.publish(live_update("GPU-a", value=number))
    async with aclosing(hub.follow(Filter(), hub.last_id - 60)) as viewer:
        seen = [values(await next_update(viewer))["GPU-a"] for _ in range(60)]
    assert seen == list(range(40, 100))


async def test_coming_back_with_a_filter_works_on_the_past_too() -> None:
    hub = LiveHub(clock=itertools.count(step=2).__next__)
    for number in range(10):
        hub.publish(live_update("GPU-a", f"GPU-{number}", value=number))
    wanted = Filter(gpus=frozenset({"GPU-3"}), metrics=frozenset({"temperature"}))
    async with aclosing(hub.follow(wanted, hub.last_id - 10)) as viewer:
        update = await next_update(viewer)
    content = orjson.loads(update.data)
    assert content["gpus"] == ["GPU-3"]
    assert content["columns"] == {"temperature": {"last": [3], "min": [2], "max": [4]}}


async def test_a_viewer_that_comes_back_too_late_is_told_how_many_it_missed() -> None:
    hub = LiveHub(events_max=10)
    hub.publish(live_update("GPU-a", value=0))
    last_seen = hub.last_id
    for number in range(1, 31):
        hub.publish(live_update("GPU-a", value=number))
    async with aclosing(hub.follow(Filter(), last_seen)) as viewer:
        gap = await next_gap(viewer)
        assert gap.missed == 29
        newest = await next_update(viewer)
        assert values(newest) == {"GPU-a": 30}
        assert gap.event_id == newest.event_id - 1


@pytest.mark.parametrize("distance", [-(10**9), 10**9])
async def test_an_id_that_this_gateway_never_gave_is_a_gap_of_unknown_size(distance: int) -> None:
    hub = LiveHub()
    hub.publish(live_update("GPU-a"))
    async with aclosing(hub.follow(Filter(), hub.last_id + distance)) as viewer:
        assert await next_gap(viewer) == Gap(hub.last_id, None)
        hub.publish(live_update("GPU-a", value=7))
        assert values(await next_update(viewer)) == {"GPU-a": 7}


async def test_ids_of_a_gateway_that_starts_later_are_higher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1000.0)
    before = LiveHub()
    before.publish(live_update("GPU-a"))
    monkeypatch.setattr("time.time", lambda: 1001.0)
    after = LiveHub()
    async with aclosing(after.follow(Filter(), before.last_id)) as viewer:
        assert (await next_gap(viewer)).missed is None


async def test_a_slow_viewer_goes_on_with_the_newest_and_is_told_of_the_rest() -> None:
    now_s = 0.0
    hub = LiveHub(clock=lambda: now_s)
    async with aclosing(await opened(hub)) as viewer:
        for number in range(100):
            hub.publish(live_update("GPU-a", value=number))
        now_s = 5.1
        assert (await next_gap(viewer)).missed == 99
        assert values(await next_update(viewer)) == {"GPU-a": 99}


async def test_a_burst_is_no_reason_for_a_gap() -> None:
    now_s = 0.0
    hub = LiveHub(clock=lambda: now_s)
    async with aclosing(await opened(hub)) as viewer:
        for number in range(100):
            hub.publish(live_update("GPU-a", value=number))
        now_s = 4.9
        assert [values(await next_update(viewer))["GPU-a"] for _ in range(100)] == list(range(100))


async def test_the_past_of_a_viewer_that_came_back_may_take_its_time() -> None:
    now_s = 0.0
    hub = LiveHub(clock=lambda: now_s)
    first = hub.last_id
    for number in range(10):
        hub.publish(live_update("GPU-a", value=number))
    now_s = 60.0
    async with aclosing(hub.follow(Filter(), first)) as viewer:
        assert [values(await next_update(viewer))["GPU-a"] for _ in range(10)] == list(range(10))


async def test_the_past_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(live._render(live_update("GPU-a", value=50)))
    monkeypatch.setattr(live, "PAST_BYTES_MAX", 3 * size)
    hub = LiveHub()
    hub.publish(live_update("GPU-a", value=50))
    last_seen = hub.last_id
    for number in range(51, 60):
        hub.publish(live_update("GPU-a", value=number))
    async with aclosing(hub.follow(Filter(), last_seen + 6)) as viewer:
        assert [values(await next_update(viewer))["GPU-a"] for _ in range(3)] == [57, 58, 59]
    async with aclosing(hub.follow(Filter(), last_seen + 5)) as viewer:
        assert (await next_gap(viewer)).missed == 3


async def test_all_filters_must_match() -> None:
    hub = LiveHub()
    hub.learn_host("GPU-a", "node-1")
    wanted = Filter(frozenset({"GPU-a", "GPU-b"}), frozenset({"node-1"}), frozenset({"temperature"}))
    async with aclosing(await opened(hub, wanted)) as viewer:
        labels = {"GPU-b": {"host": "node-1"}, "GPU-c": {"host": "node-1"}}
        hub.publish(live_update("GPU-b", "GPU-c", "GPU-d", labels=labels))
        content = orjson.loads((await next_update(viewer)).data)
    assert content["gpus"] == ["GPU-b"]
    assert content["labels"] == {"GPU-b": {"host": "node-1"}}
    assert set(content["columns"]) == {"temperature"}


async def test_an_update_without_anything_wanted_is_not_sent() -> None:
    hub = LiveHub()
    async with aclosing(await opened(hub, Filter(gpus=frozenset({"GPU-a"})))) as viewer:
        hub.publish(live_update("GPU-b"))
        hub.publish(live_update("GPU-a", value=5))
        assert values(await next_update(viewer)) == {"GPU-a": 5}


async def test_a_gap_on_the_way_to_the_hub_reaches_every_viewer() -> None:
    hub = LiveHub()
    async with aclosing(await opened(hub, Filter(gpus=frozenset({"GPU-a"})))) as viewer:
        hub.publish_gap(12)
        assert await next_gap(viewer) == Gap(hub.last_id, 12)


async def test_closing_the_hub_ends_every_viewer() -> None:
    hub = LiveHub()
    viewers = [await opened(hub)]
    viewers.append(hub.follow(Filter(), hub.last_id))
    waiting = [asyncio.ensure_future(anext(viewer)) for viewer in viewers]
    await asyncio.sleep(0)
    assert hub.viewers == 2
    hub.close()
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in ended] == [StopAsyncIteration, StopAsyncIteration]
    assert hub.viewers == 0
