"""The exclusive use of a data directory by one process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from telemetry.runtime.errors import DataDirectoryError


class DataDirectoryLock:
    """Makes a directory and holds it for this process until closed or the process dies, by ``flock`` on ``LOCK``."""

    def __init__(self, directory: Path) -> None:
        """Take the lock.

        Raises:
            DataDirectoryError: if the directory cannot be made or written, or another process holds it.
        """
        self.directory = directory
        path = directory / "LOCK"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise DataDirectoryError(f"data directory {directory} is not writable: {error.strerror}") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._fd, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            raise DataDirectoryError(
                f"data directory {directory} is in use by process {holder}; stop it or choose another with --data-dir"
            ) from None
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            self.close()
            raise DataDirectoryError(f"data directory {directory} is not writable: {error.strerror}") from None

    def close(self) -> None:
        """Give the directory back. The file stays; it is the lock, not the file, that counts."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> DataDirectoryLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
