"""What is published: records whose values say where they belong, some of them late, some of them twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import polars as pl

from telemetry.codec import ARROW_CONTENT_TYPE, CONTENT_TYPE, TIME_TYPE, encode_arrow
from telemetry.model import GPU, TIMESTAMP
from telemetry.queue.client import OutgoingMessage, Publisher, partition_of_key
from telemetry.topics import DATA, DATA_TOPIC

GPUS: Final = [f"GPU-{number:03}" for number in range(48)]
METRICS: Final = ("power", "rest")
START: Final = datetime(2026, 1, 1, 22, tzinfo=UTC)
"""Not long before midnight, so that the records lie in two days."""
STEP_US: Final = 5_000_000
RECORDS: Final = 20
"""Records of a message."""

IN_FLIGHT_MAX: Final = 32
_LATE: Final = 0.15
_LATE_MESSAGES: Final = 150
_AGAIN: Final = 0.1

_START_US: Final = int(START.timestamp() * 1e6)


@dataclass(slots=True)
class Input:
    """Makes messages without end, and knows what has been published."""

    chance: random.Random
    repeats: bool = True
    """Whether some messages are published twice."""
    published: dict[tuple[int, int], None] = field(default_factory=dict)
    """GPU and block of each message that was confirmed, at least once."""
    again: int = 0
    """Messages that were published a second time."""
    _blocks: list[int] = field(default_factory=lambda: [0] * len(GPUS))
    _late: list[tuple[int, int, int]] = field(default_factory=list)
    _made: int = 0

    def next(self) -> tuple[int, int]:
        """The next message: a GPU's place and a block of its time."""
        self._made += 1
        if self._late and self._late[0][0] <= self._made:
            _, gpu, block = self._late.pop(0)
            return gpu, block
        if self.repeats and self.published and self.chance.random() < _AGAIN:
            self.again += 1
            return self.chance.choice(list(self.published)[-500:])
        while True:
            gpu = self._made % len(GPUS)
            block = self._blocks[gpu]
            self._blocks[gpu] += 1
            if self.chance.random() >= _LATE:
                return gpu, block
            self._late.append((self._made + _LATE_MESSAGES, gpu, block))

    def truth(self) -> pl.DataFrame:
        """All records that were published, once each."""
        return pl.concat([frame_of_block(gpu, block) for gpu, block in self.published]).sort(GPU, TIMESTAMP)


def frame_of_block(gpu: int, block: int) -> pl.DataFrame:
    """The records of one message."""
    numbers = range(block * RECORDS, (block + 1) * RECORDS)
    power = [gpu * 1e6 + number for number in numbers]
    return pl.DataFrame(
        [
            pl.Series(TIMESTAMP, [_START_US + number * STEP_US for number in numbers], pl.Int64).cast(TIME_TYPE),
            pl.Series(GPU, [GPUS[gpu]] * RECORDS),
            pl.Series(METRICS[0], power),
            pl.Series(METRICS[1], [-value / 4 for value in power]),
            pl.Series("host", [f"node-{gpu // 8}"] * RECORDS),
        ]
    )


async def publish(publisher: Publisher, records: Input, messages: int | None = None, pause_s: float = 0.0) -> None:
    """Publish so many messages, or until cancelled; what is under way then is waited for."""
    room = asyncio.Semaphore(IN_FLIGHT_MAX)

    async def send(gpu: int, block: int) -> None:
        try:
            message = OutgoingMessage(encode_arrow(frame_of_block(gpu, block)), {CONTENT_TYPE: ARROW_CONTENT_TYPE})
            partition = partition_of_key(GPUS[gpu], DATA.partitions)
            await publisher.publish_batch(DATA_TOPIC, [message], partition=partition)
            records.published[gpu, block] = None
        finally:
            room.release()

    under_way: set[asyncio.Task[None]] = set()
    try:
        for _ in _count(messages):
            await room.acquire()
            task = asyncio.create_task(send(*records.next()))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            await asyncio.sleep(pause_s)
    finally:
        await asyncio.gather(*under_way)


def _count(messages: int | None) -> Iterator[None]:
    while messages is None or messages > 0:
        yield
        messages = None if messages is None else messages - 1
