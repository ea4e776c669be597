"""Starts processes, watches over them, restarts what dies, and stops all in order.

A process that ends before it was ever healthy, or says by its exit code that its input is of no use, has something to
say to the user (a port in use, a file without a GPU column): that ends everything. One that dies otherwise is started
again, with a backoff that a long life resets.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final

from telemetry.runtime.errors import StartupError
from telemetry.runtime.process import PARENT_VARIABLE

BACKOFF_S_MIN: Final = 0.25
BACKOFF_S_MAX: Final = 10.0
STEADY_S: Final = 30.0
"""A process that lived this long starts with the smallest backoff when it dies."""
STOP_S_MAX: Final = 15.0
"""A process that was told to stop is killed after this time."""
PROBE_INTERVAL_S: Final = 1.0
LOG_BYTES_MAX: Final = 5 << 20
"""Size at which a process's log file is rotated; one older file is kept."""

Health = Mapping[str, Any]
"""What a healthy process says of itself."""
Probe = Callable[[], Awaitable[Health | None]]
"""Asks a process how it is; ``None`` when it does not answer or is not healthy."""


class State(enum.Enum):
    """Where a process is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    FINISHED = "finished"
    STOPPED = "stopped"


class ProcessFailedError(StartupError):
    """A process cannot do its work; the text is the last thing that it said."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process to keep alive.

    Attributes:
        name: what people call it.
        command: the program and its arguments.
        probe: asks how it is.
        finishes: whether ending with exit code 0 is what it should do.
    """

    name: str
    command: Sequence[str]
    probe: Probe
    finishes: bool = False


@dataclass(slots=True)
class ProcessStatus:
    """How a process is now."""

    name: str
    state: State = State.STARTING
    pid: int | None = None
    restarts: int = 0
    health: Health = field(default_factory=dict)
    last_words: str = ""


class Supervisor:
    """Keeps processes alive until told to stop. Stops them in the order in which they are given."""

    def __init__(self, specs: Sequence[ProcessSpec], log_folder: Path) -> None:
        self._watched = [_Watched(spec, log_folder / f"{spec.name}.log") for spec in specs]

    @property
    def statuses(self) -> Sequence[ProcessStatus]:
        """One a process, in the order given; they change while the supervisor runs."""
        return [watched.status for watched in self._watched]

    async def run(self, stop: asyncio.Event) -> None:
        """Start all, keep them alive until ``stop`` is set, and stop them one after the other.

        Raises:
            ProcessFailedError: if one cannot do its work.
        """
        tasks = [asyncio.create_task(watched.keep_alive(), name=watched.status.name) for watched in self._watched]
        stopped = asyncio.create_task(stop.wait())
        try:
            pending = {*tasks, stopped}
            while stopped in pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done - {stopped}:
                    task.result()
        finally:
            stopped.cancel()
            for watched, task in zip(self._watched, tasks, strict=True):
                await watched.stop()
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class _Watched:
    """One process and what is known of it."""

    def __init__(self, spec: ProcessSpec, log_path: Path) -> None:
        self._spec = spec
        self.status = ProcessStatus(spec.name)
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._was_healthy = False
        self._log = RotatingFileHandler(log_path, maxBytes=LOG_BYTES_MAX, backupCount=1, encoding="utf-8", delay=True)

    async def keep_alive(self) -> None:
        loop = asyncio.get_running_loop()
        backoff_s = BACKOFF_S_MIN
        while not self._stopping:
            started = loop.time()
            code = await self._run_once()
            if self._stopping:
                return
            if code == 0 and self._spec.finishes:
                self.status.state = State.FINISHED
                return
            if code == os.EX_DATAERR or (code > 0 and not self._was_healthy):
                words = self.status.last_words.removeprefix(f"telemetry-{self._spec.name}: ")
                raise ProcessFailedError(words or f"{self._spec.name} ended with exit code {code}")
            if loop.time() - started > STEADY_S:
                backoff_s = BACKOFF_S_MIN
            self.status.state = State.RESTARTING
            self.status.restarts += 1
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, BACKOFF_S_MAX)

    async def stop(self) -> None:
        """Ask it to end, and insist after a while."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            _signal(process, signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_S_MAX):
                    await process.wait()
            except TimeoutError:
                _signal(process, signal.SIGKILL)
                await process.wait()
        if self.status.state is not State.FINISHED:
            self.status.state = State.STOPPED
        self.status.pid = None
        self._log.close()

    async def _run_once(self) -> int:
        self._process = process = await asyncio.create_subprocess_exec(
            *self._spec.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            # A session of its own: Ctrl-C on the terminal reaches only the supervisor, which stops all in order.
            start_new_session=True,
            env=os.environ | {PARENT_VARIABLE: str(os.getpid())},
        )
        self.status.pid = process.pid
        if self._stopping:  # told to stop while the process was being made
            _signal(process, signal.SIGTERM)
        probing = asyncio.create_task(self._probe())
        try:
            await self._keep_output(process)
            return await process.wait()
        finally:
            probing.cancel()
            self.status.pid = None
            self.status.health = {}

    async def _keep_output(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        recent: deque[str] = deque(maxlen=20)
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # longer than the reader's bound; what was buffered is dropped
                continue
            if not line:
                break
            text = line.decode(errors="replace").rstrip()
            recent.append(text)
            self._log.handle(logging.LogRecord(self._spec.name, logging.INFO, "", 0, text.replace("%", "%%"), (), None))
        self.status.last_words = _sentence(recent)

    async def _probe(self) -> None:
        while True:
            health = await self._spec.probe()
            if health is not None:
                self._was_healthy = True
                self.status.state = State.RUNNING
                self.status.health = health
            await asyncio.sleep(PROBE_INTERVAL_S if self._was_healthy else PROBE_INTERVAL_S / 10)


def _sentence(lines: Sequence[str]) -> str:
    """What a process said last that was not a log line: our programs say why they cannot start in one sentence."""
    for line in reversed(lines):
        if line and not line.startswith("{"):
            return line
    return lines[-1] if lines else ""


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except ProcessLookupError:
        return
