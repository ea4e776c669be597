"""A publisher in a process of its own, for drivers that kill it: `python -m tests.crash.publisher`.

Two kinds. One *counts*: what it sends in a partition, and in which batches, follows from the sequence number alone, as
with a file that is read again; when it starts it asks the queue how far it had come, and goes back a little further.
The other *forgets*: it is someone new in each life, and what was not confirmed is never sent again.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from telemetry.queue.client import (
    DoneCallback,
    OutgoingMessage,
    Publisher,
    QueueClientError,
    Receipt,
    RefusedError,
    partition_of_key,
)
from tests.crash.ledger import Confirmed, LedgerWriter, Refused, Sent, now
from tests.crash.payloads import encode

BATCHES_UNANSWERED: Final = 8
BATCHES_AGAIN: Final = 3
"""How many batches that are stored a counting publisher sends again after its start."""
PAUSE_S_MAX: Final = 0.05
POISONED: Final = 4
"""One batch in so many is poison; its messages' names say so."""


def batches(name: str, partition: int) -> Iterator[tuple[int, tuple[str, ...]]]:
    """All batches of a counting publisher for a partition: the first sequence, and the messages' names."""
    first = 0
    while True:
        chance = zlib.crc32(f"{name}/{partition}/{first}".encode())
        mark = "!" if chance % POISONED == 0 else ""
        count = 1 + chance // POISONED % 12
        yield first, tuple(f"{name}/{partition}/{first + at}{mark}" for at in range(count))
        first += count


async def count(
    address: str, topic: str, partitions: int, name: str, ledger: LedgerWriter, stop: asyncio.Event
) -> None:
    """Publish with sequences."""
    room = asyncio.Semaphore(BATCHES_UNANSWERED)
    chance = random.Random()
    refused = asyncio.Event()

    async def publish(publisher: Publisher, partition: int, first: int, ids: tuple[str, ...]) -> None:
        messages = [OutgoingMessage(encode(one)) for one in ids]
        try:
            receipt = await publisher.publish_batch(topic, messages, partition=partition, first_sequence=first)
            ledger.write(Confirmed(now(), partition, receipt.base_offset, ids, receipt.duplicate))
        except RefusedError as error:
            ledger.write(Refused(now(), str(error)))
            refused.set()
        finally:
            room.release()

    async with Publisher(address, producer_id=name, producer_epoch=0, delivery_timeout_s=None) as publisher:
        await publisher.ensure_topic(topic, partitions)
        positions = await publisher.positions(topic)
        sources = []
        for partition in range(partitions):
            last = positions[partition].last_sequence if partition in positions else -1
            source = batches(name, partition)
            known = []
            while (batch := next(source))[0] <= last:
                known.append(batch)
            sources.append((partition, iter([*known[-BATCHES_AGAIN:], batch]), source))
        async with asyncio.TaskGroup() as tasks:
            while not stop.is_set():
                if refused.is_set():
                    await stop.wait()
                    break
                partition, again, source = chance.choice(sources)
                first, ids = next(again, None) or next(source)
                await room.acquire()
                ledger.write(Sent(now(), name, partition, first, ids))
                tasks.create_task(publish(publisher, partition, first, ids))
                await pause(stop, chance.uniform(0, PAUSE_S_MAX))


async def forget(
    address: str, topic: str, partitions: int, name: str, ledger: LedgerWriter, stop: asyncio.Event
) -> None:
    """Publish one by one with keys, and let the client batch."""
    chance = random.Random()

    def write_down(partition: int, ids: tuple[str, ...]) -> DoneCallback:
        def done(outcome: Receipt | QueueClientError) -> None:
            if isinstance(outcome, Receipt):
                ledger.write(Confirmed(now(), outcome.partition, outcome.base_offset, ids, outcome.duplicate))
            elif isinstance(outcome, RefusedError):
                ledger.write(Refused(now(), str(outcome)))

        return done

    async with Publisher(address, window_bytes=4000, delivery_timeout_s=None) as publisher:
        await publisher.ensure_topic(topic, partitions)
        number = 0
        while not stop.is_set():
            for _ in range(chance.randrange(1, 6)):
                key = str(chance.randrange(20))
                partition = partition_of_key(key, partitions)
                ids = (f"{name}/{partition}/{number}",)
                ledger.write(Sent(now(), name, partition, number, ids))
                await publisher.send(topic, encode(ids[0]), {}, key, write_down(partition, ids))
                number += 1
            await pause(stop, chance.uniform(0, 2 * PAUSE_S_MAX))


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait, but not once it is time to stop."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["count", "forget"])
    parser.add_argument("--address", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--ledger", type=Path, required=True)
    options = parser.parse_args()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    publish = count if options.kind == "count" else forget
    ledger = LedgerWriter(options.ledger)
    await publish(options.address, options.topic, options.partitions, options.name, ledger, stop)


if __name__ == "__main__":
    asyncio.run(main())
