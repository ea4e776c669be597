"""The engines that the contract is held against."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from telemetry.queue.engines.disk import DiskEngine
from telemetry.queue.engines.engine import QueueEngine
from telemetry.queue.engines.memory import MemoryEngine


@pytest.fixture(params=["memory", "disk"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[QueueEngine]:
    engine: QueueEngine = MemoryEngine() if request.param == "memory" else DiskEngine(tmp_path / "queue")
    await engine.start()
    yield engine
    await engine.stop()
