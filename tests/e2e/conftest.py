"""The whole pipeline as a user starts it: `telemetry up` and its friends as real processes on free ports."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.processes import PORTS, ROOT, Command, Start, free_ports, wait_until


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `telemetry ARGUMENT…`; everything is ended with the test."""
    started: list[Command] = []

    def run(*arguments: object, ports: dict[str, int] | None = None, cwd: Path | None = None) -> Command:
        log = tmp_path / f"{arguments[0]}-{len(started)}.out"
        with log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "telemetry", *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=cwd or tmp_path,
            )
        command = Command(process, log, ports or {})
        started.append(command)
        return command

    yield run
    for command in reversed(started):
        command.client.close()
        if command.process.poll() is None:
            family = [command.process.pid, *(p.pid for p in psutil.Process(command.process.pid).children(True))]
            command.process.terminate()
            try:
                command.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                for pid in family:
                    if psutil.pid_exists(pid):
                        psutil.Process(pid).kill()
                command.process.wait()


@pytest.fixture
def up(start: Start, tmp_path: Path) -> Callable[..., Command]:
    """Starts `telemetry up` on free ports, and returns when every service answers."""

    def run(*arguments: object, data_dir: Path | None = None) -> Command:
        ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        flags = [part for name, port in ports.items() for part in (f"--{name}-port", port)]
        command = start("up", *arguments, "--data-dir", data_dir or tmp_path / "data", *flags, ports=ports)

        def ready() -> bool:
            assert command.process.poll() is None, command.log.read_text()
            services = {each["name"]: each["state"] for each in command.get(f"{command.api}/health")["services"]}
            return {services["queue"], services["collector"]} == {"ok"}

        wait_until(ready, "every service answers")
        return command

    return run


@pytest.fixture(scope="session")
def chromium() -> str:
    """A browser."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if path := shutil.which(name):
            return path
    bundled = sorted(Path.home().glob(".cache/ms-playwright/chromium-*/chrome-*/chrome"))
    if not bundled:
        pytest.skip("no Chromium here: the dashboard was not opened in a browser")
    return str(bundled[-1])


@pytest.fixture(scope="session")
def captures() -> Path:
    """Real captures that are not part of the project."""
    shared = ROOT.parent / "shared" / "data"
    if not shared.is_dir():
        pytest.skip("the real captures are not on this machine")
    return shared
