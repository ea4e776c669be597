"""The processes of a measurement: servers that are started here, and workers that load them."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import orjson
import psutil

from benchmarks.queue.load import Load, Outcome

HOST: Final = "127.0.0.1"
START_S_MAX: Final = 60.0
RUN_S_MAX: Final = 300.0


class MissingError(Exception):
    """A peer is not installed, or not in the version needed; says what to do."""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class Program:
    """A process, with what it prints in a file of its name."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    watched: psutil.Process = field(init=False)

    def __post_init__(self) -> None:
        self.watched = psutil.Process(self.process.pid)

    @classmethod
    def start(cls, folder: Path, name: str, *command: object) -> Program:
        """Start a program of the machine."""
        log = folder / f"{name}.log"
        with log.open("ab") as output:
            return cls(name, subprocess.Popen([*map(str, command)], stdout=output, stderr=output), log)

    @classmethod
    def python(cls, folder: Path, name: str, *arguments: object) -> Program:
        """Start a program of this virtualenv."""
        return cls.start(folder, name, sys.executable, *arguments)

    def cpu_s(self) -> float:
        """Processor time since its start, in seconds."""
        times = self.watched.cpu_times()
        return float(times.user + times.system)

    def rss_mb(self) -> float:
        """Memory in use, in MB."""
        return float(self.watched.memory_info().rss) / 1e6

    def wait_listening(self, port: int) -> None:
        """Wait until somebody can connect."""
        deadline = time.monotonic() + START_S_MAX
        while self.process.poll() is None and time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex((HOST, port)) == 0:
                    return
            time.sleep(0.01)
        raise SystemExit(f"{self.name} did not start: {self.log.read_text()[-2000:]}")

    def stop(self) -> None:
        """End it, as politely as it lets us."""
        self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass(slots=True)
class Server:
    """A queue to measure: ours or a peer's."""

    name: str
    version: str
    address: str
    program: Program

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.address.rpartition(":")[2])

    @contextmanager
    def running(self) -> Iterator[Server]:
        """Wait until it listens, and stop it in the end."""
        try:
            self.program.wait_listening(self.port)
            yield self
        finally:
            self.program.stop()


@dataclass(frozen=True, slots=True)
class Carried:
    """A load that went through, from the publisher's first row to the consumer's last ack."""

    seconds: float
    rows: int
    publisher: Outcome
    consumer: Outcome
    broker_cpu_s: float

    @property
    def rows_per_second(self) -> float:
        """Rows published, received and acked in a second."""
        return self.rows / self.seconds


def carry(peer: str, server: Server, folder: Path, load: Load) -> Carried:
    """Send a load through a server: a consumer and a publisher, each in a process of its own.

    Args:
        peer: the module of ``benchmarks.queue`` that has the two workers.
        server: what they talk to, already listening.
        folder: for what they print.
        load: what to send.
    """
    consumer = _Worker(peer, "consume", server.address, folder, load)
    try:
        consumer.wait_ready()
        publisher = _Worker(peer, "publish", server.address, folder, load)
        try:
            publisher.wait_ready()
            before_s = server.program.cpu_s()
            consumer.go()
            publisher.go()
            sent, received = publisher.outcome(), consumer.outcome()
        finally:
            publisher.kill()
    finally:
        consumer.kill()
    if received.rows != load.rows:
        raise SystemExit(f"{server.name}: {received.rows} rows came out of {load.rows}")
    seconds = (received.ended_ns - sent.began_ns) / 1e9
    return Carried(seconds, received.rows, sent, received, server.program.cpu_s() - before_s)


class _Worker:
    def __init__(self, peer: str, role: str, address: str, folder: Path, load: Load) -> None:
        self._name = f"{peer}-{role}"
        self._log = folder / f"{self._name}.log"
        script = (
            f"from benchmarks.queue.load import run_worker; from benchmarks.queue.{peer} import {role}; "
            f"run_worker({role})"
        )
        with self._log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-c", script, address, orjson.dumps(asdict(load)).decode()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=Path(__file__).parents[2],
            )

    def wait_ready(self) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != b"ready":
            self._fail()

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")
        self._process.stdin.flush()

    def outcome(self) -> Outcome:
        try:
            output, _ = self._process.communicate(timeout=RUN_S_MAX)
        except subprocess.TimeoutExpired:
            raise SystemExit(f"{self._name} is not done after {RUN_S_MAX:g} s") from None
        if self._process.returncode != 0:
            self._fail()
        return Outcome(**orjson.loads(output.splitlines()[-1]))

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _fail(self) -> None:
        self._process.kill()
        self._process.wait()
        raise SystemExit(f"{self._name} failed: {self._log.read_text()[-2000:]}")
