"""What an operator asks of the queue: topics, groups, messages at rest, dead letters, statistics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Final, NamedTuple, TypeVar

import grpc

from telemetry.queue.clients.asking import ask
from telemetry.queue.clients.errors import DeliveryTimeoutError, error_from_rpc
from telemetry.queue.clients.positions import start_position
from telemetry.queue.core.types import AtOffset, Place, Position
from telemetry.runtime.channel import open_channel
from telemetry.runtime.credentials import Credentials
from telemetry.v1 import queue_admin_pb2, queue_admin_pb2_grpc, queue_pb2

PAGE_SIZE: Final = 1000
"""Topics or groups asked for at a time."""
BROWSE_MESSAGES_MAX: Final = 10_000
"""The most messages that one call of Browse returns."""

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message where it lies. ``publish_time_us`` is microseconds since 1970, by the queue's clock."""

    topic: str
    partition: int
    offset: int
    publish_time_us: int
    message: queue_pb2.Message


class DeadLetterProgress(NamedTuple):
    """How far a replay or a discard has come, in messages."""

    done: int
    total: int


class QueueAdmin:
    """QueueAdminService as methods.

    What only reads is tried again while the queue is away; what changes something is sent once, because an answer that
    was lost does not say whether it was done. Every method raises QueueClientError. Use as ``async with``; an instance
    belongs to the event loop in which it was opened.
    """

    def __init__(self, address: str, timeout_s: float = 10.0, credentials: Credentials | None = None) -> None:
        """Describe the client; entering opens it.

        Args:
            address: the queue, ``host:port``.
            timeout_s: how long a call may take, tries included; of streams, how long the next response may.
            credentials: for a queue with TLS or tokens.
        """
        self._address = address
        self._credentials = credentials
        self._timeout_s = timeout_s

    async def __aenter__(self) -> QueueAdmin:
        self._channel = open_channel(self._address, self._credentials)
        self._admin = queue_admin_pb2_grpc.QueueAdminServiceStub(self._channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def topics(self) -> list[queue_admin_pb2.Topic]:
        """All topics by name."""
        found: list[queue_admin_pb2.Topic] = []
        token = ""
        while True:
            request = queue_admin_pb2.ListTopicsRequest(page_size=PAGE_SIZE, page_token=token)
            page = await self._read(partial(self._admin.ListTopics, request, timeout=self._timeout_s))
            found += page.topics
            if not (token := page.next_page_token):
                return found

    async def topic(self, name: str) -> queue_admin_pb2.Topic:
        """One topic.

        Raises:
            QueueNotFoundError: if there is none of that name.
        """
        request = queue_admin_pb2.GetTopicRequest(topic=name)
        return (await self._read(lambda: self._admin.GetTopic(request, timeout=self._timeout_s))).topic

    async def create_topic(self, topic: queue_admin_pb2.Topic) -> queue_admin_pb2.Topic:
        """Make a topic; returns it with the defaults filled in.

        Raises:
            RefusedError: with code ALREADY_EXISTS if there is one of that name.
        """
        request = queue_admin_pb2.CreateTopicRequest(topic=topic)
        return (await _change(self._admin.CreateTopic(request, timeout=self._timeout_s))).topic

    async def update_topic(self, topic: queue_admin_pb2.Topic) -> queue_admin_pb2.Topic:
        """Replace a topic's retention and limits; returns it as it is now."""
        request = queue_admin_pb2.UpdateTopicRequest(topic=topic)
        return (await _change(self._admin.UpdateTopic(request, timeout=self._timeout_s))).topic

    async def delete_topic(self, name: str) -> None:
        """Remove a topic, its messages and its groups' positions."""
        request = queue_admin_pb2.DeleteTopicRequest(topic=name)
        await _change(self._admin.DeleteTopic(request, timeout=self._timeout_s))

    async def purge_topic(self, name: str, partition: int | None = None, before_offset: int | None = None) -> int:
        """Drop a topic's messages, or those of one partition, or those below an offset; returns how many went."""
        request = queue_admin_pb2.PurgeTopicRequest(topic=name, partition=partition, before_offset=before_offset)
        return (await _change(self._admin.PurgeTopic(request, timeout=self._timeout_s))).messages

    async def groups(self, topic: str = "") -> list[queue_admin_pb2.Group]:
        """All groups by name, or those that subscribe to a topic."""
        found: list[queue_admin_pb2.Group] = []
        token = ""
        while True:
            request = queue_admin_pb2.ListGroupsRequest(topic=topic, page_size=PAGE_SIZE, page_token=token)
            page = await self._read(partial(self._admin.ListGroups, request, timeout=self._timeout_s))
            found += page.groups
            if not (token := page.next_page_token):
                return found

    async def group(self, name: str) -> queue_admin_pb2.Group:
        """One group.

        Raises:
            QueueNotFoundError: if there is none of that name.
        """
        request = queue_admin_pb2.GetGroupRequest(group=name)
        return (await self._read(lambda: self._admin.GetGroup(request, timeout=self._timeout_s))).group

    async def delete_group(self, name: str, *, force: bool = False) -> None:
        """Remove a group; with ``force`` its members are disconnected."""
        request = queue_admin_pb2.DeleteGroupRequest(group=name, force=force)
        await _change(self._admin.DeleteGroup(request, timeout=self._timeout_s))

    async def seek_group(
        self,
        name: str,
        position: Position,
        *,
        topic: str = "",
        partition: int | None = None,
        force: bool = False,
        dry_run: bool = False,
    ) -> list[queue_admin_pb2.GroupPosition]:
        """Move a group; returns the positions that moved, as they are now, or would be after a ``dry_run``."""
        request = queue_admin_pb2.SeekGroupRequest(
            group=name,
            topic=topic,
            partition=partition,
            position=start_position(position),
            force=force,
            dry_run=dry_run,
        )
        return list((await _change(self._admin.SeekGroup(request, timeout=self._timeout_s))).positions)

    async def browse(
        self, topic: str, partition: int | None = None, position: Position = Place.EARLIEST, limit: int = 100
    ) -> AsyncGenerator[StoredMessage, None]:
        """Read at most ``limit`` messages without consuming them, a partition after the other."""
        numbers = range((await self.topic(topic)).partitions) if partition is None else (partition,)
        for number in numbers:
            begin = position
            while limit > 0:
                wanted = min(limit, BROWSE_MESSAGES_MAX)
                found = 0
                async with aclosing(self._browse_once(topic, number, begin, wanted)) as messages:
                    async for stored in messages:
                        begin = AtOffset(stored.offset + 1)
                        found += 1
                        yield stored
                limit -= found
                if found < wanted:
                    break

    async def replay_dead_letters(
        self, topic: str, offsets: Sequence[int] = (), partition: int | None = None, per_second: int = 0
    ) -> AsyncGenerator[DeadLetterProgress, None]:
        """Publish dead letters back to where they came from; closing stops it, and what is done stays done.

        Args:
            topic: the dead-letter topic.
            offsets: only these, which needs ``partition``; empty means all.
            partition: only this one.
            per_second: the most messages a second; 0 means the queue's default.
        """
        request = queue_admin_pb2.ReplayDeadLettersRequest(
            topic=topic, offsets=offsets, partition=partition, messages_per_second=per_second
        )
        async with aclosing(_responses(self._admin.ReplayDeadLetters(request), None)) as responses:
            async for response in responses:
                yield DeadLetterProgress(response.done, response.total)

    async def discard_dead_letters(
        self, topic: str, offsets: Sequence[int] = (), partition: int | None = None
    ) -> AsyncGenerator[DeadLetterProgress, None]:
        """Drop dead letters; the rest is as for :meth:`replay_dead_letters`."""
        request = queue_admin_pb2.DiscardDeadLettersRequest(topic=topic, offsets=offsets, partition=partition)
        async with aclosing(_responses(self._admin.DiscardDeadLetters(request), None)) as responses:
            async for response in responses:
                yield DeadLetterProgress(response.done, response.total)

    async def stats(self) -> queue_admin_pb2.QueueStats:
        """All that the queue counts."""
        request = queue_admin_pb2.GetStatsRequest()
        return (await self._read(lambda: self._admin.GetStats(request, timeout=self._timeout_s))).stats

    async def _browse_once(
        self, topic: str, partition: int, position: Position, limit: int
    ) -> AsyncGenerator[StoredMessage, None]:
        request = queue_admin_pb2.BrowseRequest(
            topic=topic, partition=partition, position=start_position(position), max_messages=limit
        )
        async with aclosing(_responses(self._admin.Browse(request), self._timeout_s)) as responses:
            async for batch in responses:
                time_us = batch.publish_time.ToMicroseconds()
                # The queue returns its last batch whole.
                for offset, message in enumerate(batch.batch.messages[:limit], batch.base_offset):
                    yield StoredMessage(topic, batch.partition, offset, time_us, message)
                limit -= min(limit, len(batch.batch.messages))

    async def _read(self, call: Callable[[], Awaitable[_Answer]]) -> _Answer:
        return await ask(call, self._timeout_s)


async def _change(call: Awaitable[_Answer]) -> _Answer:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise error_from_rpc(error) from None


async def _responses(
    call: grpc.aio.UnaryStreamCall[_Request, _Answer], timeout_s: float | None
) -> AsyncGenerator[_Answer, None]:
    """The responses of a call, each within ``timeout_s`` of the one before; closing cancels the call."""
    responses = aiter(call)
    try:
        while True:
            async with asyncio.timeout(timeout_s):
                try:
                    response = await anext(responses)
                except StopAsyncIteration:
                    return
            yield response
    except grpc.aio.AioRpcError as error:
        raise error_from_rpc(error) from None
    except TimeoutError:
        raise DeliveryTimeoutError(f"the queue did not go on within {timeout_s:g} s") from None
    finally:
        call.cancel()
