"""A Subscribe stream between a real engine and a client whose timing is chosen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from telemetry.queue import wire_pb2
from telemetry.queue.core.types import PublishBatch
from telemetry.queue.engines.memory import MemoryEngine
from telemetry.queue.services.open_streams import OpenStreams
from telemetry.queue.services.subscription_stream import serve_subscription
from telemetry.v1 import queue_pb2


class SlowContext:
    """A call whose writes take their time, so that whatever else is due happens before they are done."""

    def __init__(self) -> None:
        self.written: asyncio.Queue[wire_pb2.SubscribeResponse] = asyncio.Queue()

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    async def write(self, response: wire_pb2.SubscribeResponse) -> None:
        for _ in range(50):
            await asyncio.sleep(0)
        self.written.put_nowait(response)


async def test_a_client_that_closes_its_side_before_it_is_told_that_it_has_started_gets_what_it_has_permits_for() -> (
    None
):
    engine = MemoryEngine()
    await engine.start()
    batch = queue_pb2.MessageBatch(messages=[queue_pb2.Message(data=b"one")]).SerializeToString()
    await engine.publish(PublishBatch("t", batch, 1))

    async def requests() -> AsyncIterator[queue_pb2.SubscribeRequest]:
        flow = queue_pb2.SubscribeFlow(messages=1)
        yield queue_pb2.SubscribeRequest(start=queue_pb2.SubscribeStart(topics=["t"], group="g", flow=flow))

    context = SlowContext()
    serving = asyncio.create_task(serve_subscription(engine, OpenStreams(), requests(), context))  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        assert (await context.written.get()).HasField("started")
        delivered = asyncio.create_task(context.written.get())
        await asyncio.wait((delivered, serving), return_when=asyncio.FIRST_COMPLETED)
    assert delivered.done(), "the stream has ended"
    assert delivered.result().delivery.delivery_id
    serving.cancel()
    await asyncio.wait((serving,))
    await engine.stop()
