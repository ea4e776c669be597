"""Dead letters put back to where they came from, or thrown away; either way they leave the dead-letter topic."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Final

from telemetry.queue.core.errors import InvalidArgumentError, NotFoundError, PreconditionError
from telemetry.queue.core.types import AtOffset, PublishBatch, StoredBatch
from telemetry.queue.engines.dead_letters import ORIGIN_PARTITION, ORIGIN_TOPIC
from telemetry.queue.engines.engine import QueueEngine
from telemetry.queue.services.rights import require
from telemetry.queue.validation.admin import ChosenLetters
from telemetry.runtime.tokens import Right
from telemetry.v1 import queue_pb2

PREFIX: Final = "dead-letter-"
"""What the attributes begin with that were added when a message became a dead letter."""
REPLAYED_FROM: Final = "dead-letter-replayed-from"
"""Attribute of a replayed message: the dead-letter topic, partition and offset it lay at, joined by slashes."""

PROGRESS_S: Final = 0.2
"""How often progress is reported, and what was replayed is taken out of the dead-letter topic."""

Progress = tuple[int, int]
"""Letters done, and letters there are to do."""


@dataclass(slots=True)
class _Part:
    """The chosen letters of one partition: those of ``offsets`` from ``start`` to below ``end``; ``None`` means all."""

    partition: int
    start: int
    end: int
    offsets: frozenset[int] | None

    @property
    def total(self) -> int:
        return self.end - self.start if self.offsets is None else len(self.offsets)


class DeadLetters:
    """Replays and discards; one call at a time for each dead-letter topic."""

    def __init__(self, engine: QueueEngine) -> None:
        self._engine = engine
        self._busy: set[str] = set()

    async def replay(self, letters: ChosenLetters, per_second: int) -> AsyncIterator[Progress]:
        """Publish letters to where they came from, at most so many a second, and report progress.

        What was replayed leaves the dead-letter topic, also when the caller stops early. After a crash the letters of
        the last moment may still be there although they were replayed.

        Raises:
            NotFoundError: if there is no such topic or partition.
            InvalidArgumentError: if a chosen offset is not stored.
            PreconditionError: if a letter does not say where it came from, that topic is gone, or another call is at
                work on the same dead-letter topic.
        """
        clock = asyncio.get_running_loop().time
        with self._alone(letters.topic):
            parts = await self._parts(letters)
            done, total = 0, sum(part.total for part in parts)
            yield done, total
            begun = reported = clock()
            for part in parts:
                replayed: set[int] = set()
                try:
                    async with aclosing(self._messages(letters.topic, part)) as messages:
                        async for offset, message in messages:
                            await asyncio.sleep(begun + done / per_second - clock())
                            await self._publish_back(letters.topic, part.partition, offset, message)
                            replayed.add(offset)
                            done += 1
                            if clock() - reported >= PROGRESS_S:
                                await self._take_out(letters.topic, part, replayed)
                                replayed = set()
                                yield done, total
                                reported = clock()
                finally:
                    await self._take_out(letters.topic, part, replayed)
            yield done, total

    async def discard(self, letters: ChosenLetters) -> AsyncIterator[Progress]:
        """Drop letters and report progress.

        Raises:
            NotFoundError: if there is no such topic or partition.
            InvalidArgumentError: if a chosen offset is not stored.
            PreconditionError: if another call is at work on the same dead-letter topic.
        """
        with self._alone(letters.topic):
            parts = await self._parts(letters)
            done, total = 0, sum(part.total for part in parts)
            yield done, total
            for part in parts:
                count = part.total
                await self._take_out(letters.topic, part, part.offsets or range(part.start, part.end))
                done += count
                yield done, total

    @contextmanager
    def _alone(self, topic: str) -> Iterator[None]:
        if topic in self._busy:
            raise PreconditionError(f"dead letters of {topic} are being replayed or discarded already", field="topic")
        self._busy.add(topic)
        try:
            yield
        finally:
            self._busy.discard(topic)

    async def _parts(self, letters: ChosenLetters) -> list[_Part]:
        """The chosen letters as they are stored now; what arrives later is not among them."""
        stats = next((each for each in (await self._engine.stats()).topics if each.topic == letters.topic), None)
        if stats is None:
            raise NotFoundError(f"there is no topic {letters.topic}", field="topic")
        parts = [
            _Part(each.partition, each.start_offset, each.end_offset, letters.offsets)
            for each in stats.partitions
            if letters.partition in (None, each.partition)
        ]
        if not parts:
            raise NotFoundError(f"topic {letters.topic} has no partition {letters.partition}", field="partition")
        for part in parts:
            for offset in sorted(letters.offsets or ()):
                if not part.start <= offset < part.end:
                    raise InvalidArgumentError(
                        f"partition {part.partition} of {letters.topic} holds offsets {part.start} to {part.end - 1}, "
                        f"not {offset}",
                        field="offsets",
                    )
        return parts

    async def _messages(self, topic: str, part: _Part) -> AsyncGenerator[tuple[int, queue_pb2.Message], None]:
        """The chosen letters with their offsets; one batch is held at a time."""
        cursor, end, offsets = part.start, part.end, part.offsets
        while cursor < end and (stored := await self._batch_at(topic, part.partition, cursor)) is not None:
            messages = queue_pb2.MessageBatch.FromString(stored.batch).messages
            for offset, message in enumerate(messages, stored.base_offset):
                if cursor <= offset < end and (offsets is None or offset in offsets):
                    yield offset, message
            cursor = stored.base_offset + stored.count

    async def _batch_at(self, topic: str, partition: int, offset: int) -> StoredBatch | None:
        async for stored in self._engine.browse(topic, partition, AtOffset(offset), 1):
            return stored
        return None

    async def _publish_back(self, topic: str, partition: int, offset: int, letter: queue_pb2.Message) -> None:
        where = f"the dead letter at offset {offset} of partition {partition}"
        origin = letter.attributes.get(ORIGIN_TOPIC, "")
        if not origin:
            raise PreconditionError(f"{where} has no attribute {ORIGIN_TOPIC}", field="topic")
        # Whoever may publish to the dead-letter topic may have written any origin.
        require(Right.PUBLISH, origin)
        try:
            partitions = (await self._engine.get_topic(origin)).config.partitions
        except NotFoundError:
            raise PreconditionError(f"{where} came from topic {origin}, which is gone", field="topic") from None
        number = letter.attributes.get(ORIGIN_PARTITION, "")
        at_origin = int(number) if number.isdecimal() and int(number) < partitions else None
        attributes = {name: value for name, value in letter.attributes.items() if not name.startswith(PREFIX)}
        attributes[REPLAYED_FROM] = f"{topic}/{partition}/{offset}"
        message = queue_pb2.Message(data=letter.data, attributes=attributes, ordering_key=letter.ordering_key)
        await self._engine.publish(
            PublishBatch(
                topic=origin,
                batch=queue_pb2.MessageBatch(messages=[message]).SerializeToString(),
                count=1,
                largest_message=len(letter.data),
                partition=at_origin,
                ordering_key=letter.ordering_key if at_origin is None and letter.ordering_key else None,
            )
        )

    async def _take_out(self, topic: str, part: _Part, taken: Collection[int]) -> None:
        """Drop letters from a partition and move its start behind them.

        A log drops only from its start, so letters before the last one taken that are to stay are put at its end first.
        """
        if not taken:
            return
        end = max(taken) + 1
        cursor = part.start
        if len(taken) < end - cursor:
            while cursor < end and (stored := await self._batch_at(topic, part.partition, cursor)) is not None:
                messages = queue_pb2.MessageBatch.FromString(stored.batch).messages
                kept = [
                    message
                    for offset, message in enumerate(messages, stored.base_offset)
                    if cursor <= offset < end and offset not in taken
                ]
                if kept:
                    await self._engine.publish(
                        PublishBatch(
                            topic=topic,
                            batch=queue_pb2.MessageBatch(messages=kept).SerializeToString(),
                            count=len(kept),
                            largest_message=max(len(message.data) for message in kept),
                            partition=part.partition,
                        )
                    )
                cursor = stored.base_offset + stored.count
        await self._engine.purge_topic(topic, part.partition, end)
        part.start = end
