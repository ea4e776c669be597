"""A disk in memory that forgets what was not synced, tears what it keeps of it, flips bits, fills up and fails."""

from __future__ import annotations

import errno
import os
import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from telemetry.queue.engines.files import Bytes, Lock
from telemetry.runtime.errors import DataDirectoryError

SECTOR_BYTES: Final = (16, 64, 512)
"""What a disk may write whole or not at all; small ones tear records of a few hundred bytes in more places."""


class PowerCut(BaseException):
    """The machine or the process ends here, in the middle of a call to the disk."""


class SimulatedFile:
    """A file as processes see it and as the disk has it, with the changes that lie between the two."""

    __slots__ = ("cached", "changes", "stored")

    def __init__(self) -> None:
        self.cached = bytearray()
        self.stored = bytearray()
        # Bytes written at an offset, or None where the file was cut or extended to that size.
        self.changes: list[tuple[int, bytes | None]] = []

    def change(self, offset: int, data: bytes | None) -> None:
        """Write, or set the size. Only the cache knows of it."""
        _apply(self.cached, offset, data)
        self.changes.append((offset, data))

    def flush(self) -> None:
        """The disk takes all changes."""
        for offset, data in self.changes:
            _apply(self.stored, offset, data)
        self.changes.clear()

    def tear(self, rng: random.Random, sector: int, *, any_size: bool) -> None:
        """The disk takes any of the changes of any sector, and no more of them will ever come.

        The size is what it was at any of them, unless a journal keeps it.
        """
        if not self.changes:
            return
        versions = [bytes(self.stored)]
        for offset, data in self.changes:
            version = bytearray(versions[-1])
            _apply(version, offset, data)
            versions.append(bytes(version))
        kind = rng.random()
        kept = bytearray(len(rng.choice(versions) if any_size else versions[-1]))
        for at in range(0, len(kept), sector):
            source = versions[0] if kind < 0.2 else versions[-1] if kind < 0.4 else rng.choice(versions)
            piece = source[at : min(at + sector, len(kept))]
            kept[at : at + len(piece)] = piece
        self.stored = kept
        self.changes.clear()


def _apply(target: bytearray, offset: int, data: bytes | None) -> None:
    end = offset + (len(data) if data is not None else 0)
    if len(target) < end:
        target.extend(bytes(end - len(target)))
    if data is None:
        del target[offset:]
    else:
        target[offset:end] = data


