"""The newest values of single GPUs are asked for together, and answered the short way as the long way would."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from gateway.latest import LatestValues
from gateway.server import GatewayServer
from telemetry.runtime.request_ids import REQUEST_ID, call_it, request_metadata
from telemetry.v1 import query_pb2
from tests.unit.gateway.services import FakeCollector


class Gathering:
    """Collectors that answer when told, and remember what they were asked for."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.asked_as: list[object] = []
        self.may_answer = asyncio.Event()
        self.cancelled = 0

    async def list_gpus(self, request: query_pb2.ListGpusRequest) -> query_pb2.ListGpusResponse:
        self.asked.append(list(request.selector.gpus))
        self.asked_as.append(request_metadata())
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        known = [query_pb2.Gpu(gpu=name) for name in request.selector.gpus if name.startswith("GPU")]
        return query_pb2.ListGpusResponse(gpus=known)

    async def get_latest(self, request: query_pb2.GetLatestRequest) -> query_pb2.GetLatestResponse:
        names = [name for name in request.selector.gpus if name.startswith("GPU")]
        column = query_pb2.MetricColumn(metric="temperature", values=[float(name[3:]) for name in names])
        return query_pb2.GetLatestResponse(gpus=names, timestamps_us=[7] * len(names), columns=[column])


@pytest.fixture
def collectors() -> Gathering:
    return Gathering()


@pytest.fixture
def latest(collectors: Gathering) -> LatestValues:
    fake: Any = collectors
    return LatestValues(fake)


async def test_what_is_wanted_while_a_question_is_on_its_way_is_asked_together(
    latest: LatestValues, collectors: Gathering
) -> None:
    first = asyncio.create_task(latest.of("GPU1"))
    while not collectors.asked:
        await asyncio.sleep(0)
    rest = [asyncio.create_task(latest.of(name)) for name in ("GPU2", "GPU3", "GPU2", "other")]
    await asyncio.sleep(0)
    collectors.may_answer.set()
    answers = await asyncio.gather(first, *rest)
    assert collectors.asked == [["GPU1"], ["GPU2", "GPU3", "other"]]
    assert [each and each.values["temperature"] for each in answers] == [1.0, 2.0, 3.0, 2.0, None]


async def test_a_question_goes_by_the_name_of_the_request_that_asked_first(
    latest: LatestValues, collectors: Gathering
) -> None:
    async def ask(gpu: str, name: str) -> None:
        call_it(name)
        await latest.of(gpu)

    first = asyncio.create_task(ask("GPU1", "a"))
    while not collectors.asked:
        await asyncio.sleep(0)
    rest = [asyncio.create_task(ask(*each)) for each in (("GPU2", "b"), ("GPU3", "c"))]
    await asyncio.sleep(0)
    collectors.may_answer.set()
    await asyncio.gather(first, *rest)
    assert collectors.asked_as == [((REQUEST_ID, "a"),), ((REQUEST_ID, "b"),)]


async def test_a_question_for_which_nobody_waits_any_more_is_taken_back(
    latest: LatestValues, collectors: Gathering
) -> None:
    waiting = [asyncio.create_task(latest.of("GPU1")) for _ in range(2)]
    while not collectors.asked:
        await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.wait({waiting[0]})
    assert not collectors.cancelled
    waiting[1].cancel()
    await asyncio.wait({waiting[1]})
    while not collectors.cancelled:
        await asyncio.sleep(0)
    collectors.may_answer.set()
    again = await latest.of("GPU4")
    assert again is not None
    assert again.values == {"temperature": 4.0}


async def test_a_question_that_is_taken_back_before_it_has_begun_holds_up_no_other(
    latest: LatestValues, collectors: Gathering
) -> None:
    collectors.may_answer.set()
    gone = asyncio.create_task(latest.of("GPU1"))
    await asyncio.sleep(0)
    gone.cancel()  # it is put in this very round of the loop
    await asyncio.wait({gone})
    assert not collectors.asked
    async with asyncio.timeout(10):
        assert await latest.of("GPU4") is not None


@pytest.mark.asyncio(loop_scope="module")
async def test_the_short_way_says_what_the_long_way_says(
    client: httpx.AsyncClient, gateway: GatewayServer, collector: FakeCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = await client.get("/api/v1/gpus/node-2/0")
    monkeypatch.setattr("gateway.hot._PREFIX", "nowhere")
    long = await client.get("/api/v1/gpus/node-2/0")
    assert short.json() == long.json()
    assert short.json()["gpu"] == "node-2/0"
    about = SimpleNamespace(short=dict(short.headers), long=dict(long.headers))
    for headers in (about.short, about.long):
        headers.pop("date")
        headers.pop("x-request-id", "")
    assert about.short == about.long
