"""The seam to the machine's disk: all that the disk engine asks of it, so that tests can put a worse one there."""

from __future__ import annotations

import errno
import mmap
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, Protocol

from telemetry.runtime.datadir import DataDirectoryLock

FULL_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The errors that mean that there is no room, as opposed to a disk that cannot be trusted."""

Bytes = mmap.mmap | bytes
"""A file's bytes; slices of either are ``bytes``."""


class Lock(Protocol):
    """The exclusive use of a directory."""

    def close(self) -> None:
        """Give it back."""
        ...


class Files(Protocol):
    """A disk. Everything raises `OSError` as the calls that its methods are named after do."""

    def lock(self, directory: Path) -> Lock:
        """Make a directory and take it for this process alone, or raise `DataDirectoryError`."""
        ...

    def connect(self, path: Path) -> sqlite3.Connection:
        """Open or make a database, which several threads may use in turn; commits are asked for in SQL."""
        ...

    def make_directory(self, directory: Path) -> None:
        """Make a directory and those above it, unless they are there."""
        ...

    def list(self, directory: Path, suffix: str) -> list[Path]:
        """The files of a directory whose names end in ``suffix``, in any order."""
        ...

    def sync_directory(self, directory: Path) -> None:
        """Make the names in a directory durable."""
        ...

    def remove(self, path: Path) -> None:
        """Remove a file, if it is there."""
        ...

    def make(self, path: Path) -> int:
        """Make an empty file, or empty one, and open it for reading and writing."""
        ...

    def open(self, path: Path, *, writable: bool = False) -> int:
        """Open a file that exists."""
        ...

    def close(self, fd: int) -> None: ...
    def size(self, fd: int) -> int: ...

    def view(self, fd: int) -> AbstractContextManager[Bytes]:
        """All of a file's bytes without reading them before they are looked at."""
        ...

    def read(self, fd: int, size: int, offset: int) -> bytes: ...

    def write(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        """Write some of the buffers' bytes, and return how many."""
        ...

    def allocate(self, fd: int, size: int) -> None:
        """Set room aside, so that writing up to ``size`` can no longer find the disk full."""
        ...

    def truncate(self, fd: int, size: int) -> None: ...

    def sync(self, fd: int) -> None:
        """Make a file durable."""
        ...

    def sync_data(self, fd: int) -> None:
        """Make a file's bytes durable, and of what is known about it only what is needed to read them."""
        ...


class SystemFiles:
    """The disk as the operating system has it."""

    def lock(self, directory: Path) -> Lock:
        """A lock that ends with the process."""
        return DataDirectoryLock(directory)

    def connect(self, path: Path) -> sqlite3.Connection:
        """A database in a file."""
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def make_directory(self, directory: Path) -> None:
        """``mkdir -p``."""
        directory.mkdir(parents=True, exist_ok=True)

    def list(self, directory: Path, suffix: str) -> list[Path]:
        """``readdir``."""
        return [path for path in directory.iterdir() if path.name.endswith(suffix)]

    def sync_directory(self, directory: Path) -> None:
        """``fsync`` of the directory."""
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def remove(self, path: Path) -> None:
        """``unlink``."""
        path.unlink(missing_ok=True)

    def make(self, path: Path) -> int:
        """``open`` with ``O_CREAT`` and ``O_TRUNC``."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)

    def open(self, path: Path, *, writable: bool = False) -> int:
        """``open``."""
        return os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)

    def close(self, fd: int) -> None:
        """``close``."""
        os.close(fd)

    def size(self, fd: int) -> int:
        """``fstat``."""
        return os.fstat(fd).st_size

    @contextmanager
    def view(self, fd: int) -> Iterator[Bytes]:
        """``mmap``."""
        size = self.size(fd)
        if not size:
            yield b""
            return
        with mmap.mmap(fd, size, access=mmap.ACCESS_READ) as mapped:
            yield mapped

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """``pread``."""
        return os.pread(fd, size, offset)

    def write(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        """``pwritev``."""
        return os.pwritev(fd, buffers, offset)

    def allocate(self, fd: int, size: int) -> None:
        """``posix_fallocate``."""
        os.posix_fallocate(fd, 0, size)

    def truncate(self, fd: int, size: int) -> None:
        """``ftruncate``."""
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        """``fsync``."""
        os.fsync(fd)

    def sync_data(self, fd: int) -> None:
        """``fdatasync``."""
        os.fdatasync(fd)


SYSTEM_FILES: Final = SystemFiles()


def write_file(files: Files, path: Path, data: bytes) -> None:
    """Make a file that holds this, or replace one. Its bytes are durable then, its name is not yet."""
    fd = files.make(path)
    try:
        written = 0
        while written < len(data):
            written += files.write(fd, [data[written:]], written)
        files.sync(fd)
    finally:
        files.close(fd)
