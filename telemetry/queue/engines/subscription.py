"""One session of a local engine, as the server sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from telemetry.queue.core.sessions import Outgoing, Session
from telemetry.queue.core.types import GroupSettings, Started, SubscriptionEvent


class SessionHost(Protocol):
    """What a subscription needs of its engine."""

    def add_permits(self, session: Session, messages: int, size: int) -> None: ...
    def take(self, session: Session) -> list[Outgoing]: ...
    def put_back(self, session: Session, outgoing: Sequence[Outgoing]) -> None: ...
    async def load(self, session: Session, outgoing: Sequence[Outgoing]) -> list[SubscriptionEvent]: ...
    def stop_delivering(self, session: Session) -> None: ...
    def close_session(self, session: Session, *, drained: bool) -> None: ...


class LocalSubscription:
    """Waits for what the core has for a session, and fetches the bytes to it."""

    def __init__(self, host: SessionHost, session: Session, settings: GroupSettings) -> None:
        self._host = host
        self._session = session
        self._waiters: dict[asyncio.Future[None], None] = {}
        self._loading = False
        self._stopped = False
        group = session.group.name if session.group is not None else ""
        self.started = Started(session.session_id, group, session.member, settings)

    def add_permits(self, messages: int, size: int) -> None:
        """Allow this many more messages and bytes."""
        self._host.add_permits(self._session, messages, size)

    def stop_delivering(self) -> None:
        """Take back all permits, and what was not sent yet."""
        self._stopped = True
        self._host.stop_delivering(self._session)
        self.wake()

    async def next_events(self) -> Sequence[SubscriptionEvent]:
        """Wait until there is something to send and return it; empty when the subscription was stopped or closed."""
        while not self._session.closed:
            outgoing = self._host.take(self._session)
            if outgoing:
                self._loading = True
                try:
                    events = await self._host.load(self._session, outgoing)
                except asyncio.CancelledError:
                    self._host.put_back(self._session, outgoing)
                    raise
                finally:
                    self._loading = False
                    self.wake()
                    self.wake()  # this may have been the last that somebody waits for as exhausted
                if events:
                    return events
            elif self._stopped:
                break
            else:
                await self._wait()
        return ()

    @property
    def closed_reason(self) -> str:
        """Why it was closed from the other side."""
        return self._session.closed_reason

    @property
    def exhausted(self) -> bool:
        """Whether no permits are left and everything delivered has been settled."""
        return self._session.exhausted and not self._loading

    async def wait_exhausted(self) -> None:
        """Wait until :attr:`exhausted`."""
        while not self.exhausted:
            await self._wait()

    def close(self, *, drained: bool) -> None:
        """Leave."""
        self._host.close_session(self._session, drained=drained)

    def wake(self) -> None:
        """Something has changed in the session."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        try:
            await waiter
        finally:
            del self._waiters[waiter]
