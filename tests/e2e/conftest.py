"""The whole pipeline as a user starts it: `telemetry up` and its friends as real processes on free ports."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import ROOT, Command, Start, start_up, starting


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `telemetry ARGUMENT…`; everything is ended with the test."""
    with starting(tmp_path) as run:
        yield run


@pytest.fixture
def up(start: Start, tmp_path: Path) -> Callable[..., Command]:
    """Starts `telemetry up` on free ports, and returns when every service answers."""

    def run(*arguments: object, data_dir: Path | None = None) -> Command:
        return start_up(start, *arguments, data_dir=data_dir or tmp_path / "data")

    return run


@pytest.fixture(scope="session")
def chromium() -> str:
    """A browser."""
    starts = subprocess.run(
        [sys.executable, "-m", "playwright", "--version"], capture_output=True, text=True, check=False
    )
    if starts.returncode:
        pytest.skip(f"Playwright does not start, so the dashboard was not opened in a browser: {starts.stderr.strip()}")
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
