"""Work that goes on after the request that began it: so many at a time, with progress, and cancellable."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final, Literal
from uuid import uuid4

from starlette.exceptions import HTTPException

from gateway.audit import Outcome, describe, outcome_of
from telemetry.queue.shapes import Json

log = logging.getLogger(__name__)

RUNNING_MAX: Final = 8
KEPT_MAX: Final = 100
"""Tasks that are remembered; the oldest that has ended is forgotten for a new one."""
RETRY_S: Final = 5
"""When to try again if there are too many."""

Kind = Literal["replay", "discard"]
Progress = AsyncGenerator[tuple[int, int], None]
"""Yields how much is done of how much, first at once; closing it stops the work."""
Ended = Callable[[Outcome, str], Awaitable[None]]
"""Is told how a task ended, and how far it had come or why."""


@dataclass(slots=True)
class Task:
    """One task. Its fields mean what :class:`gateway.queue.schemas.Task` says."""

    kind: Kind
    topic: str
    id: str = field(default_factory=lambda: uuid4().hex)
    state: Literal["running", "done", "failed", "cancelled"] = "running"
    done: int = 0
    total: int = 0
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    finished_at: datetime | None = None
    error: str = ""
    work: asyncio.Task[None] | None = None

    def json(self) -> Json:
        """As it is answered."""
        return {
            "id": self.id,
            "kind": self.kind,
            "topic": self.topic,
            "state": self.state,
            "done": self.done,
            "total": self.total,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "error": self.error,
        }


class Tasks:
    """All tasks of this process; they end with it."""

    def __init__(self) -> None:
        self._tasks: OrderedDict[str, Task] = OrderedDict()

    def __iter__(self) -> Iterator[Task]:
        """Newest first."""
        return iter(list(reversed(self._tasks.values())))

    def get(self, task_id: str) -> Task:
        """A task.

        Raises:
            HTTPException: 404 if there is none, or it is forgotten.
        """
        if task_id not in self._tasks:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no task {task_id[:64]!r}, or not any more")
        return self._tasks[task_id]

    def check_room(self) -> None:
        """See that one more may run.

        Raises:
            HTTPException: 429 if not.
        """
        if sum(each.state == "running" for each in self) >= RUNNING_MAX:
            detail = f"{RUNNING_MAX} tasks are running already; wait for one to end, or cancel one"
            raise HTTPException(HTTPStatus.TOO_MANY_REQUESTS, detail, {"Retry-After": str(RETRY_S)})

    async def start(self, kind: Kind, topic: str, progress: Progress, ended: Ended) -> Task:
        """Begin work, and return once it has reported for the first time, so that what is refused at once is told.

        Raises:
            HTTPException: 429 if there are too many.
            UpstreamError: if the work ends with that before its first report; then there is no task.
        """
        self.check_room()
        task = Task(kind, topic)
        self._tasks[task.id] = task
        reported: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task.work = asyncio.create_task(self._run(task, progress, ended, reported), name=f"{kind} {topic}")
        try:
            await asyncio.shield(reported)
        except Exception:
            del self._tasks[task.id]
            await asyncio.wait({task.work})
            raise
        self._forget()
        return task

    async def cancel(self, task_id: str) -> Task:
        """Stop a task and wait until it has stopped; one that has ended stays as it is.

        Raises:
            HTTPException: 404 if there is none.
        """
        task = self.get(task_id)
        await _stop(task)
        return task

    async def close(self) -> None:
        """Stop all tasks."""
        await asyncio.gather(*(_stop(task) for task in self))

    def _forget(self) -> None:
        over = [each for each in self._tasks.values() if each.state != "running"]
        for task in over[: max(0, len(self._tasks) - KEPT_MAX)]:
            del self._tasks[task.id]

    async def _run(self, task: Task, progress: Progress, ended: Ended, reported: asyncio.Future[None]) -> None:
        outcome: Outcome = "done"
        try:
            async with aclosing(progress):
                async for task.done, task.total in progress:
                    if not reported.done():
                        reported.set_result(None)
            task.state = "done"
        except asyncio.CancelledError:
            task.state, outcome = "cancelled", "cancelled"
        except Exception as error:
            task.state, task.error, outcome = "failed", describe(error), outcome_of(error)
            if outcome == "failed":
                log.exception("a task failed")
            if not reported.done():
                reported.set_exception(error)
        finally:
            task.finished_at = datetime.now(UTC)
            if not reported.done():
                reported.set_result(None)
        await ended(outcome, task.error or f"{task.done} of {task.total}")


async def _stop(task: Task) -> None:
    if task.work is not None and not task.work.done():
        task.work.cancel()
        await asyncio.wait({task.work})
