"""One at a time changes the cold files: a job, or whoever clears up after one whose parent died a moment ago."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_LOCK: Final = "JOB"
_POLL_S: Final = 0.02


@contextmanager
def alone(directory: Path, wait_s: float | None = None) -> Iterator[None]:
    """Keep others out of the cold files in ``directory``.

    Args:
        directory: where they are.
        wait_s: how long to wait for whoever is at it; ``None`` waits for as long as that takes.

    Raises:
        BlockingIOError: somebody is at it for longer.
        OSError: the directory cannot be written.
    """
    path = directory / _LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if wait_s is None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        else:
            _lock_within(descriptor, path, wait_s)
        yield
    finally:
        os.close(descriptor)


def _lock_within(descriptor: int, path: Path, wait_s: float) -> None:
    give_up_at = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up_at:
                raise BlockingIOError(errno.EAGAIN, "an earlier compaction job is still at work", str(path)) from None
            time.sleep(_POLL_S)
        else:
            return
