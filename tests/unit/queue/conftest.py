"""What the tests of the disk engine share: engines that are opened, crashed and opened again."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from telemetry.queue.engines.disk import DiskEngine

Open = Callable[..., Awaitable[DiskEngine]]


@pytest.fixture
async def open_engine(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens engines, on one directory unless another is given, and stops them in the end."""
    engines: list[DiskEngine] = []

    async def opened(directory: Path | None = None, **options: object) -> DiskEngine:
        engine = DiskEngine(directory or tmp_path / "queue", **options)  # type: ignore[arg-type]
        await engine.start()
        engines.append(engine)
        return engine

    yield opened
    await asyncio.gather(*(engine.stop() for engine in engines))


@pytest.fixture
def crash(tmp_path: Path) -> Callable[[], Path]:
    """Gives a copy of the directory as a crash at this moment would leave it."""
    copies = 0

    def crashed() -> Path:
        nonlocal copies
        copies += 1
        return shutil.copytree(tmp_path / "queue", tmp_path / f"crashed-{copies}")

    return crashed
