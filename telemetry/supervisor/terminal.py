"""What `telemetry up` shows: one status line a process, redrawn on a terminal, printed on change elsewhere."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, TextIO

import click

from telemetry.supervisor.watch import ProcessStatus, State

REDRAW_S: Final = 1.0
_COLOURS: Final = {
    State.STARTING: "yellow",
    State.RUNNING: "green",
    State.RESTARTING: "red",
    State.FINISHED: "cyan",
    State.STOPPED: "yellow",
}


def describe(status: ProcessStatus) -> str:
    """What a process has to tell beside its state."""
    health = status.health
    parts: list[str] = []
    if status.name == "streamer" and "rows" in health:
        parts = [f"{_count(health['rows'])} rows", f"{_count(health.get('quarantined', 0))} quarantined"]
    elif status.name == "queue" and "topics" in health:
        rate = sum(topic["publish_rate"] for topic in health["topics"])
        lag = sum(group["lag_messages"] for group in health["groups"])
        parts = [f"{_count(rate)} messages/s", f"lag {_count(lag)}"]
    elif status.name == "collector" and "records" in health:
        parts = [f"{_count(health['records'])} records", f"{_count(health.get('gpus', 0))} GPUs"]
    elif status.name == "alerts" and "rules" in health:
        parts = [f"{_count(health['rules'])} rules", f"{_count(health['firing'])} firing"]
    if status.restarts:
        parts.append(f"restarted {status.restarts}×")
    if status.state is State.RESTARTING and status.last_words:
        parts.append(status.last_words)
    return " · ".join(parts)


class StatusLines:
    """Draws the lines until cancelled."""

    def __init__(self, statuses: Sequence[ProcessStatus], urls: Sequence[str], out: TextIO = sys.stdout) -> None:
        self._statuses = statuses
        self._urls = urls
        self._out = out
        self._live = out.isatty()
        self._drawn = 0
        self._printed: dict[str, str] = {}
        self._greeted = False

    async def run(self) -> None:
        """Draw again and again."""
        while True:
            self.draw()
            await asyncio.sleep(REDRAW_S if self._live else REDRAW_S / 5)

    def draw(self) -> None:
        """Draw once."""
        if self._live:
            self._redraw()
        else:
            self._print_changes()
        if not self._greeted and all(status.state in (State.RUNNING, State.FINISHED) for status in self._statuses):
            self._greeted = True
            self._drawn = 0
            print("", *self._urls, "Ctrl-C stops everything.", "", sep="\n", file=self._out, flush=True)

    def _redraw(self) -> None:
        width = shutil.get_terminal_size().columns
        if self._drawn:
            self._out.write(f"\x1b[{self._drawn}F")
        for status in self._statuses:
            state = click.style(f"{status.state.value:<11}", fg=_COLOURS[status.state])
            pid = f"pid {status.pid}" if status.pid else ""
            text = f"{pid:<12}{describe(status)}"[: max(width - 23, 0)]
            self._out.write(f"\x1b[2K{status.name:<11}{state}{text}\n")
        self._drawn = len(self._statuses)
        self._out.flush()

    def _print_changes(self) -> None:
        for status in self._statuses:
            state = f"{status.state.value} pid {status.pid}" if status.pid else status.state.value
            if self._printed.get(status.name) != state:
                self._printed[status.name] = state
                words = f" {status.last_words}" if status.state is State.RESTARTING else ""
                print(f"{status.name:<11}{state}{words}", file=self._out, flush=True)


def _count(number: float) -> str:
    """A number as people read it: 950, 12.3 k, 4.6 M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= limit:
            return f"{number / (1e3 if unit == 'k' else limit):.1f} {unit}"
    return f"{number:.0f}"


@contextmanager
def foreground() -> Iterator[None]:
    """Be the terminal's foreground job while this lasts, as a shell would arrange.

    ``make run`` puts make and us into one job, and make dies of the Ctrl-C that we handle. In a job of our own only we
    get it, end in order, and make sees exit code 0. Without a terminal, or in the background, nothing changes.
    """
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        yield
        return
    job = os.getpgrp()
    try:
        if job == os.getpid() or os.tcgetpgrp(terminal) != job:
            yield
            return
        handler = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        os.setpgid(0, 0)
        os.tcsetpgrp(terminal, os.getpid())
        try:
            yield
        finally:
            with suppress(OSError):
                os.tcsetpgrp(terminal, job)
            signal.signal(signal.SIGTTOU, handler)
    finally:
        os.close(terminal)
