"""Subscribe over a real port: settings, permits, how a stream ends, and what becomes of its deliveries."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from telemetry.queue.core.types import Delivery, SubscribeOptions
from telemetry.queue.engines.memory import MemoryEngine
from telemetry.queue.server import QueueServer
from telemetry.v1 import queue_admin_pb2, queue_pb2
from telemetry.v1.queue_pb2 import StartPosition, SubscribeFlow, SubscribeRequest, SubscribeStart
from tests.integration.queue_server.wire_client import Client, ending, fields_of, read, read_delivery


async def test_published_messages_are_delivered_with_where_they_lie(client: Client) -> None:
    await client.publish("t", b"one", b"two")
    call = await client.subscribe("t", group="g")
    delivery = await read_delivery(call)
    assert [message.data for message in delivery.batch.messages] == [b"one", b"two"]
    assert (delivery.topic, delivery.partition, delivery.base_offset, delivery.attempt) == ("t", 0, 0, 1)
    assert delivery.publish_time.seconds > 1_700_000_000
    assert 0 < len(delivery.delivery_id) <= 64
    await client.publish("t", b"three")
    assert (await read_delivery(call)).base_offset == 2
    call.cancel()


async def test_started_reports_the_settings_in_force(client: Client) -> None:
    start = SubscribeStart(
        topics=["t"],
        group="g",
        member="m",
        mode=queue_pb2.SUBSCRIPTION_MODE_ORDERED,
        ack_wait=Duration(seconds=90),
        max_deliver=3,
        backoff=[Duration(nanos=500_000_000), Duration(seconds=2)],
        dead_letter_topic="dead",
        max_unacked=50,
    )
    call = client.queue.Subscribe()
    await call.write(SubscribeRequest(start=start))
    started = (await read(call)).started
    assert started.session_id
    for name in ("group", "member", "mode", "ack_wait", "max_deliver", "backoff", "dead_letter_topic", "max_unacked"):
        assert getattr(started, name) == getattr(start, name), name
    call.cancel()


async def test_a_member_without_a_name_is_given_one(client: Client) -> None:
    call = client.queue.Subscribe()
    await call.write(SubscribeRequest(start=SubscribeStart(topics=["t"], group="g")))
    started = (await read(call)).started
    assert started.member
    assert started.max_deliver == 10
    assert started.ack_wait.seconds == 30
    call.cancel()


WRONG_START: list[tuple[str, dict[str, Any]]] = [
    ("start.topics", {"topics": []}),
    ("start.topics", {"topics": [f"t{number}" for number in range(101)]}),
    ("start.topics[1]", {"topics": ["t", "Not a topic"]}),
    ("start.topics[0]", {"topics": ["a.>.b"]}),
    ("start.group", {"group": "no spaces"}),
    ("start.group", {"group": "g" * 129}),
    ("start.member", {"member": "m" * 129}),
    ("start.mode", {"mode": 17}),
    ("start.position.earliest", {"position": StartPosition(earliest=False)}),
    ("start.position.latest", {"position": StartPosition(latest=False)}),
    ("start.position.time", {"position": StartPosition(time=Timestamp(nanos=-1))}),
    ("start.position.time", {"position": StartPosition(time=Timestamp(seconds=1 << 40))}),
    ("start.ack_wait", {"ack_wait": Duration(nanos=999_999_999)}),
    ("start.ack_wait", {"ack_wait": Duration(seconds=12 * 3600 + 1)}),
    ("start.ack_wait", {"ack_wait": Duration(seconds=5, nanos=-1)}),
    ("start.max_deliver", {"max_deliver": 1001}),
    ("start.backoff", {"backoff": [Duration()] * 21}),
    ("start.backoff[1]", {"backoff": [Duration(), Duration(seconds=-1)]}),
    ("start.dead_letter_topic", {"dead_letter_topic": "NO"}),
    ("start.flow.messages", {"flow": SubscribeFlow(messages=1_000_001)}),
]


async def test_every_wrong_field_of_start_is_named(client: Client) -> None:
    for field, wrong in WRONG_START:
        fields: dict[str, Any] = {"topics": ["t"], "group": "g"}
        call = client.queue.Subscribe()
        await call.write(SubscribeRequest(start=SubscribeStart(**(fields | wrong))))
        code, status = await ending(call)
        assert (code, fields_of(status)) == (grpc.StatusCode.INVALID_ARGUMENT, [field])


async def test_the_first_request_must_be_a_start(client: Client) -> None:
    call = client.queue.Subscribe()
    await call.write(SubscribeRequest(flow=SubscribeFlow(messages=1)))
    code, status = await ending(call)
    assert (code, fields_of(status)) == (grpc.StatusCode.INVALID_ARGUMENT, ["start"])


async def test_a_stream_without_any_request_is_an_invalid_argument(client: Client) -> None:
    call = client.queue.Subscribe()
    await call.done_writing()
    code, status = await ending(call)
    assert (code, fields_of(status)) == (grpc.StatusCode.INVALID_ARGUMENT, ["start"])


async def test_a_wrong_later_request_ends_the_stream(client: Client) -> None:
    for field, request in (
        ("start", SubscribeRequest(start=SubscribeStart(topics=["t"]))),
        ("flow.messages", SubscribeRequest(flow=SubscribeFlow(messages=1_000_001))),
    ):
        call = await client.subscribe("t", group="g")
        await call.write(request)
        code, status = await ending(call)
        assert (code, fields_of(status)) == (grpc.StatusCode.INVALID_ARGUMENT, [field])


async def test_other_settings_for_a_group_that_exists_are_a_failed_precondition(client: Client) -> None:
    first = await client.subscribe("t", group="g", max_deliver=3)
    call = client.queue.Subscribe()
    await call.write(SubscribeRequest(start=SubscribeStart(topics=["t"], group="g", max_deliver=4)))
    code, status = await ending(call)
    assert (code, fields_of(status)) == (grpc.StatusCode.FAILED_PRECONDITION, ["start.max_deliver"])
    first.cancel()


async def test_no_more_is_sent_than_permits_allow(client: Client) -> None:
    for number in range(3):
        await client.publish("t", str(number).encode())
    call = await client.subscribe("t", group="g", messages=1)
    assert (await read_delivery(call)).base_offset == 0
    await call.write(SubscribeRequest(flow=SubscribeFlow(messages=1)))
    assert (await read_delivery(call)).base_offset == 1
    stats = (await client.admin.GetStats(queue_admin_pb2.GetStatsRequest())).stats
    assert stats.groups[0].delivered == 2
    assert stats.groups[0].members[0].permits_messages == 0
    call.cancel()


async def test_one_request_and_a_half_close_are_enough_to_take_one_message(client: Client) -> None:
    await client.publish("t", b"one", b"two")
    call = await client.subscribe("t", group="g", messages=1)
    await call.done_writing()
    delivery = await read_delivery(call)
    assert [(run.first, run.count) for run in delivery.due] == [(0, 1)]
    assert await client.settle(delivery.delivery_id) == [queue_pb2.ACK_STATUS_OK]
    code, _ = await ending(call)
    assert code is grpc.StatusCode.OK
    call = await client.subscribe("t", group="g", messages=1)
    await call.done_writing()
    assert [(run.first, run.count) for run in (await read_delivery(call)).due] == [(1, 1)]
    call.cancel()


async def test_a_half_closed_stream_waits_for_messages_that_come_later(client: Client) -> None:
    call = await client.subscribe("t", messages=2)
    await call.done_writing()
    await client.publish("t", b"one")
    await client.publish("t", b"two")
    assert (await read_delivery(call)).base_offset == 0
    assert (await read_delivery(call)).base_offset == 1
    assert (await ending(call))[0] is grpc.StatusCode.OK


async def test_an_ephemeral_subscription_begins_now_and_leases_nothing(client: Client) -> None:
    await client.publish("t", b"before")
    call = await client.subscribe("t")
    await client.publish("t", b"after")
    delivery = await read_delivery(call)
    assert [message.data for message in delivery.batch.messages] == [b"after"]
    assert (delivery.delivery_id, delivery.attempt) == ("", 0)
    call.cancel()


async def test_what_a_vanished_member_had_is_delivered_again_as_another_attempt(client: Client) -> None:
    await client.publish("t", b"one")
    call = await client.subscribe("t", group="g")
    first = await read_delivery(call)
    call.cancel()
    again = await client.subscribe("t", group="g")
    second = await read_delivery(again)
    assert (first.attempt, second.attempt) == (1, 2)
    assert await client.settle(first.delivery_id, second.delivery_id) == [
        queue_pb2.ACK_STATUS_STALE,
        queue_pb2.ACK_STATUS_OK,
    ]
    again.cancel()


async def test_a_member_of_the_same_name_takes_the_place_of_the_first(client: Client) -> None:
    first = await client.subscribe("t", group="g", member="m")
    second = await client.subscribe("t", group="g", member="m")
    code, status = await ending(first)
    assert code is grpc.StatusCode.ABORTED
    assert "m" in status.message
    second.cancel()


async def test_ordered_members_are_told_their_partitions(client: Client) -> None:
    topic = queue_admin_pb2.Topic(name="t", partitions=2)
    await client.admin.CreateTopic(queue_admin_pb2.CreateTopicRequest(topic=topic))
    ordered = queue_pb2.SUBSCRIPTION_MODE_ORDERED
    first = await client.subscribe("t", group="g", mode=ordered)
    assigned = (await read(first)).assigned.partitions
    assert [(each.topic, each.partition) for each in assigned] == [("t", 0), ("t", 1)]
    second = await client.subscribe("t", group="g", mode=ordered)
    revoked = (await read(first)).revoked.partitions
    given = (await read(second)).assigned.partitions
    assert list(given) == list(revoked)
    assert len(given) == 1
    first.cancel()
    second.cancel()


async def test_a_draining_server_says_so_waits_for_acks_and_keeps_the_attempt_count(
    server: QueueServer, client: Client
) -> None:
    await client.publish("t", b"one", b"two")
    call = await client.subscribe("t", group="g", messages=1)
    mine = await read_delivery(call)
    idle = await client.subscribe("t")
    draining = asyncio.create_task(server.drain(within_s=20))
    assert (await read(call)).drain.deadline.seconds > mine.publish_time.seconds
    assert (await read(idle)).HasField("drain")
    assert (await ending(idle))[0] is grpc.StatusCode.UNAVAILABLE
    assert not draining.done()
    assert await client.settle(mine.delivery_id) == [queue_pb2.ACK_STATUS_OK]
    assert (await ending(call))[0] is grpc.StatusCode.UNAVAILABLE
    await draining


async def test_what_a_drained_member_had_not_settled_is_the_same_attempt_later() -> None:
    engine = MemoryEngine()
    server = QueueServer(engine, grpc_port=0, http_port=0)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        client = Client(channel)
        await client.publish("t", b"one")
        call = await client.subscribe("t", group="g")
        assert (await read_delivery(call)).attempt == 1
        await server.drain(within_s=0.05)
        assert (await ending(call))[0] is grpc.StatusCode.UNAVAILABLE
    successor = await engine.subscribe(SubscribeOptions(("t",), group="g"))
    successor.add_permits(1, 0)
    (event,) = await successor.next_events()
    assert isinstance(event, Delivery)
    assert event.attempt == 1
    await server.stop()


async def test_a_draining_server_takes_no_new_streams(server: QueueServer, client: Client) -> None:
    await client.publish("t", b"one")
    await server.drain(within_s=0)
    for call in (client.queue.Publish(), client.queue.Subscribe(), client.queue.Ack()):
        assert (await ending(call))[0] is grpc.StatusCode.UNAVAILABLE
    assert await client.health() == 2, "NOT_SERVING"


async def test_a_client_may_have_as_many_subscriptions_on_one_connection_as_the_queue_lets_there_be(
    client: Client,
) -> None:
    calls = []
    for number in range(1100):
        call = client.queue.Subscribe()
        await call.write(SubscribeRequest(start=SubscribeStart(topics=[f"t.{number % 10}"])))
        calls.append(call)
    async with asyncio.timeout(30):
        for call in calls:
            assert (await read(call)).HasField("started")
    for call in calls:
        call.cancel()
