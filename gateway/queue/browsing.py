"""Messages at rest in one or several partitions, merged by when they were stored, within bounds of number and size."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from gateway.parameters import parse_instant
from gateway.problems import ParameterError
from gateway.upstreams import QueueClient
from telemetry.queue.client import AtOffset, AtTime, Place, Position
from telemetry.queue.clients.positions import start_position
from telemetry.v1 import queue_admin_pb2, queue_pb2

LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 500
BYTES_MAX: Final = 32 << 20
"""Bytes of data after which no further message is read."""
PARTITIONS_MAX: Final = 64
"""The most partitions that are read side by side."""
OFFSET_MAX: Final = (1 << 64) - 1

Begin = Position | Mapping[int, int]
"""Where to begin: everywhere at the same place, or in each of some partitions at an offset."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A message where it lies; ``time_us`` is when it was stored."""

    partition: int
    offset: int
    time_us: int
    message: queue_pb2.Message


@dataclass(frozen=True, slots=True)
class Found:
    """What was read, and by partition the offset at which to go on."""

    messages: list[Stored]
    next: dict[int, int]


def parse_position(text: str, parameter: str) -> Position:
    """Read ``earliest``, ``latest``, an offset, or an RFC 3339 time.

    Raises:
        ParameterError: if it is none of these.
    """
    text = text.strip()
    if text in ("earliest", "latest"):
        return Place(text)
    if text.isascii() and text.isdecimal():
        if len(text) > 20 or int(text) > OFFSET_MAX:
            raise ParameterError(parameter, f"offset {text[:40]} is larger than any that there can be")
        return AtOffset(int(text))
    try:
        # A number with a point is no offset, and is not taken for a time either: it may as well be a slip of the pen.
        return AtTime(max(0, parse_instant(text if "-" in text else "")))
    except ValueError:
        raise ParameterError(
            parameter,
            f"{text[:100]!r} is no position: earliest, latest, an offset such as 120, or a time such as "
            "2025-07-18T20:42:34Z",
        ) from None


def parse_begin(text: str, parameter: str) -> Begin:
    """As :func:`parse_position`, or a partition and its offset, ``0:120,3:7``.

    Raises:
        ParameterError: if it is none of these.
    """
    pairs = [each.split(":") for each in text.split(",")]
    if not all(len(pair) == 2 and all(part.isascii() and part.isdecimal() for part in pair) for pair in pairs):
        return parse_position(text, parameter)
    if any(len(part) > 20 for pair in pairs for part in pair):
        raise ParameterError(parameter, "an offset is larger than any that there can be")
    begin = {int(partition): int(offset) for partition, offset in pairs}
    if max(begin.values()) > OFFSET_MAX:
        raise ParameterError(parameter, "an offset is larger than any that there can be")
    return begin


async def browse(queue: QueueClient, topic: str, partition: int | None, begin: Begin, limit: int) -> Found:
    """Read at most ``limit`` messages of a topic without consuming them.

    Oldest first; with ``Place.LATEST`` the newest that there are, newest first.

    Raises:
        ParameterError: if there is no such partition, or there are too many to be read side by side.
        UpstreamError: if there is no such topic, or the queue does not answer.
    """
    known, stats = await asyncio.gather(queue.get_topic(topic), queue.stats())
    counted = next((each.partitions for each in stats.topics if each.topic == topic), ())
    ends = dict.fromkeys(range(known.partitions), 0)
    starts = dict(ends)
    for each in counted:
        starts[each.partition], ends[each.partition] = each.start_offset, each.end_offset
    chosen = _chosen(topic, ends, partition, begin)
    newest = begin is Place.LATEST
    if newest:
        begins: dict[int, Position] = {
            number: AtOffset(ends[number] - count)
            for number, count in _shares({each: ends[each] - starts[each] for each in chosen}, limit).items()
        }
    elif isinstance(begin, Mapping):
        begins = {number: AtOffset(begin[number]) for number in chosen}
    else:
        begins = dict.fromkeys(chosen, begin)
    found = await _merged(queue, topic, begins, limit)
    going_on = {number: max(ends[number], found.next.get(number, 0)) for number in chosen} if newest else {}
    if not newest:
        for number in chosen:
            asked = begins[number]
            at_end = max(ends[number], asked.offset if isinstance(asked, AtOffset) else 0)
            going_on[number] = found.next.get(number, at_end)
    return Found(found.messages[::-1] if newest else found.messages, going_on)


def _chosen(topic: str, ends: Mapping[int, int], partition: int | None, begin: Begin) -> list[int]:
    named = begin if isinstance(begin, Mapping) else ()
    for number in (*named, *(() if partition is None else (partition,))):
        if number not in ends:
            parameter = "from" if number in named else "partition"
            raise ParameterError(parameter, f"topic {topic} has no partition {number}", HTTPStatus.NOT_FOUND)
    if partition is not None:
        if named and partition not in named:
            raise ParameterError("from", f"does not say where to begin in partition {partition}")
        return [partition]
    chosen = sorted(named) if named else list(ends)
    if len(chosen) > PARTITIONS_MAX:
        detail = f"topic {topic} has {len(chosen)} partitions; name one, as at most {PARTITIONS_MAX} are read together"
        raise ParameterError("partition", detail)
    return chosen


def _shares(stored: Mapping[int, int], limit: int) -> dict[int, int]:
    """How many of the newest messages to take of each partition: as many of each, and more where others have fewer."""
    shares: dict[int, int] = {}
    waiting = sorted((count, number) for number, count in stored.items() if count)
    while waiting and limit:
        count, number = waiting.pop(0)
        shares[number] = min(count, -(-limit // (len(waiting) + 1)))
        limit -= shares[number]
    return shares


async def _merged(queue: QueueClient, topic: str, begins: Mapping[int, Position], limit: int) -> Found:
    """Messages by the time they were stored. ``next`` lacks partitions in which there was none to read."""
    taken: list[Stored] = []
    going_on: dict[int, int] = {}
    async with AsyncExitStack() as stack:
        readers = {
            number: await stack.enter_async_context(aclosing(_messages(queue, topic, number, position, limit)))
            for number, position in begins.items()
        }
        heads = await asyncio.gather(*(anext(reader, None) for reader in readers.values()))
        waiting = [(each.time_us, each.partition, each) for each in heads if each is not None]
        going_on |= {each.partition: each.offset for _, _, each in waiting}
        heapq.heapify(waiting)
        room = BYTES_MAX
        while waiting and len(taken) < limit and room > 0:
            _, number, first = waiting[0]
            taken.append(first)
            room -= len(first.message.data)
            going_on[number] = first.offset + 1
            following = await anext(readers[number], None)
            if following is None:
                heapq.heappop(waiting)
            else:
                heapq.heapreplace(waiting, (following.time_us, number, following))
    return Found(taken, going_on)


async def _messages(
    queue: QueueClient, topic: str, partition: int, position: Position, limit: int
) -> AsyncGenerator[Stored, None]:
    request = queue_admin_pb2.BrowseRequest(
        topic=topic, partition=partition, position=start_position(position), max_messages=limit
    )
    async with aclosing(queue.browse(request)) as batches:
        async for batch in batches:
            time_us = batch.publish_time.ToMicroseconds()
            for offset, message in enumerate(batch.batch.messages, batch.base_offset):
                yield Stored(partition, offset, time_us, message)
