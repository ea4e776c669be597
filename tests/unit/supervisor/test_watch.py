"""The supervisor, with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from telemetry.supervisor.watch import Health, ProcessFailedError, ProcessSpec, State, Supervisor

IDLE = (
    "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); print('{}', flush=True); signal.pause()"
)


async def healthy() -> Health | None:
    return {"fine": True}


async def silent() -> Health | None:
    return None


def spec(name: str, script: str, *, probe: Callable[..., object] = healthy, finishes: bool = False) -> ProcessSpec:
    return ProcessSpec(name, [sys.executable, "-c", script], probe, finishes)  # type: ignore[arg-type]


@asynccontextmanager
async def running(supervisor: Supervisor) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    task = asyncio.create_task(supervisor.run(stop))
    try:
        yield stop
    finally:
        stop.set()
        await task


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_killed_process_is_started_again(tmp_path: Path) -> None:
    supervisor = Supervisor([spec("idle", IDLE)], tmp_path)
    (status,) = supervisor.statuses
    async with running(supervisor):
        await eventually(lambda: status.state is State.RUNNING)
        first = status.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: status.pid not in (None, first) and status.state is State.RUNNING)
        assert status.restarts == 1


async def test_stopping_ends_processes_in_the_order_given(tmp_path: Path) -> None:
    order = tmp_path / "order"

    def script(name: str) -> str:
        return (
            f"import signal, sys\ndef end(*_):\n    open({str(order)!r}, 'a').write('{name} '); sys.exit(0)\n"
            "signal.signal(signal.SIGTERM, end); print('up', flush=True); signal.pause()"
        )

    names = ["source", "middle", "sink"]
    supervisor = Supervisor([spec(name, script(name)) for name in names], tmp_path)
    async with running(supervisor):
        logs = [tmp_path / f"{name}.log" for name in names]
        await eventually(lambda: all(log.exists() and "up" in log.read_text() for log in logs))
    assert order.read_text().split() == names
    assert {status.state for status in supervisor.statuses} == {State.STOPPED}


async def test_a_process_that_cannot_start_ends_all_with_its_own_words(tmp_path: Path) -> None:
    fails = "import sys; print('{\"level\": \"info\"}'); print('port 1 is in use', file=sys.stderr); sys.exit(1)"
    supervisor = Supervisor([spec("idle", IDLE, probe=silent), spec("fails", fails, probe=silent)], tmp_path)
    with pytest.raises(ProcessFailedError, match="port 1 is in use"):
        await supervisor.run(asyncio.Event())
    assert supervisor.statuses[0].pid is None


async def test_a_process_whose_input_is_of_no_use_ends_all(tmp_path: Path) -> None:
    useless = f"import signal, sys, os; print('no GPU column'); sys.exit({os.EX_DATAERR})"
    supervisor = Supervisor([spec("useless", useless), spec("idle", IDLE)], tmp_path)
    with pytest.raises(ProcessFailedError, match="no GPU column"):
        await supervisor.run(asyncio.Event())
    assert supervisor.statuses[0].restarts == 0


async def test_a_process_that_may_finish_is_left_alone_when_it_did(tmp_path: Path) -> None:
    supervisor = Supervisor([spec("job", "print('done')", finishes=True), spec("idle", IDLE)], tmp_path)
    job, idle = supervisor.statuses
    async with running(supervisor):
        await eventually(lambda: job.state is State.FINISHED and idle.state is State.RUNNING)
        assert job.restarts == 0


async def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telemetry.supervisor.watch.STOP_S_MAX", 0.2)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
    supervisor = Supervisor([spec("deaf", deaf)], tmp_path)
    async with running(supervisor):
        await eventually(lambda: (tmp_path / "deaf.log").exists())
    assert supervisor.statuses[0].state is State.STOPPED
