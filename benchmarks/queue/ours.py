"""This queue: one topic of one partition, the ordinary client, every ack awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from benchmarks.queue.load import Load, Outcome, batch_of_rows, due_times, rows_in, stamped_row
from benchmarks.queue.programs import HOST, Program, Server, free_port
from telemetry import __version__
from telemetry.queue.client import AckStatus, OutgoingMessage, Publisher, ReceivedDelivery, Subscriber

TOPIC: Final = "bench"
GROUP: Final = "bench"
IN_FLIGHT: Final = 64
"""Batches sent and not confirmed."""

NAME: Final = "telemetry"
PROMISE: Final = "a publish and an ack are answered after fdatasync of what they changed"


def start(folder: Path, engine: Literal["disk", "memory"] = "disk") -> Server:
    """Start the queue; the disk engine syncs before every answer."""
    port = free_port()
    arguments = ("-m", "telemetry", "queue", "--engine", engine, "--data-dir", folder / "data", "--fsync", "always")
    program = Program.python(folder, "queue", *arguments, "--grpc-port", port, "--http-port", 0)
    return Server(NAME, __version__, f"{HOST}:{port}", program)


def publish(address: str, load: Load, ready: Callable[[], None]) -> Outcome:
    """Send all rows."""
    return asyncio.run(_publish(address, load, ready))


def consume(address: str, load: Load, ready: Callable[[], None]) -> Outcome:
    """Receive and ack all rows."""
    return asyncio.run(_consume(address, load, ready))


async def _publish(address: str, load: Load, ready: Callable[[], None]) -> Outcome:
    outcome = Outcome()
    async with Publisher(address) as publisher:
        await publisher.ensure_topic(TOPIC)
        await asyncio.to_thread(ready)
        outcome.begin()
        if load.per_second:
            await _send_when_due(publisher, load)
        else:
            await _send_batches(publisher, load.batches)
        outcome.rows = load.rows
        outcome.end()
    return outcome


async def _send_batches(publisher: Publisher, batches: int) -> None:
    rows = batch_of_rows()
    room = asyncio.Semaphore(IN_FLIGHT)

    async def send() -> None:
        await publisher.publish_batch(TOPIC, [OutgoingMessage(row) for row in rows], partition=0)
        room.release()

    async with asyncio.TaskGroup() as sending:
        for _ in range(batches):
            await room.acquire()
            sending.create_task(send())


async def _send_when_due(publisher: Publisher, load: Load) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as sending:

        def send(due_ns: int) -> None:
            sending.create_task(publisher.publish(TOPIC, stamped_row(due_ns)))

        def pace() -> None:
            for due_ns in due_times(load):
                loop.call_soon_threadsafe(send, due_ns)

        await asyncio.to_thread(pace)


async def _consume(address: str, load: Load, ready: Callable[[], None]) -> Outcome:
    outcome = Outcome()
    async with Subscriber(address, [TOPIC], GROUP, permits_messages=100_000) as subscriber:
        await subscriber.wait_started()
        await asyncio.to_thread(ready)

        async def ack(delivery: ReceivedDelivery) -> None:
            if await delivery.ack() is not AckStatus.OK:
                raise RuntimeError(f"an ack of {delivery} was not taken")

        async with asyncio.TaskGroup() as acking:
            async for event in subscriber:
                if not isinstance(event, ReceivedDelivery):
                    continue
                if load.per_second:
                    for message in event.messages:
                        outcome.received(message.data)
                        outcome.rows += 1
                else:
                    outcome.rows += sum(rows_in(message.data, load) for message in event.messages)
                acking.create_task(ack(event))
                if outcome.rows >= load.rows:
                    break
        outcome.end()
    return outcome
