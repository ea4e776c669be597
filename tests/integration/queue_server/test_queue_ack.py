"""Ack over a real port: outcomes, statuses, and errors that leave the stream open."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from telemetry.v1 import queue_pb2
from telemetry.v1.queue_pb2 import AckEntry, AckRequest, MessageRange
from tests.integration.queue_server.wire_client import Client, fields_of, read, read_delivery

ACK, NACK = queue_pb2.ACK_OUTCOME_ACK, queue_pb2.ACK_OUTCOME_NACK
EXTEND, TERMINATE = queue_pb2.ACK_OUTCOME_EXTEND, queue_pb2.ACK_OUTCOME_TERMINATE
OK, STALE, UNKNOWN = queue_pb2.ACK_STATUS_OK, queue_pb2.ACK_STATUS_STALE, queue_pb2.ACK_STATUS_UNKNOWN


async def test_an_ack_is_ok_and_an_id_nobody_gave_is_unknown(client: Client) -> None:
    await client.publish("t", b"one")
    call = await client.subscribe("t", group="g")
    delivery = await read_delivery(call)
    assert await client.settle(delivery.delivery_id, "made-up") == [OK, UNKNOWN]
    call.cancel()


async def test_a_part_of_a_delivery_can_be_settled(client: Client) -> None:
    await client.publish("t", b"one", b"two", b"three")
    call = await client.subscribe("t", group="g")
    delivery = await read_delivery(call)
    assert await client.settle(delivery.delivery_id, range=MessageRange(first=0, count=2)) == [OK]
    assert await client.settle(delivery.delivery_id, range=MessageRange(first=3, count=1)) == [UNKNOWN]
    assert await client.settle(delivery.delivery_id, outcome=NACK, delay=Duration()) == [OK]
    again = await read_delivery(call)
    assert again.attempt == 2
    assert [(run.first, run.count) for run in again.due] == [(2, 1)]
    call.cancel()


async def test_an_extended_lease_and_a_terminated_message(client: Client) -> None:
    await client.publish("t", b"poison")
    call = await client.subscribe("t", group="g")
    delivery = await read_delivery(call)
    assert await client.settle(delivery.delivery_id, outcome=EXTEND, delay=Duration(seconds=60)) == [OK]
    assert await client.settle(delivery.delivery_id, outcome=TERMINATE, reason="cannot be read") == [OK]
    dead = await client.subscribe("t.dead-letter", group="undertaker")
    letter = (await read_delivery(dead)).batch.messages[0]
    assert letter.data == b"poison"
    assert letter.attributes["dead-letter-reason"] == "cannot be read"
    call.cancel()
    dead.cancel()


WRONG: list[tuple[str, AckRequest]] = [
    ("request_id", AckRequest(request_id="x" * 129, entries=[AckEntry(delivery_id="d", outcome=ACK)])),
    ("entries", AckRequest()),
    ("entries", AckRequest(entries=[AckEntry(delivery_id="d", outcome=ACK)] * 10_001)),
]
WRONG_ENTRY: list[tuple[str, dict[str, Any]]] = [
    ("delivery_id", {"delivery_id": ""}),
    ("delivery_id", {"delivery_id": "d" * 65}),
    ("range.count", {"range": MessageRange(first=1)}),
    ("outcome", {"outcome": queue_pb2.ACK_OUTCOME_UNSPECIFIED}),
    ("outcome", {"outcome": 17}),
    ("delay", {"delay": Duration(seconds=1)}),
    ("delay", {"outcome": TERMINATE, "delay": Duration(seconds=1)}),
    ("delay", {"outcome": NACK, "delay": Duration(seconds=-1)}),
    ("delay", {"outcome": EXTEND, "delay": Duration(seconds=12 * 3600 + 1)}),
    ("reason", {"outcome": NACK, "reason": "ü" * 513}),
]
for name, wrong in WRONG_ENTRY:
    fields: dict[str, Any] = {"delivery_id": "d", "outcome": ACK}
    bad = AckEntry(**(fields | wrong))
    WRONG.append((f"entries[1].{name}", AckRequest(entries=[AckEntry(delivery_id="d", outcome=ACK), bad])))


async def test_every_wrong_field_is_named_nothing_is_done_and_the_stream_stays_open(client: Client) -> None:
    await client.publish("t", b"one")
    subscription = await client.subscribe("t", group="g")
    delivery = await read_delivery(subscription)
    call = client.queue.Ack()
    for field, request in WRONG:
        if request.entries:
            request.entries[0].delivery_id = delivery.delivery_id
        await call.write(request)
        refused = await read(call)
        assert refused.request_id == request.request_id
        assert (refused.error.code, fields_of(refused.error)) == (
            grpc.StatusCode.INVALID_ARGUMENT.value[0],
            [field],
        )
        assert not refused.results
    await call.write(AckRequest(entries=[AckEntry(delivery_id=delivery.delivery_id, outcome=NACK)]))
    assert [result.status for result in (await read(call)).results] == [OK], "it had not been acked"
    call.cancel()
    subscription.cancel()


async def test_many_requests_in_flight_are_answered_in_order(client: Client) -> None:
    for number in range(100):
        await client.publish("t", str(number).encode())
    subscription = await client.subscribe("t", group="g")
    ids = [(await read_delivery(subscription)).delivery_id for _ in range(100)]
    call = client.queue.Ack()
    for number, delivery_id in enumerate(ids):
        entries = [AckEntry(delivery_id=delivery_id, outcome=ACK)]
        await call.write(AckRequest(request_id=str(number), entries=entries))
    await call.done_writing()
    responses = [response async for response in call]
    assert [response.request_id for response in responses] == [str(number) for number in range(100)]
    assert {response.results[0].status for response in responses} == {OK}
    subscription.cancel()


async def test_a_lost_lease_is_stale(client: Client) -> None:
    await client.publish("t", b"one")
    call = await client.subscribe("t", group="g")
    delivery = await read_delivery(call)
    assert await client.settle(delivery.delivery_id, outcome=NACK) == [OK]
    again = await read_delivery(call)
    assert await client.settle(delivery.delivery_id, again.delivery_id) == [STALE, OK]
    call.cancel()
