"""One Subscribe stream: its start, its flows, its deliveries, and the ways in which it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final

import grpc

from telemetry.queue import wire_pb2
from telemetry.queue.core.errors import ClosedError, InvalidArgumentError
from telemetry.queue.core.types import SubscribeOptions
from telemetry.queue.engines.engine import QueueEngine, Subscription
from telemetry.queue.services.encode import drain_response, event_response, started_response
from telemetry.queue.services.open_streams import GOING_AWAY, OpenStreams
from telemetry.queue.services.rights import require
from telemetry.queue.services.seal import Seal
from telemetry.queue.validation.fields import inside
from telemetry.queue.validation.subscribe import permits, subscribe_options
from telemetry.runtime.status import RequestError
from telemetry.runtime.tokens import Right
from telemetry.v1 import queue_pb2

START_WAIT_S: Final = 30.0
"""How long a stream may stay silent before its first request."""

Requests = AsyncIterator[queue_pb2.SubscribeRequest]
Context = grpc.aio.ServicerContext[queue_pb2.SubscribeRequest, wire_pb2.SubscribeResponse]


class SessionEndedError(RequestError):
    """The session was ended from the other side: replaced by a member of the same name, a forced seek, a deletion."""

    code = "ABORTED"


async def serve_subscription(
    engine: QueueEngine, streams: OpenStreams, requests: Requests, context: Context, seal: Seal | None = None
) -> None:
    """Serve one stream until the client leaves, it has nothing more to wait for, or the server goes away.

    With ``seal``, the client gets delivery ids that cannot be guessed.

    Raises:
        QueueError: if the subscription is refused or a request is wrong.
        PermissionDeniedError: if the caller may not subscribe to the topics.
        SessionEndedError: if the session was ended from the other side.
        ClosedError: if the server is going away.
    """
    draining: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    with streams.opened(on_drain=lambda: draining.set_result(None)):
        start = await _start(requests)
        with inside("start"):
            with inside("flow"):
                first_permits = permits(start.flow)
            options = subscribe_options(start, context.peer())
            _check_rights(options)
            subscription = await engine.subscribe(options)
        draining.add_done_callback(lambda _: subscription.stop_delivering())
        # Before anything is read: a client that has closed its side already must not seem to wait for nothing.
        subscription.add_permits(*first_permits)
        reader = asyncio.create_task(_take_flows(requests, subscription, draining))
        try:
            await context.write(started_response(subscription.started))
            await _send(subscription, reader, context, seal)
            if draining.done():
                await _drain(subscription, reader, streams.drain_within_s, context)
        finally:
            reader.cancel()
            subscription.close(drained=draining.done())


def _check_rights(options: SubscribeOptions) -> None:
    """See that the caller may receive the topics, and may publish to where he would have dead letters put."""
    require(Right.SUBSCRIBE, *options.topics)
    if options.dead_letter_topic is not None:
        require(Right.PUBLISH, options.dead_letter_topic)


async def _start(requests: Requests) -> queue_pb2.SubscribeStart:
    try:
        async with asyncio.timeout(START_WAIT_S):
            first = await anext(requests, None)
    except TimeoutError:
        raise InvalidArgumentError(f"start did not come within {START_WAIT_S:.0f} s", field="start") from None
    if first is None or not first.HasField("start"):
        raise InvalidArgumentError("start is required in the first request", field="start")
    return first.start


async def _take_flows(requests: Requests, subscription: Subscription, draining: asyncio.Future[None]) -> None:
    """Add permits until the client has closed its side, then wait until there is nothing left to wait for."""
    async for request in requests:
        if request.HasField("start"):
            raise InvalidArgumentError("start may only be set in the first request", field="start")
        with inside("flow"):
            more = permits(request.flow)
        if not draining.done():
            subscription.add_permits(*more)
    await subscription.wait_exhausted()


async def _send(subscription: Subscription, reader: asyncio.Task[None], context: Context, seal: Seal | None) -> None:
    """Write events until the reader is done or delivering was stopped."""
    sending = _Sending(subscription, reader, context, seal)
    task = asyncio.create_task(sending.run())
    reader.add_done_callback(lambda _: task.cancel() if sending.is_waiting else None)
    try:
        await asyncio.wait((task,))
    finally:
        task.cancel()
    if not task.cancelled():
        task.result()
    if reader.done():
        reader.result()


class _Sending:
    """One task for all that a stream sends; only while it waits for more may it be stopped from outside."""

    def __init__(
        self, subscription: Subscription, reader: asyncio.Task[None], context: Context, seal: Seal | None
    ) -> None:
        self._subscription = subscription
        self._reader = reader
        self._context = context
        self._seal = seal
        self.is_waiting = False

    async def run(self) -> None:
        subscription, write = self._subscription, self._context.write
        while not self._reader.done():
            self.is_waiting = True
            events = await subscription.next_events()
            self.is_waiting = False
            for event in events:
                response = event_response(event)
                if self._seal is not None and response.HasField("delivery"):
                    response.delivery.delivery_id = self._seal.sealed(response.delivery.delivery_id)
                await write(response)
            if not events:
                if subscription.closed_reason:
                    raise SessionEndedError(f"the session was ended: {subscription.closed_reason}")
                return


async def _drain(subscription: Subscription, reader: asyncio.Task[None], within_s: float, context: Context) -> None:
    """Ask the member to go, and wait until it has settled what it has, has gone, or time is up."""
    await context.write(drain_response(time.time() + within_s))
    settled = asyncio.create_task(subscription.wait_exhausted())
    try:
        await asyncio.wait((settled, reader), timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        settled.cancel()
    raise ClosedError(GOING_AWAY)
