"""Follows topics through an ephemeral subscription and prints what comes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from telemetry.console.messages import MessagePrinter
from telemetry.console.session import Session, notice
from telemetry.console.tables import plural
from telemetry.queue.client import (
    DeliveryTimeoutError,
    MissedMessages,
    Position,
    QueueAdmin,
    ReceivedDelivery,
    StoredMessage,
    Subscriber,
)
from telemetry.queue.core.names import is_pattern
from telemetry.runtime.logs import configure_logging


async def tail_topics(
    session: Session,
    admin: QueueAdmin,
    topics: Sequence[str],
    position: Position,
    count: int | None,
    *,
    raw: bool,
) -> None:
    """Print messages of ``topics`` from ``position`` on, until ``count`` were printed or the task is cancelled.

    When the queue goes away, waits for it and goes on with what is new.

    Raises:
        QueueClientError: if the queue cannot be reached at the start, refuses, or has no topic of an exact name.
    """
    # A subscription would make a topic that is not there, and nobody wants one for a slip of the pen.
    for topic in topics:
        await (admin.topics() if is_pattern(topic) else admin.topic(topic))
    configure_logging("tail", "warning")
    printer = MessagePrinter(as_json=session.as_json, raw=raw)
    left = count
    try:
        async with Subscriber(
            session.address, topics=topics, position=position, credentials=session.credentials
        ) as subscriber:
            try:
                await asyncio.wait_for(subscriber.wait_started(), session.timeout_s)
            except TimeoutError:
                raise DeliveryTimeoutError("the queue did not take up the subscription") from None
            notice(f"following {', '.join(topics)}; Ctrl-C ends it")
            async for event in subscriber:
                if isinstance(event, MissedMessages):
                    notice(f"{plural(event.missed, 'message')} of {event.topic}/{event.partition} passed by unseen")
                elif isinstance(event, ReceivedDelivery):
                    for stored in _stored(event)[:left]:
                        printer.show(stored)
                    printer.flush()
                    if left is not None and (left := left - min(left, len(event.messages))) == 0:
                        return
    except asyncio.CancelledError:
        return  # Ctrl-C is how this ends


def _stored(event: ReceivedDelivery) -> list[StoredMessage]:
    return [
        StoredMessage(event.topic, event.partition, offset, event.publish_time_us, message)
        for offset, message in zip(event.offsets, event.messages, strict=True)
    ]
