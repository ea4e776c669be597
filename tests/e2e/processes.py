"""Programs of the pipeline as real processes: their ports, their answers, and how they end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import psutil

T = TypeVar("T")

ROOT: Final = Path(__file__).resolve().parents[2]
"""The checkout."""
PORTS: Final = (
    *("dashboard", "api", "queue-http", "queue", "collector", "collector-http", "streamer-http"),
    *("alerts", "alerts-http"),
)
"""Ports of `telemetry up`, as its flags name them."""
WAIT_S_MAX: Final = 60.0


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_until(ask: Callable[[], T], what: str, seconds: float = WAIT_S_MAX) -> T:
    """Ask until the answer is truthy. Other processes have no event to await."""
    deadline = time.monotonic() + seconds
    problem: object = None
    while time.monotonic() < deadline:
        try:
            if answer := ask():
                return answer
            problem = answer
        except (httpx.HTTPError, AssertionError, KeyError, OSError) as error:
            problem = error
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come true within {seconds} s: {problem!r}")


@dataclass(slots=True)
class Command:
    """A program of ours that runs."""

    process: subprocess.Popen[str]
    log: Path
    ports: dict[str, int] = field(default_factory=dict)
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=10))

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.ports['api']}/api/v1"

    def url(self, port: str, path: str) -> str:
        return f"http://127.0.0.1:{self.ports[port]}{path}"

    def get(self, url: str, **parameters: Any) -> Any:
        answer = self.client.get(url, params=parameters)
        answer.raise_for_status()
        return answer.json()

    def children(self) -> dict[str, psutil.Process]:
        """The processes of the pipeline by name."""
        found = {}
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                line = child.cmdline()
            except psutil.Error:  # it has just died
                continue
            if "telemetry" in line:
                found[line[line.index("telemetry") + 1]] = child
        return found

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal as Ctrl-C would, and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=60)


Start = Callable[..., Command]


@contextmanager
def starting(folder: Path) -> Iterator[Start]:
    """Starts `telemetry ARGUMENT…` with its output in `folder`; everything is ended at the end."""
    started: list[Command] = []

    def run(*arguments: object, ports: dict[str, int] | None = None, cwd: Path | None = None) -> Command:
        log = folder / f"{arguments[0]}-{len(started)}.out"
        with log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "telemetry", *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=cwd or folder,
            )
        command = Command(process, log, ports or {})
        started.append(command)
        return command

    try:
        yield run
    finally:
        for command in reversed(started):
            _end(command)


def _end(command: Command) -> None:
    command.client.close()
    if command.process.poll() is not None:
        return
    family = [command.process.pid, *(p.pid for p in psutil.Process(command.process.pid).children(True))]
    command.process.terminate()
    try:
        command.process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        for pid in family:
            if psutil.pid_exists(pid):
                psutil.Process(pid).kill()
        command.process.wait()


def start_up(start: Start, *arguments: object, data_dir: Path) -> Command:
    """Starts `telemetry up` on free ports, and returns when every service answers."""
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    flags = [part for name, port in ports.items() for part in (f"--{name}-port", port)]
    command = start("up", *arguments, "--data-dir", data_dir, *flags, ports=ports)

    def ready() -> bool:
        assert command.process.poll() is None, command.log.read_text()
        services = {each["name"]: each["state"] for each in command.get(f"{command.api}/health")["services"]}
        return {services["queue"], services["collector"]} == {"ok"}

    wait_until(ready, "every service answers")
    return command
