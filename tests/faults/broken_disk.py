"""The queue on a disk that can be broken: `python -m tests.faults.broken_disk SIGNS [the queue's arguments]`.

Runs the very program, with the calls that make things durable watched. A test breaks the disk by putting files into the
folder SIGNS: with `stuck` the calls wait, with `eio` they fail, and what was not durable by then is gone from the log's
files, as after a disk has given up on pages that it could not write.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

STEP_S = 0.002


class Disk:
    """Stands between a program and the operating system."""

    def __init__(self, signs: Path) -> None:
        self._stuck, self._eio = signs / "stuck", signs / "eio"
        self._unsynced: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self._pwritev = os.pwritev

    def install(self) -> None:
        """Watch this process."""
        for name, call in {
            "pwritev": self._write,
            "fsync": self._watched(os.fsync),
            "fdatasync": self._watched(os.fdatasync),
        }.items():
            setattr(os, name, call)

    def _write(self, fd: int, buffers: Sequence[bytes], offset: int, flags: int = 0) -> int:
        written = self._pwritev(fd, buffers, offset, flags)
        self._unsynced[fd].append((offset, written))
        return written

    def _watched(self, sync: Callable[[int], None]) -> Callable[[int], None]:
        def synced(fd: int) -> None:
            while self._stuck.exists():
                time.sleep(STEP_S)
            unsynced = self._unsynced.pop(fd, [])
            if self._eio.exists():
                for offset, size in unsynced:
                    os.pwrite(fd, bytes(size), offset)
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            sync(fd)

        return synced


if __name__ == "__main__":
    Disk(Path(sys.argv.pop(1))).install()
    from telemetry.cli.queue import queue

    queue(prog_name="telemetry-queue")
