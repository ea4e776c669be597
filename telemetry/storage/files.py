"""Files that only grow: written at a known place, synced together, cut back to what a checkpoint vouches for."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

SYNC_SINGLY_MAX: Final = 8
"""Up to so many files are synced one by one; beyond, one ``syncfs`` for all is cheaper."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


def write_at(path: Path, offset: int, data: bytes) -> None:
    """Write ``data`` at ``offset``; the same write again does no harm, so a failed one can be repeated."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        view = memoryview(data)
        while view:
            written = os.pwrite(descriptor, view, offset)
            view, offset = view[written:], offset + written
    finally:
        os.close(descriptor)


def read_range(path: Path, start: int, end: int) -> bytes:
    """Read the bytes from ``start`` on, before ``end``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return read_open(descriptor, start, end)
    finally:
        os.close(descriptor)


def read_open(descriptor: int, start: int, end: int) -> bytes:
    """Read the bytes of an open file from ``start`` on, before ``end``."""
    pieces = []
    while start < end and (piece := os.pread(descriptor, end - start, start)):
        pieces.append(piece)
        start += len(piece)
    return b"".join(pieces)


def sync_files(directory: Path, paths: Sequence[Path], *, with_directory: bool) -> None:
    """Bring files (all within ``directory``) to disk, and their names if ``with_directory``."""
    if len(paths) > SYNC_SINGLY_MAX and _sync_file_system(directory):
        return
    for path in (*paths, directory) if with_directory else paths:
        _on_descriptor(path, os.fsync)


def cut(path: Path, length: int) -> int:
    """Cut a file back to ``length`` and return how long it was; 0 when there is none."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return 0
    if size > length:
        os.truncate(path, length)
    return size


def file_sizes(directory: Path, suffix: str) -> Iterable[tuple[str, int]]:
    """Yield the name and size of each file in ``directory`` whose name ends in ``suffix``."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.endswith(suffix) and entry.is_file(follow_symlinks=False):
                yield entry.name, entry.stat(follow_symlinks=False).st_size


def _sync_file_system(directory: Path) -> bool:
    """``syncfs``; false where the system has none."""
    if not hasattr(_libc, "syncfs"):
        return False

    def sync(descriptor: int) -> None:
        if _libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(directory))

    _on_descriptor(directory, sync)
    return True


def _on_descriptor(path: Path, action: Callable[[int], None]) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        action(descriptor)
    finally:
        os.close(descriptor)
