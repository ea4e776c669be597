"""`telemetry gateway` as a process: how it starts, and how it ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import IO

import httpx
import pytest

COMMAND = [sys.executable, "-m", "telemetry", "gateway"]


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    """A gateway on free ports without anything behind it."""
    nowhere = ["--queue", "127.0.0.1:1", "--collector", "127.0.0.1:1", "--streamer-http", "127.0.0.1:1"]
    command = [*COMMAND, "--dashboard-port", "0", "--api-port", "0", *nowhere]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as started:
        yield started
        started.kill()


def ports(log: IO[str]) -> tuple[int, int]:
    """The ports that the log says are ready."""
    for line in log:
        fields = json.loads(line)
        if fields["message"] == "ready":
            return fields["dashboard"], fields["api"]
    raise AssertionError("it ended before it was ready")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_streams_and_the_process_cleanly(process: subprocess.Popen[str], number: signal.Signals) -> None:
    assert process.stderr is not None
    dashboard, api = ports(process.stderr)
    assert httpx.get(f"http://127.0.0.1:{api}/health").json()["status"] == "ok"
    with httpx.stream("GET", f"http://127.0.0.1:{dashboard}/api/v1/stream", timeout=30) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "retry: 2000"
        process.send_signal(number)
        for _ in lines:
            pass
    assert process.wait(timeout=30) == 0
    assert "Traceback" not in process.stderr.read()


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [*COMMAND, "--dashboard-port", "0", "--api-port", str(port)], capture_output=True, text=True, timeout=60
        )
    assert ended.returncode == 1
    assert f"127.0.0.1:{port} is already in use" in ended.stderr
    assert "--api-port" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_open_address_needs_insecure() -> None:
    ended = subprocess.run([*COMMAND, "--host", "0.0.0.0"], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "--insecure" in ended.stderr
