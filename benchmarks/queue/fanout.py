"""Figure 7: a thousand subscribers, each with a topic and a group of its own, on a connection of its own."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from benchmarks.queue import ours
from benchmarks.queue.load import Load, Outcome, due_times, stamped_row
from benchmarks.queue.peers import P50, P99, Size
from benchmarks.queue.programs import carry
from benchmarks.queue.report import Figure, Number, Row
from telemetry.queue.client import AckStatus, Publisher, ReceivedDelivery, Subscriber

SUBSCRIBERS: Final = 1_000
PER_SECOND: Final = 500


def fanout(size: Size) -> Figure:
    """One message to each topic in turn, each received and acked."""
    figure = Figure(
        "fanout", f"{SUBSCRIBERS:,} subscribers of {SUBSCRIBERS:,} topics, {PER_SECOND:,} messages a second"
    )
    load = Load(size.rows(4_000), per_second=PER_SECOND)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=size.folder) as name:
        folder = Path(name)
        with ours.start(folder).running() as server:
            done = carry("fanout", server, folder, load)
            rss_mb = server.program.rss_mb()
    times = sorted(done.consumer.latency_ms)
    numbers = {
        "messages": float(done.rows),
        "errors": float(load.rows - done.rows),
        P50: times[len(times) // 2],
        P99: times[len(times) * 99 // 100],
        "RSS MB": rss_mb,
    }
    figure.rows.append(Row("telemetry", {name: Number([value]) for name, value in numbers.items()}))
    figure.at_most("errors", numbers["errors"], 0)
    figure.at_most(P99, numbers[P99], 50)
    return figure


def publish(address: str, load: Load, ready: Callable[[], None]) -> Outcome:
    """Send a message to each topic in turn."""
    return asyncio.run(_publish(address, load, ready))


def consume(address: str, load: Load, ready: Callable[[], None]) -> Outcome:
    """Subscribe to all topics."""
    return asyncio.run(_consume(address, load, ready))


def _topic(index: int) -> str:
    return f"bench.{index % SUBSCRIBERS}"


async def _publish(address: str, load: Load, ready: Callable[[], None]) -> Outcome:
    outcome = Outcome(rows=load.rows)
    loop = asyncio.get_running_loop()
    async with Publisher(address) as publisher:
        for index in range(SUBSCRIBERS):
            await publisher.partitions(_topic(index))
        await asyncio.to_thread(ready)
        outcome.begin()
        async with asyncio.TaskGroup() as sending:

            def send(index: int, due_ns: int) -> None:
                sending.create_task(publisher.publish(_topic(index), stamped_row(due_ns)))

            def pace() -> None:
                for index, due_ns in enumerate(due_times(load)):
                    loop.call_soon_threadsafe(send, index, due_ns)

            await asyncio.to_thread(pace)
        outcome.end()
    return outcome


async def _consume(address: str, load: Load, ready: Callable[[], None]) -> Outcome:
    outcome = Outcome()
    async with AsyncExitStack() as stack:
        subscribers = []
        for index in range(SUBSCRIBERS):
            subscriber = Subscriber(address, [_topic(index)], group=f"bench-{index}")
            await stack.enter_async_context(subscriber)
            subscribers.append(subscriber)
        for subscriber in subscribers:
            await subscriber.wait_started()
        await asyncio.to_thread(ready)
        all_here = asyncio.Event()

        async def receive(subscriber: Subscriber) -> None:
            async for event in subscriber:
                if isinstance(event, ReceivedDelivery):
                    for message in event.messages:
                        outcome.received(message.data)
                    if await event.ack() is not AckStatus.OK:
                        raise RuntimeError(f"an ack of {event} was not taken")
                    outcome.rows += len(event.messages)
                    if outcome.rows >= load.rows:
                        all_here.set()

        async with asyncio.TaskGroup() as receiving:
            tasks = [receiving.create_task(receive(subscriber)) for subscriber in subscribers]
            await all_here.wait()
            outcome.end()
            for task in tasks:
                task.cancel()
    return outcome
