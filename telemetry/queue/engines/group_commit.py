"""One thread that makes things durable: whatever gathers while it works goes together the next time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from telemetry.queue.core.errors import ClosedError

Work = TypeVar("Work")
Result = TypeVar("Result")


class GroupCommit(Generic[Work, Result]):
    """Runs rounds, one at a time: ``gather`` on the loop, ``work`` in the thread, ``finish`` on the loop.

    ``finish`` gets what was gathered and the result, or the error; the error that it returns is raised to whoever
    waited for that round.
    """

    def __init__(
        self,
        name: str,
        gather: Callable[[], Work],
        work: Callable[[Work], Result],
        finish: Callable[[Work, Result | BaseException], BaseException | None],
    ) -> None:
        self._gather = gather
        self._work = work
        self._finish = finish
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._running = False
        self._wanted = False
        self._closed = False
        self._next: list[asyncio.Future[None]] = []
        self._now: list[asyncio.Future[None]] = []

    def request(self) -> None:
        """See to it that a round begins after this call.

        Raises:
            ClosedError: after :meth:`close`.
        """
        if self._closed:
            raise ClosedError("the queue is shutting down")
        if not self._wanted:
            self._wanted = True
            if not self._running:
                # Not at once, so that all that the loop has at hand goes with it.
                asyncio.get_running_loop().call_soon(self._begin)

    async def commit(self) -> None:
        """Wait for a round that begins after this call; raise what went wrong in it."""
        self.request()
        await self._wait(self._next)

    async def settle(self) -> None:
        """Wait for the rounds that run or were requested; raise what went wrong in the last of them."""
        if self._wanted:
            await self._wait(self._next)
        elif self._running:
            await self._wait(self._now)

    async def close(self) -> None:
        """Wait until nothing runs, and end the thread."""
        while self._wanted or self._running:
            await asyncio.gather(self.settle(), return_exceptions=True)
        self._closed = True
        self._thread.shutdown(wait=False)

    @staticmethod
    async def _wait(waiters: list[asyncio.Future[None]]) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters.append(waiter)
        await waiter

    def _begin(self) -> None:
        self._wanted = False
        self._running = True
        self._now, self._next = self._next, []
        work = self._gather()
        done = asyncio.get_running_loop().run_in_executor(self._thread, self._work, work)
        done.add_done_callback(lambda future: self._end(work, future))

    def _end(self, work: Work, done: asyncio.Future[Result]) -> None:
        error = self._finish(work, done.exception() or done.result())
        waiters, self._now = self._now, []
        for waiter in waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)
        self._running = False
        if self._wanted:
            self._begin()