class SimulatedDatabase(sqlite3.Connection):
    """SQLite itself, whose commits are atomic and durable, on a disk that may end, fill up or fail around them."""

    disk: SimulatedDisk

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Run a statement."""
        if sql != "COMMIT":
            return super().execute(sql, parameters)
        self.disk.step()
        if self.disk.full:
            raise _sqlite_error("database or disk is full", sqlite3.SQLITE_FULL)
        if self.disk.fail_commits:
            self.disk.failures += 1
            raise _sqlite_error("disk I/O error", sqlite3.SQLITE_IOERR)
        cursor = super().execute(sql)
        self.disk.step()
        return cursor

    def close(self) -> None:
        """It is kept for the next process."""


def _sqlite_error(message: str, code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(message)
    error.sqlite_errorcode = code
    return error


class _Lock:
    def close(self) -> None:
        """Nobody else asks for it."""


class SimulatedDisk:
    """`Files` of one machine. The names of files are durable only when their directory was synced."""

    def __init__(self, rng: random.Random) -> None:
        self.full = False
        self.fail_syncs = False
        self.fail_commits = False
        self.lies = False
        """Syncs say that they are done and do nothing."""
        self.failures = 0
        """Errors that are to end the process."""
        self.refusals = 0
        """Errors that are not."""
        self.steps_left: int | None = None
        """After how many more calls that change something the end comes."""
        self._rng = rng
        self._sector = rng.choice(SECTOR_BYTES)
        self._names: dict[str, SimulatedFile | None] = {}
        self._stored_names: dict[str, SimulatedFile | None] = {}  # None is a directory
        self._open: dict[int, SimulatedFile] = {}
        self._last_fd = 2
        self._database: SimulatedDatabase = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False, factory=SimulatedDatabase
        )
        self._database.disk = self

    # For the simulation

    def step(self) -> None:
        """Count a call; the end may have come."""
        if self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left <= 0:
                raise PowerCut

    def end_process(self) -> None:
        """The process that used the disk is gone; what it wrote is still in the machine's memory."""
        self._open.clear()
        self.steps_left = None
        if self._database.in_transaction:
            self._database.rollback()

    def end_power(self) -> None:
        """The machine is gone: of what was not synced, anything may be there."""
        self.end_process()
        for path in {**self._stored_names, **self._names}:
            before, after = self._stored_names.get(path, self), self._names.get(path, self)
            if before is not after and self._rng.random() < 0.5:
                if after is self:
                    del self._stored_names[path]
                else:
                    self._stored_names[path] = self._names[path]
        lost = [path for path, file in self._names.items() if file is None and path not in self._stored_names]
        self._stored_names = {
            path: file
            for path, file in self._stored_names.items()
            if not any(path.startswith(f"{directory}/") for directory in lost)
        }
        self._names = dict(self._stored_names)
        for file in self._names.values():
            if file is not None:
                file.tear(self._rng, self._sector, any_size=True)
                file.cached = bytearray(file.stored)

    def files(self, suffix: str) -> list[tuple[Path, SimulatedFile]]:
        """Files by name, in order."""
        found = [(path, file) for path, file in self._names.items() if file is not None and path.endswith(suffix)]
        return [(Path(path), file) for path, file in sorted(found, key=lambda one: one[0])]

    def throw_away(self) -> None:
        """Give back what the disk holds of the real machine."""
        sqlite3.Connection.close(self._database)

    # Files

    def lock(self, directory: Path) -> Lock:
        """Make the directory."""
        try:
            self.make_directory(directory)
        except OSError as error:
            raise DataDirectoryError(f"{directory}: {error.strerror}") from None
        self._stored_names[str(directory)] = None
        return _Lock()

    def connect(self, path: Path) -> sqlite3.Connection:
        """The one database there is."""
        return self._database

    def make_directory(self, directory: Path) -> None:
        """``mkdir``."""
        self._names.setdefault(str(directory), None)

    def list(self, directory: Path, suffix: str) -> list[Path]:
        """In an order that is not sorted."""
        parent = str(directory)
        found = [path for path in self._names if path.endswith(suffix) and path.rpartition("/")[0] == parent]
        self._rng.shuffle(found)
        return [Path(path) for path in found]

    def sync_directory(self, directory: Path) -> None:
        """Names in the directory become durable."""
        self.step()
        self._may_fail()
        if self.lies:
            return
        parent = str(directory)
        for path in {**self._stored_names, **self._names}:
            if path.rpartition("/")[0] == parent:
                if path in self._names:
                    self._stored_names[path] = self._names[path]
                else:
                    del self._stored_names[path]

    def remove(self, path: Path) -> None:
        """``unlink``."""
        self.step()
        self._names.pop(str(path), None)

    def make(self, path: Path) -> int:
        """``open`` with ``O_CREAT`` and ``O_TRUNC``."""
        self.step()
        self._may_be_full()
        name = str(path)
        file = self._names.get(name)
        if file is None:
            file = self._names[name] = SimulatedFile()
        else:
            file.change(0, None)
        return self._give_fd(file)

    def open(self, path: Path, *, writable: bool = False) -> int:
        """``open``."""
        file = self._names.get(str(path))
        if file is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return self._give_fd(file)

    def close(self, fd: int) -> None:
        """``close``."""
        del self._open[fd]

    def size(self, fd: int) -> int:
        """``fstat``."""
        return len(self._open[fd].cached)

    @contextmanager
    def view(self, fd: int) -> Iterator[Bytes]:
        """``mmap``."""
        yield bytes(self._open[fd].cached)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """``pread``."""
        return bytes(self._open[fd].cached[offset : offset + size])

    def write(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        """``pwritev``, which may write less than it is given."""
        self.step()
        data = b"".join(buffers)
        if self.full:
            if self._rng.random() < 0.5:
                self._may_be_full()
            data = data[: self._rng.randint(1, max(1, len(data) - 1))]
        elif self._rng.random() < 0.02:
            data = data[: self._rng.randint(1, max(1, len(data)))]
        self._open[fd].change(offset, data)
        return len(data)

    def allocate(self, fd: int, size: int) -> None:
        """``posix_fallocate``."""
        self.step()
        self._may_be_full()
        if size > self.size(fd):
            self._open[fd].change(size, None)

    def truncate(self, fd: int, size: int) -> None:
        """``ftruncate``."""
        self.step()
        self._open[fd].change(size, None)

    def sync(self, fd: int) -> None:
        """``fsync``: when it fails, what was not written is forgotten, and the next one will say that all is well."""
        self.step()
        if self.fail_syncs:
            self._open[fd].tear(self._rng, self._sector, any_size=False)
        self._may_fail()
        if not self.lies:
            self._open[fd].flush()

    def sync_data(self, fd: int) -> None:
        """``fdatasync``."""
        self.sync(fd)

    def _give_fd(self, file: SimulatedFile) -> int:
        self._last_fd += 1
        self._open[self._last_fd] = file
        return self._last_fd

    def _may_be_full(self) -> None:
        if self.full:
            self.refusals += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _may_fail(self) -> None:
        if self.fail_syncs:
            self.failures += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
