"""Publishes a fleet's records to the queue: as fast as it goes, at a steady rate, or each when its time has come."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Final, Literal

import polars as pl

from telemetry.codec import ARROW_CONTENT_TYPE, CONTENT_TYPE, encode_arrow, metric_columns
from telemetry.model import GPU, TIMESTAMP
from telemetry.queue.client import OutgoingMessage, Publisher, partition_of_key
from telemetry.simulator.fleet import Fleet
from telemetry.topics import DATA

MESSAGE_RECORDS: Final = 5_000
"""Records in a message."""
IN_FLIGHT_MAX: Final = 32
"""Messages that may be unconfirmed."""
SLICE_S: Final = 0.2
"""At a steady rate, so much of a second goes out together."""

Rate = float | Literal["realtime"]


@dataclass(slots=True)
class Published:
    """What has been confirmed."""

    records: int = 0
    samples: int = 0


class FleetPublisher:
    """Publishes one fleet. The GPU decides the partition, as everywhere."""

    def __init__(self, fleet: Fleet, publisher: Publisher, topic: str, rate: Rate) -> None:
        """Publish ``fleet`` through an open ``publisher``.

        Args:
            fleet: what to publish.
            publisher: an open publisher.
            topic: where to.
            rate: records a second; 0 for as fast as it goes; ``realtime`` sends each record at its own time, and what
                lies in the past at once.
        """
        self.done: Final = Published()
        self._fleet = fleet
        self._publisher = publisher
        self._topic = topic
        self._rate: Rate = rate
        self._room = asyncio.Semaphore(IN_FLIGHT_MAX)

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until the fleet's time is over or ``stop`` is set; returns when all that was sent is confirmed.

        Raises:
            QueueClientError: if the queue refuses.
        """
        topic = type(DATA)()
        topic.CopyFrom(DATA)
        topic.name = self._topic
        partitions = await self._publisher.ensure(topic)
        places = {gpu.uuid: partition_of_key(gpu.uuid, partitions) for gpu in self._fleet.gpus}
        placed = pl.DataFrame({GPU: list(places), "$partition": list(places.values())})
        frames = self._fleet.frames()
        began = monotonic()
        sent = 0
        try:
            async with asyncio.TaskGroup() as tasks:
                while (frame := await asyncio.to_thread(next, frames, None)) is not None:
                    for part in self._parts(frame):
                        if await self._stopped(stop, self._due_in_s(part, began, sent)):
                            return
                        sent += part.height
                        # Encoded side by side, then started in order, so that a partition's messages stay in order.
                        split = list(_split(part, placed))
                        encoded = await asyncio.gather(
                            *(asyncio.to_thread(encode_arrow, records) for _, records in split)
                        )
                        for (partition, records), data in zip(split, encoded, strict=True):
                            await self._room.acquire()
                            tasks.create_task(self._send(partition, records, data))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    def _parts(self, frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """What goes out together."""
        if self._rate == "realtime":
            yield from frame.partition_by(TIMESTAMP, maintain_order=True)
        elif self._rate == 0:
            yield frame
        else:
            yield from frame.iter_slices(max(1, round(self._rate * SLICE_S)))

    def _due_in_s(self, part: pl.DataFrame, began: float, sent: int) -> float:
        if self._rate == "realtime":
            time = part.item(0, TIMESTAMP)
            assert isinstance(time, datetime)
            return (time - datetime.now(UTC)).total_seconds()
        return began + sent / self._rate - monotonic() if self._rate else 0.0

    async def _stopped(self, stop: asyncio.Event, wait_s: float) -> bool:
        """Wait so long, or until told to stop."""
        if wait_s > 0:
            try:
                async with asyncio.timeout(wait_s):
                    await stop.wait()
            except TimeoutError:
                pass
        return stop.is_set()

    async def _send(self, partition: int, records: pl.DataFrame, data: bytes) -> None:
        try:
            message = OutgoingMessage(data, {CONTENT_TYPE: ARROW_CONTENT_TYPE})
            await self._publisher.publish_batch(self._topic, [message], partition=partition)
        finally:
            self._room.release()
        self.done.records += records.height
        self.done.samples += records.height * len(metric_columns(records))


def _split(records: pl.DataFrame, placed: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
    """The records of each partition, in messages."""
    joined = records.join(placed, on=GPU, how="left", maintain_order="left")
    for key, part in joined.partition_by("$partition", as_dict=True, include_key=False, maintain_order=True).items():
        for message in part.iter_slices(MESSAGE_RECORDS):
            yield int(key[0]), message
