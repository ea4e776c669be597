"""Subscribing to the queue: the façade that keeps one session after another open."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Literal

from prometheus_client import Counter

from telemetry.queue.clients.backoff import LONGEST_S, Backoff
from telemetry.queue.clients.errors import ClientClosedError, QueueClientError, QueueUnavailableError
from telemetry.queue.clients.events import Event, ReceivedDelivery, Settlement
from telemetry.queue.clients.inbox import Inbox
from telemetry.queue.clients.permits import FLOW_MESSAGES_MAX
from telemetry.queue.clients.positions import duration_of, start_position
from telemetry.queue.clients.session import Session
from telemetry.queue.core.types import AckStatus, Outcome, Place, Position
from telemetry.runtime.channel import open_channel
from telemetry.runtime.credentials import Credentials
from telemetry.v1 import queue_pb2

log = logging.getLogger(__name__)

RECONNECTS = Counter("telemetry_queue_subscriber_reconnects_total", "Attempts to open a subscription again.")
STALE = Counter("telemetry_queue_subscriber_stale_total", "Outcomes that came too late: the messages come again.")

STEADY_S: Final = 1.0
"""A session that has delivered nothing counts as one that went well when it has lasted for so long."""
CLOSE_TIMEOUT_S: Final = 10.0
"""How long closing waits for the outcomes on their way."""

_HOPELESS: Final = frozenset(
    {
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "UNIMPLEMENTED",
        "INVALID_ARGUMENT",
        "OUT_OF_RANGE",
        "FAILED_PRECONDITION",
        "NOT_FOUND",
    }
)
"""Ends of a subscription after which trying again would end the same way."""

_MODES: Final = {
    None: queue_pb2.SUBSCRIPTION_MODE_UNSPECIFIED,
    "shared": queue_pb2.SUBSCRIPTION_MODE_SHARED,
    "ordered": queue_pb2.SUBSCRIPTION_MODE_ORDERED,
}


class Subscriber:
    """Receives messages for as long as it is open, whatever happens in between.

    Iterate over it for deliveries and, in an ORDERED group, for partitions that come and go. While a delivery is
    unsettled its lease is extended. When the connection breaks, the subscriber joins again: what was not settled comes
    again as new deliveries, outcomes of the old ones are STALE, and partitions held are reported as revoked. An
    ephemeral subscriber (no group) goes on with what is published after it is back, and reports what it missed.

    Use as ``async with Subscriber(address, topics=[…]) as subscriber: async for event in subscriber: …``. It connects
    in the background: :meth:`wait_started` waits for that. An instance belongs to the event loop in which it was
    opened.
    """

    def __init__(
        self,
        address: str,
        topics: Sequence[str],
        group: str = "",
        member: str = "",
        mode: Literal["shared", "ordered"] | None = None,
        position: Position | None = None,
        ack_wait_s: float | None = None,
        max_deliver: int | None = None,
        permits_messages: int = 10_000,
        permits_bytes: int = 64 << 20,
        credentials: Credentials | None = None,
    ) -> None:
        """Describe the subscription; :meth:`start` opens it.

        Args:
            address: the queue, ``host:port``.
            topics: names, exact or with wildcards: ``*`` for one part, ``>`` at the end for the rest.
            group: who shares the messages; empty means an ephemeral subscription.
            member: a stable name within the group; empty means that the queue makes one up.
            mode: how a new group shares; ``None`` means whatever the group has, SHARED for a new one.
            position: where a new group, or an ephemeral subscription, begins; ``None`` means EARLIEST for a group and
                LATEST for an ephemeral subscription.
            ack_wait_s: how long a new group's deliveries are leased, 1 to 43,200 seconds.
            max_deliver: after how many attempts a new group's messages become dead letters.
            permits_messages: the most messages received and not settled, 1 to 1,000,000.
            permits_bytes: the most bytes of them.
            credentials: for a queue with TLS or tokens.
        """
        if not 1 <= permits_messages <= FLOW_MESSAGES_MAX:
            raise ValueError(f"permits_messages is {permits_messages}; it must be 1 to {FLOW_MESSAGES_MAX}")
        if permits_bytes < 1:
            raise ValueError(f"permits_bytes is {permits_bytes}; it must be at least 1")
        self._address = address
        self._credentials = credentials
        self._start = queue_pb2.SubscribeStart(
            topics=topics,
            group=group,
            member=member,
            mode=_MODES[mode],
            position=None if position is None else start_position(position),
            ack_wait=None if ack_wait_s is None else duration_of(ack_wait_s),
            max_deliver=max_deliver or 0,
            flow=queue_pb2.SubscribeFlow(messages=permits_messages, bytes=permits_bytes),
        )
        self._inbox = Inbox(ephemeral=not group)
        self._session: Session | None = None
        self._failure: QueueClientError | None = None
        self._changed = asyncio.Event()
        self._started = asyncio.Event()
        self.stale = 0
        """How many outcomes came too late, so that their messages come again."""
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self) -> None:
        """Open the subscriber."""
        self._channel = open_channel(self._address, self._credentials)
        self._task = asyncio.create_task(self._run(), name="subscribe")

    async def wait_started(self) -> None:
        """Wait until the queue has taken up the subscription for the first time.

        Raises:
            QueueClientError: if it refuses.
        """
        await self._started.wait()
        if self._failure is not None:
            raise self._failure

    def __aiter__(self) -> Subscriber:
        return self

    async def __anext__(self) -> Event:
        """The next event.

        Raises:
            QueueClientError: if the queue refuses the subscription.
            StopAsyncIteration: after the subscriber was closed.
        """
        while not self._closed:
            event = self._inbox.take()
            if event is not None:
                if self._session is not None:
                    self._session.handed_out(event)
                return event
            if self._failure is not None:
                raise self._failure
            self._changed.clear()
            await self._changed.wait()
        self._changed.set()  # others may be waiting too
        raise StopAsyncIteration

    async def ack_many(self, deliveries: Iterable[ReceivedDelivery]) -> Sequence[AckStatus]:
        """Ack deliveries together; durable, except those reported STALE, when this returns."""
        done = Settlement(Outcome.ACK)
        outcomes = [delivery.settle(done) for delivery in deliveries]
        if outcomes:
            await asyncio.wait(outcomes)
        return [outcome.result() for outcome in outcomes]

    async def aclose(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Leave, waiting for at most ``timeout_s`` until the outcomes on their way are answered.

        Deliveries that are not settled return to the group. Iteration ends.
        """
        if self._task is None or self._closed:
            return
        self._closed = True
        self._changed.set()
        try:
            if self._session is not None:
                self._session.leave()
                with suppress(TimeoutError):
                    async with asyncio.timeout(timeout_s):
                        await asyncio.shield(self._task)
        finally:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self._channel.close()
            self._failure = self._failure or ClientClosedError("the subscriber was closed")
            self._started.set()

    async def __aenter__(self) -> Subscriber:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff()
        while not self._closed:
            problem: QueueClientError = QueueUnavailableError("the queue is draining")
            session = self._session = Session(self._channel, self._start, self._inbox, self._on_stale)
            try:
                await session.run(self._on_started, self._changed.set)
            except QueueClientError as error:
                problem = error
            except Exception:
                log.exception("the subscription failed unexpectedly")
                problem = QueueUnavailableError("an unexpected error; the log says more")
            finally:
                self._session = None
                self._inbox.end_session()
                self._changed.set()
            if self._closed:
                return
            if problem.code in _HOPELESS:
                self._failure = problem
                self._started.set()
                return
            if _went_well(session, problem, loop.time()):
                backoff.reset()
            wait_s = backoff.next_s()
            log.warning("not subscribed", extra={"error": problem.message, "retry_s": round(wait_s, 3)})
            await asyncio.sleep(wait_s)
            RECONNECTS.inc()

    def _on_stale(self, delivery: ReceivedDelivery) -> None:
        self.stale += 1
        STALE.inc()
        log.debug("an outcome came too late", extra={"delivery": repr(delivery)})

    def _on_started(self, started: queue_pb2.SubscribeStarted) -> None:
        log.info("subscribed", extra={"group": started.group, "member": started.member, "session": started.session_id})
        self._started.set()
        if not self._start.group:
            # What an ephemeral subscription was to begin with, it has seen; later it goes on with what is new.
            self._start.position.CopyFrom(start_position(Place.LATEST))


def _went_well(session: Session, problem: QueueClientError, now: float) -> bool:
    """Whether the next try may come as soon as after the first failure.

    Two members of one name end each other's sessions, ABORTED, whatever these have delivered: they must become slow, as
    must who is taken up and let go at once. A queue that is started again and again does something each time.
    """
    if session.started_at is None:
        return False
    lasted_s = now - session.started_at
    if problem.code == "ABORTED":
        return lasted_s > LONGEST_S
    return session.has_delivered or lasted_s > STEADY_S
