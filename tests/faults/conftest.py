"""Real queue processes, small disks, and how long the tests shall go on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.faults.queue_process import Start, starter
from tests.faults.small_disk import SmallDisk


@pytest.fixture
def rounds() -> int:
    """How many times longer than usual the tests shall be."""
    return int(os.environ.get("TELEMETRY_TEST_ROUNDS") or 1)


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts queue processes; whatever still runs is killed with the test."""
    async with AsyncExitStack() as stack:
        yield starter(stack)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[int], SmallDisk]]:
    """Mounts file systems of a few MiB, which only root can do."""
    if os.geteuid() != 0:
        pytest.skip("full disks are not tested: mounting a small tmpfs needs root")
    disks: list[SmallDisk] = []

    def mounted(mib: int) -> SmallDisk:
        place = tmp_path / f"disk-{len(disks)}"
        place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", place], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"full disks are not tested: a tmpfs cannot be mounted here: {done.stderr.strip()}")
        disks.append(SmallDisk(place))
        return disks[-1]

    yield mounted
    for disk in disks:
        subprocess.run(["umount", "--lazy", disk.place], check=True)
