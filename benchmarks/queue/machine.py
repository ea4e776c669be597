"""The machine that the numbers are from, and how much of it is ours."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Final

import psutil

CORES: Final = 2
_SYNCS: Final = 500


def keep_to_cores() -> None:
    """Keep this process, and all that it starts, to `CORES` cores."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:CORES])


def describe(folder: Path) -> dict[str, str]:
    """Processor, memory, file system, and how long the disk takes for an fdatasync."""
    stat = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(":")[2].strip() for line in stat.splitlines() if line.startswith("model name")), "")
    return {
        "processor": f"{model or platform.machine()}, {os.cpu_count()} cores, {CORES} used",
        "memory": f"{psutil.virtual_memory().total / 1e9:.0f} GB",
        "disk": f"{_filesystem(folder)}, fdatasync of 300 B {_sync_ms(folder):.2f} ms (median)",
        "system": f"Linux {platform.release()}, Python {platform.python_version()}",
        "load": f"{os.getloadavg()[0]:.1f} before",
    }


def _filesystem(folder: Path) -> str:
    mounts = [mount for mount in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(mount.mountpoint)]
    return max(mounts, key=lambda mount: len(mount.mountpoint)).fstype if mounts else "unknown"


def _sync_ms(folder: Path) -> float:
    path = folder / "sync"
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    took: list[float] = []
    for at in range(_SYNCS):
        os.pwrite(file, bytes(300), at * 300)
        begun = time.perf_counter()
        os.fdatasync(file)
        took.append(time.perf_counter() - begun)
    os.close(file)
    path.unlink()
    return sorted(took)[_SYNCS // 2] * 1e3
