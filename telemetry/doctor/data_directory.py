"""A data directory: whether it can be written, whose it is, how much room there is, and how long a sync takes."""

from __future__ import annotations

import errno
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from telemetry.doctor.finding import Finding, fail, ok, warn
from telemetry.runtime.datadir import DataDirectoryLock
from telemetry.runtime.errors import DataDirectoryError

FREE_BYTES_MIN: Final = 1 << 30
FREE_SHARE_MIN: Final = 0.1
SYNC_S_MAX: Final = 0.02
"""A sync that takes longer makes publishers wait noticeably."""
SYNCS: Final = 15

_MOUNTS: Final = Path("/proc/self/mounts")
_VOLATILE: Final = frozenset({"tmpfs", "ramfs"})
_REMOTE: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs"})


def check_data_directory(directory: Path) -> Iterator[Finding]:
    """A directory and what is in it. Nothing is left behind, and a running pipeline is not disturbed."""
    there = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
    if not there.is_dir():
        yield fail("data directory", f"{there} is a file", "name another with --data-dir")
        return
    stranger = _owner_trouble(directory)
    if stranger is not None:
        yield stranger
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=there) as scratch:
            syncs = [_sync_s(Path(scratch) / "sync") for _ in range(SYNCS)]
    except OSError as error:
        yield fail("data directory", f"{there} cannot be written: {error.strerror}", _remedy(error))
        return
    made = "" if there == directory.absolute() else f"{directory} is not there yet, and can be made; "
    yield ok("data directory", f"{made}{there} can be written")
    yield _room(there)
    yield _file_system(there)
    median_s = statistics.median(syncs)
    if median_s > SYNC_S_MAX:
        yield warn(
            "sync",
            f"an fsync takes {median_s * 1000:.1f} ms",
            "put the queue's directory on an SSD, or take --fsync interval:MS and its risk",
        )
    else:
        yield ok("sync", f"an fsync takes {median_s * 1000:.2f} ms")
    for part in (directory, *(directory / name for name in ("queue", "store", "alerts"))):
        if (part / "LOCK").is_file():
            yield _holder(part)


def _remedy(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"chown it to the user that runs the pipeline (now uid {os.geteuid()}), or name another with --data-dir"
    if error.errno == errno.EROFS:
        return "mount it for writing, or name another with --data-dir"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room, or name another with --data-dir"
    return "name another with --data-dir"


def _owner_trouble(directory: Path) -> Finding | None:
    """Whether anything in the directory's first two levels belongs to a user whose files we cannot change."""
    me = os.geteuid()
    if me == 0 or not directory.is_dir():
        return None
    for path in (directory, *directory.glob("*"), *directory.glob("*/*")):
        try:
            owner = path.lstat().st_uid
        except OSError:
            continue
        if owner != me and not os.access(path, os.W_OK):
            return fail(
                "owner",
                f"{path} belongs to uid {owner}, and this is uid {me}",
                f"chown -R {me} {directory}, or run as uid {owner}",
            )
    return None


def _sync_s(path: Path) -> float:
    with path.open("wb") as file:
        file.write(bytes(4096))
        file.flush()
        began = time.perf_counter()
        os.fsync(file.fileno())
        return time.perf_counter() - began


def _room(there: Path) -> Finding:
    usage = shutil.disk_usage(there)
    share = usage.free / usage.total if usage.total else 0.0
    found = f"{usage.free / (1 << 30):.1f} GiB free of {usage.total / (1 << 30):.1f}"
    remedy = "make room, or bound what is kept: --retention-raw and --retention-bytes of the collector"
    inodes = os.statvfs(there)
    if inodes.f_files and inodes.f_favail < 10_000:
        return fail("disk", f"{inodes.f_favail} files can still be made", "make room: the file system is out of inodes")
    if usage.free < FREE_BYTES_MIN:
        return fail("disk", found, remedy)
    if share < FREE_SHARE_MIN:
        return warn("disk", found, remedy)
    return ok("disk", found)


def _file_system(there: Path) -> Finding:
    kind = _kind_of(there)
    if kind in _VOLATILE:
        return warn("file system", f"{there} is on {kind}: it is gone after a reboot", "name another with --data-dir")
    if kind in _REMOTE:
        return warn(
            "file system",
            f"{there} is on {kind}, where locks and syncs may promise more than they do",
            "use a local disk or a block volume",
        )
    return ok("file system", kind or "unknown")


def _kind_of(there: Path) -> str:
    """The type of the file system that holds a path, as ``/proc`` tells; empty where there is none."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    best, kind = -1, ""
    for line in lines:
        _, mount, name, *_ = line.split(" ")
        point = Path(mount.encode("latin-1", "replace").decode("unicode_escape"))
        if there.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), name
    return kind


def _holder(part: Path) -> Finding:
    try:
        DataDirectoryLock(part).close()
    except DataDirectoryError as error:
        return ok("lock", str(error).partition(";")[0])
    return ok("lock", f"{part} is used by no process")
