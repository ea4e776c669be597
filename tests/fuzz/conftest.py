"""A queue server that must not be impressed by anything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fuzz.target import Target, serving


@pytest.fixture
async def target(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Target]:
    """A queue server on disk, with a well-behaved client beside the one that is not."""
    async with serving(tmp_path / "queue", caplog) as target:
        yield target
