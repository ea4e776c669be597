"""`/api/v1/stream` over real connections, fed through the queue's own protocol."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from gateway.server import GatewayServer
from telemetry.runtime.grpc_server import GrpcServer
from tests.unit.gateway.services import (
    NEWEST_S,
    FakeCollector,
    FakeQueue,
    Streams,
    event_stream,
    gateway_to,
    gpu_message,
    live_update,
    queue_services,
    serve,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_an_update_reaches_every_client(queue: FakeQueue, stream: Streams) -> None:
    await queue.subscribed.wait()
    async with stream() as one, stream() as other:
        queue.send(live_update("GPU-a", labels={"GPU-a": {"host": "node-9"}}))
        events = [await one.next_event(), await other.next_event()]
    assert events[0] == events[1]
    assert events[0].event == "update"
    assert events[0].event_id
    assert events[0].data == {
        "gpus": ["GPU-a"],
        "timestamps": [NEWEST_S],
        "columns": {
            "temperature": {"last": [63.0], "min": [62.0], "max": [64.0]},
            "power_draw": {"last": [630.0], "min": [629.0], "max": [631.0]},
        },
        "labels": {"GPU-a": {"host": "node-9"}},
    }


async def test_one_subscription_serves_all_clients(queue: FakeQueue, stream: Streams) -> None:
    await queue.subscribed.wait()
    async with stream(), stream(), stream():
        assert queue.subscriptions == 1


async def test_the_live_topic_is_made_in_memory(queue: FakeQueue, client: httpx.AsyncClient) -> None:
    await queue.subscribed.wait()
    (topic,) = queue.created
    assert (topic.name, topic.partitions, topic.storage) == ("live", 1, 2)


async def test_last_event_id_brings_what_was_missed(queue: FakeQueue, stream: Streams) -> None:
    await queue.subscribed.wait()
    async with stream() as events:
        queue.send(live_update("GPU-a", value=1))
        seen = await events.next_event()
        queue.send(live_update("GPU-a", value=2), live_update("GPU-a", value=3))
        await events.next_event()
        await events.next_event()
    async with stream(last_id=seen.event_id) as events:
        again = [await events.next_event(), await events.next_event()]
    assert [each.data["columns"]["temperature"]["last"] for each in again] == [[2], [3]]


async def test_a_client_that_saw_no_event_can_come_back_too(queue: FakeQueue, client: httpx.AsyncClient) -> None:
    await queue.subscribed.wait()
    async with event_stream(client) as watching:
        async with event_stream(client) as events:
            last_id = events.first.event_id
        queue.send(live_update("GPU-a", value=1))
        await watching.next_event()
    async with event_stream(client, last_id) as events:
        assert (await events.next_event()).data["columns"]["temperature"]["last"] == [1]


async def test_coming_back_after_the_past_is_gone_is_a_gap(gateway: GatewayServer, stream: Streams) -> None:
    gateway.hub.publish(live_update("GPU-a"))
    last_id = gateway.hub.last_id
    for number in range(300):
        gateway.hub.publish(live_update("GPU-a", value=number))
    async with stream(last_id=str(last_id)) as events:
        gap = await events.next_event()
        assert (gap.event, gap.data) == ("gap", {"missed": 299})
        update = await events.next_event()
        assert update.data["columns"]["temperature"]["last"] == [299]


async def test_an_id_of_another_gateway_is_a_gap_of_unknown_size(stream: Streams) -> None:
    async with stream(last_id="17") as events:
        assert (await events.next_event()).data == {"missed": None}


async def test_messages_lost_before_the_gateway_are_a_gap(queue: FakeQueue, stream: Streams) -> None:
    await queue.subscribed.wait()
    async with stream() as events:
        queue.send_gap(5)
        event = await events.next_event()
        assert (event.event, event.data) == ("gap", {"missed": 5})


async def test_a_client_that_does_not_read_skips_to_the_newest(
    gateway: GatewayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.live.LAG_S_MAX", 0.0)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.api_port, limit=1 << 16)
    writer.write(b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b"retry: 2000")
    many = [f"GPU-{number:05}" for number in range(5_000)]
    for _ in range(60):
        gateway.hub.publish(live_update(*many))
        await asyncio.sleep(0)  # let the server send what it can
    received = b""
    while b"event: gap" not in received:
        received = received[-20:] + await reader.read(1 << 20)
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    ("parameters", "gpus"),
    [
        ({"gpu": "GPU-5fd4f087"}, ["GPU-5fd4f087"]),
        ({"gpu": "GPU-5f"}, ["GPU-5fd4f087"]),
        ({"gpu": "node-1/0"}, ["GPU-5fd4f087"]),
        ({"gpu": ["GPU-5fd4f087", "node-2/0"]}, ["GPU-5fd4f087", "node-2/0"]),
        ({"host": "node-1"}, ["GPU-5b8ae3c1", "GPU-5fd4f087"]),
        ({"host": "node-1", "gpu": ["GPU-5fd4f087", "node-2/0"]}, ["GPU-5fd4f087"]),
        ({"host": "node-new"}, ["GPU-new"]),
    ],
)
async def test_filters_choose_gpus(
    parameters: dict[str, str], gpus: list[str], queue: FakeQueue, stream: Streams
) -> None:
    await queue.subscribed.wait()
    everyone = ["GPU-5b8ae3c1", "GPU-5fd4f087", "node-2/0", "GPU-new"]
    async with stream(**parameters) as events:
        queue.send(live_update(*everyone, labels={"GPU-new": {"host": "node-new"}}))
        assert (await events.next_event()).data["gpus"] == gpus


async def test_filters_choose_metrics(queue: FakeQueue, stream: Streams) -> None:
    await queue.subscribed.wait()
    async with stream(metric="power_draw") as events:
        queue.send(live_update("GPU-a"))
        assert list((await events.next_event()).data["columns"]) == ["power_draw"]


async def test_a_message_that_cannot_be_read_stops_nothing(queue: FakeQueue, stream: Streams) -> None:
    await queue.subscribed.wait()
    uneven = b'{"gpus":["a","b"],"timestamps_us":[1,2],"columns":{"x":{"last":[1],"min":[1],"max":[1]}},"labels":{}}'
    no_list = b'{"gpus":1,"timestamps_us":[],"columns":{},"labels":{}}'
    no_labels = b'{"gpus":[],"timestamps_us":[],"columns":{},"labels":{"GPU-a":"x"}}'
    async with stream() as events:
        queue.send(b"not json", b"[]", b'{"gpus": 1}', uneven, no_list, no_labels, live_update("GPU-a"))
        assert (await events.next_event()).data["gpus"] == ["GPU-a"]


async def test_the_stream_opens_without_the_other_services_and_goes_on_when_they_come(tmp_path: Path) -> None:
    queue = FakeQueue()  # type: ignore[abstract]  # the rest is never called
    passing = await serve(*queue_services(queue))
    await passing.stop(0)
    async with gateway_to(passing.port, 1, static_folder=tmp_path) as gateway:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.api_port}", timeout=30) as client:
            async with event_stream(client, gpu="GPU-a") as events:
                server = await serve(*queue_services(queue), port=passing.port)
                await queue.subscribed.wait()
                queue.send(live_update("GPU-a"))
                assert (await events.next_event()).data["gpus"] == ["GPU-a"]
        await server.stop(0)


async def test_stopping_the_gateway_ends_streams_at_once(
    collector_server: GrpcServer, queue_server: GrpcServer, tmp_path: Path
) -> None:
    gateway = gateway_to(queue_server.port, collector_server.port, static_folder=tmp_path)
    await gateway.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.api_port}", timeout=30) as client:
        async with event_stream(client) as events:
            stopping = asyncio.create_task(gateway.stop())
            with pytest.raises(EOFError):
                await events.next()
            await stopping


async def test_clients_that_have_gone_are_forgotten(gateway: GatewayServer, stream: Streams) -> None:
    await no_viewers(gateway)
    async with stream():
        assert gateway.hub.viewers == 1
    await no_viewers(gateway)


async def no_viewers(gateway: GatewayServer) -> None:
    """Wait until the server has noticed that all clients have gone."""
    async with asyncio.timeout(30):
        while gateway.hub.viewers:
            await asyncio.sleep(0)


async def test_too_many_clients_are_refused(
    gateway: GatewayServer, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.live.VIEWERS_MAX", 0)
    answer = await client.get("/api/v1/stream")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "2"


async def test_hosts_are_known_from_the_collector(queue: FakeQueue, collector: FakeCollector, stream: Streams) -> None:
    await queue.subscribed.wait()
    collector.gpus.append(gpu_message("GPU-z", "node-z", "0"))
    async with stream(host="node-z") as events:
        queue.send(live_update("GPU-z", "GPU-5b8ae3c1"))
        assert (await events.next_event()).data["gpus"] == ["GPU-z"]
