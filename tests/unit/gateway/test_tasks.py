"""Tasks are bounded in number, tell why they end, and stop when told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.exceptions import HTTPException

from gateway.audit import Outcome
from gateway.queue import tasks as module
from gateway.queue.tasks import Progress, Task, Tasks


class Ends:
    """Remembers how tasks ended."""

    def __init__(self) -> None:
        self.all: list[tuple[Outcome, str]] = []

    async def __call__(self, outcome: Outcome, detail: str) -> None:
        self.all.append((outcome, detail))


async def endless() -> AsyncGenerator[tuple[int, int], None]:
    yield 0, 10
    await asyncio.Event().wait()


async def reports(*each: tuple[int, int], error: Exception | None = None) -> AsyncGenerator[tuple[int, int], None]:
    for report in each:
        yield report
    if error is not None:
        raise error


async def start(tasks: Tasks, progress: Progress, ends: Ends) -> Task:
    return await tasks.start("replay", "t.dead-letter", progress, ends)


async def finished(task: Task) -> Task:
    assert task.work is not None
    await asyncio.wait({task.work})
    return task


async def test_only_so_many_run_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RUNNING_MAX", 2)
    tasks, ends = Tasks(), Ends()
    first = await start(tasks, endless(), ends)
    await start(tasks, endless(), ends)
    with pytest.raises(HTTPException) as refused:
        await start(tasks, endless(), ends)
    assert refused.value.status_code == 429
    assert (await tasks.cancel(first.id)).state == "cancelled"
    await start(tasks, endless(), ends)
    await tasks.close()
    assert [each.state for each in tasks] == ["cancelled"] * 3
    assert ends.all == [("cancelled", "0 of 10")] * 3


async def test_the_oldest_that_have_ended_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_MAX", 3)
    tasks, ends = Tasks(), Ends()
    runs = await start(tasks, endless(), ends)
    made = [await finished(await start(tasks, reports((0, 1), (1, 1)), ends)) for _ in range(5)]
    assert [each.id for each in tasks] == [made[4].id, made[3].id, runs.id]
    with pytest.raises(HTTPException):
        tasks.get(made[0].id)
    await tasks.close()


async def test_what_is_refused_at_once_is_told_at_once_and_is_no_task() -> None:
    tasks, ends = Tasks(), Ends()
    with pytest.raises(HTTPException, match="no such"):
        await start(tasks, reports(error=HTTPException(404, "no such")), ends)
    assert list(tasks) == []
    assert ends.all == [("refused", "no such")]


async def test_a_task_that_fails_later_says_why() -> None:
    tasks, ends = Tasks(), Ends()
    task = await finished(await start(tasks, reports((1, 5), error=HTTPException(409, "gone")), ends))
    assert (task.state, task.error, task.done) == ("failed", "gone", 1)
    assert task.finished_at is not None
    assert ends.all == [("refused", "gone")]
