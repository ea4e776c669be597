"""A member of a group in a process of its own, for drivers that kill it: `python -m tests.crash.subscriber`."""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import zlib
from pathlib import Path
from typing import Final

from telemetry.queue.client import AckStatus, PartitionsAssigned, PartitionsRevoked, ReceivedDelivery, Subscriber
from tests.crash.ledger import (
    ACK,
    NACK,
    TERMINATE,
    Assigned,
    Delivered,
    LedgerWriter,
    Revoked,
    Settled,
    Settling,
    now,
)
from tests.crash.payloads import decode

WORK_S_MAX: Final = 0.02
PERMITS: Final = 100
REASON: Final = "poison"


def outcome_of(ids: tuple[str, ...], picky: bool) -> str:
    """What this member makes of messages; the same each time."""
    poison = next((one for one in ids if one.endswith("!")), None)
    if not picky or poison is None:
        return ACK
    return TERMINATE if zlib.crc32(poison.encode()) % 3 == 0 else NACK


class Member:
    """Writes down what it gets, works on it for a moment, settles it, and writes down what became of that."""

    def __init__(self, ledger: LedgerWriter, *, picky: bool, in_order: bool, go: asyncio.Event) -> None:
        self._ledger = ledger
        self._picky = picky
        self._in_order = in_order
        self._go = go
        self._received = 0
        self._chance = random.Random()
        self._working: set[asyncio.Task[None]] = set()

    async def run(self, subscriber: Subscriber) -> None:
        """Work until the subscriber is closed."""
        async for event in subscriber:
            if isinstance(event, ReceivedDelivery):
                self._received += 1
                number, offsets = self._received, tuple(event.offsets)
                ids = tuple(decode(message.data) for message in event.messages)
                self._ledger.write(Delivered(now(), number, event.partition, offsets, ids, event.attempt))
                work = self._work(event, number, outcome_of(ids, self._picky))
                if self._in_order:
                    await work
                else:
                    task = asyncio.create_task(work)
                    self._working.add(task)
                    task.add_done_callback(self._working.discard)
            elif isinstance(event, PartitionsAssigned | PartitionsRevoked):
                partitions = tuple(one.partition for one in event.partitions)
                assigned = isinstance(event, PartitionsAssigned)
                self._ledger.write(Assigned(now(), partitions) if assigned else Revoked(now(), partitions))

    async def _work(self, delivery: ReceivedDelivery, number: int, outcome: str) -> None:
        await self._go.wait()
        await asyncio.sleep(self._chance.uniform(0, WORK_S_MAX) / (10 if self._in_order else 1))
        self._ledger.write(Settling(now(), number, outcome))
        if outcome == ACK:
            answer = asyncio.ensure_future(delivery.ack())
        elif outcome == NACK:
            answer = asyncio.ensure_future(delivery.nack(0, REASON))
        else:
            answer = asyncio.ensure_future(delivery.terminate(REASON))
        # In order, but without waiting for the disk each time.
        self._working.add(task := asyncio.ensure_future(self._write_answer(answer, number)))
        task.add_done_callback(self._working.discard)
        await asyncio.sleep(0)

    async def _write_answer(self, answer: asyncio.Future[AckStatus], number: int) -> None:
        status = await answer
        self._ledger.write(Settled(now(), number, status.value))


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--mode", choices=["shared", "ordered"], default="shared")
    parser.add_argument("--ack-wait-s", type=float, default=30.0)
    parser.add_argument("--max-deliver", type=int, default=10)
    parser.add_argument("--picky", action="store_true", help="nack or terminate poison")
    parser.add_argument("--hold", action="store_true", help="settle nothing before SIGUSR1")
    parser.add_argument("--ledger", type=Path, required=True)
    options = parser.parse_args()
    loop = asyncio.get_running_loop()
    stop, go = asyncio.Event(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, go.set)
    if not options.hold:
        go.set()
    subscriber = Subscriber(
        options.address,
        [options.topic],
        options.group,
        options.name,
        options.mode,
        ack_wait_s=options.ack_wait_s,
        max_deliver=options.max_deliver,
        permits_messages=PERMITS,
    )
    member = Member(LedgerWriter(options.ledger), picky=options.picky, in_order=options.mode == "ordered", go=go)
    async with subscriber:
        running = asyncio.create_task(member.run(subscriber))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
    await running


if __name__ == "__main__":
    asyncio.run(main())
