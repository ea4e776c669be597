"""The processes of the play, each forked from one that has loaded everything: a life costs milliseconds to begin.

``multiprocessing``'s fork server does the forking. What runs is what the installed commands run.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Final

import psutil

from telemetry.cli.main import telemetry

ROOT: Final = Path(__file__).resolve().parents[2]
JOB: Final = "telemetry.storage.cold.job"
END_S_MAX: Final = 60.0

_context: Final[ForkServerContext] = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["__main__", "tests.ledger.lives", "telemetry.cli.queue", "telemetry.cli.collector", "telemetry.queue.server"]
)


class Player:
    """A process that begins a new life each time that it was killed."""

    def __init__(self, name: str, arguments: Sequence[str], folder: Path, *, hasty: bool = False) -> None:
        """Describe it.

        Args:
            name: for people.
            arguments: what to give to the command ``telemetry``.
            folder: where its log goes.
            hasty: for a collector that acks before its checkpoint, which must come to light.
        """
        self.name: Final = name
        self.log: Final = folder / f"{name}.log"
        self._arguments = list(arguments)
        self._hasty = hasty
        self._process: ForkServerProcess | None = None

    def start(self) -> None:
        """Begin a life."""
        self._process = _context.Process(target=_live, args=(self._arguments, str(self.log), self._hasty), daemon=False)
        self._process.start()

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.is_alive()

    def check(self) -> None:
        """Fail if it has ended by itself."""
        if self._process is not None and self._process.exitcode is not None:
            raise AssertionError(f"{self.name} ended with {self._process.exitcode}:\n{self.log.read_text()[-4000:]}")

    def kill(self) -> None:
        """End its life at this very moment."""
        self.check()
        assert self._process is not None
        self._process.kill()
        self._process.join()
        self._process = None

    async def end(self) -> None:
        """Ask it to end its life in good order."""
        self.signal(signal.SIGTERM)
        assert self._process is not None
        await asyncio.to_thread(self._process.join, END_S_MAX)
        code, self._process = self._process.exitcode, None
        assert code == 0, f"{self.name} ended with {code}:\n{self.log.read_text()[-4000:]}"

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.check()
        assert self._process is not None
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def is_member(self, member: str) -> bool:
        """Whether it goes by this name in the collectors' group; a collector has several, with its process id in."""
        return self._process is not None and f"-{self._process.pid}-" in member

    def has_job(self) -> bool:
        """Whether its compaction is at work."""
        return self._job() is not None

    def kill_job(self) -> bool:
        """Kill its compaction job, if there is one; returns whether there was."""
        job = self._job()
        if job is None:
            return False
        with suppress(psutil.NoSuchProcess):
            job.kill()
        return True

    def _job(self) -> psutil.Process | None:
        if self._process is None or self._process.pid is None:
            return None
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self._process.pid).children():
                if JOB in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                    return child
        return None

    def clear_away(self) -> None:
        """End it if it is still there."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def _live(arguments: Sequence[str], log: str, hasty: bool) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.chdir(ROOT)
    if hasty:
        from tests.ledger.hasty import ack_before_the_checkpoint

        ack_before_the_checkpoint()
    telemetry.main(list(arguments), prog_name="telemetry")
