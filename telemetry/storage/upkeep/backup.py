"""A consistent copy of a data directory, taken while a collector may be writing, and the way back from it.

A copy is complete once it has its manifest, which is written last and names every file with its checksum.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import google_crc32c
import orjson

from telemetry.runtime.datadir import DataDirectoryLock
from telemetry.runtime.errors import DataDirectoryError
from telemetry.storage import files
from telemetry.storage.checkpoint import Checkpoint
from telemetry.storage.cold.damage import DAMAGED
from telemetry.storage.cold.files import ColdFile
from telemetry.storage.cold.parquet import file_crc32c
from telemetry.storage.quarantine import NAME as QUARANTINE
from telemetry.storage.quarantine import RETRIED, Extent, closed_files
from telemetry.storage.quarantine import closed_name as closed_quarantine
from telemetry.storage.store import StoreError
from telemetry.storage.upkeep.catalogue import (
    COLD,
    DATABASE,
    HOT,
    Catalogue,
    HotFile,
    read_catalogue,
    snapshot,
)
from telemetry.storage.upkeep.check import examine

MANIFEST: Final = "backup.json"
FORMAT: Final = 1

SNAPSHOTS_MAX: Final = 20
"""How many files may turn out to be away, compacted or lost, before the copy is given up; two looks each."""

_PIECE_BYTES: Final = 4 << 20


@dataclass(slots=True)
class Copied:
    """What was copied.

    Attributes:
        files: path, relative to the directory, to size and CRC-32C.
        damaged: files left out because they are damaged, and why.
    """

    files: dict[str, tuple[int, int]] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(size for size, _ in self.files.values())

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"files": len(self.files), "bytes": self.size, "damaged": self.damaged}


class _MovedOnError(Exception):
    """A file that was to be copied is not there: it has been compacted away since the snapshot, or is lost."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


def backup(directory: Path, target: Path) -> Copied:
    """Copy what is committed in ``directory`` into ``target``, which is made or is empty.

    Cold files, which never change, are linked where the file system can; all else is copied. Damaged cold files are
    left out, and out of the copy's checkpoint too.

    Raises:
        DataDirectoryError: ``directory`` cannot be read or ``target`` not be written.
    """
    _make_empty(target)
    copied = Copied()
    missed: list[str] = []
    try:
        for _ in range(SNAPSHOTS_MAX):
            for name in (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"):
                (target / name).unlink(missing_ok=True)
            catalogue = snapshot(directory, target / DATABASE)
            try:
                # What is not there although a second checkpoint names it is lost.
                _copy(directory, target, catalogue, copied, lost={path for path in missed if missed.count(path) > 1})
                break
            except _MovedOnError as error:
                missed.append(error.path)
        else:
            raise DataDirectoryError(f"{directory} is compacted faster than it can be copied; try again")
        _finish(target, copied)
    except (OSError, StoreError, sqlite3.Error) as error:
        raise DataDirectoryError(f"{directory} cannot be backed up to {target}: {error}") from None
    return copied


def restore(source: Path, directory: Path) -> Copied:
    """Copy a backup into ``directory``, which is made or is empty, and examine every file.

    Raises:
        DataDirectoryError: the backup is not complete or damaged, or ``directory`` cannot be written. Without its
            checkpoint, which comes last, no collector takes it for its own.
    """
    manifest = _read_manifest(source)
    _make_empty(directory)
    try:
        with DataDirectoryLock(directory):
            for path, (size, checksum) in sorted(manifest.items(), key=lambda item: item[0] == DATABASE):
                (directory / path).parent.mkdir(parents=True, exist_ok=True)
                try:
                    found = _copy_bytes(source / path, directory / path, size)
                except FileNotFoundError:
                    raise DataDirectoryError(f"the backup is damaged: {source / path} is missing") from None
                if found != (size, checksum):
                    (directory / path).unlink()
                    raise DataDirectoryError(f"the backup is damaged: {source / path} is not what was written")
            problems = examine(directory, read_catalogue(directory / DATABASE), at_rest=True)
            _sync(directory)
    except (OSError, StoreError) as error:
        raise DataDirectoryError(f"{source} cannot be restored to {directory}: {error}") from None
    return Copied(manifest, {problem.path: problem.what for problem in problems})


def _copy(directory: Path, target: Path, catalogue: Catalogue, copied: Copied, *, lost: Collection[str]) -> None:
    """Copy all that a catalogue names. What an earlier try copied and is still wanted stays.

    Raises:
        _MovedOnError: something is not there any more.
    """
    wanted = {f"{HOT}/{file.name}" for file in catalogue.hot} | {f"{COLD}/{file.path}" for file in catalogue.cold}
    for path in copied.files.keys() - wanted:
        (target / path).unlink(missing_ok=True)
        del copied.files[path]
    copied.damaged = dict.fromkeys(wanted & set(lost), "it is missing")
    bad: list[int] = []
    for hot in catalogue.hot:
        if f"{HOT}/{hot.name}" not in copied.damaged:
            _copy_hot(directory, target, hot, copied)
    for cold in catalogue.cold:
        if f"{COLD}/{cold.path}" in copied.damaged or not _copy_cold(directory, target, cold, copied):
            bad.append(cold.id)
    for path in _others(directory):
        _copy_other(directory, target, path, copied)
    _copy_quarantine(directory, target, catalogue.quarantine, copied)
    checkpoint = Checkpoint(target / DATABASE, synced=True)
    try:
        checkpoint.exchange([], gone=bad, segments=[], now_us=time.time_ns() // 1000, next_number=0)
    finally:
        checkpoint.close()


def _copy_hot(directory: Path, target: Path, file: HotFile, copied: Copied) -> None:
    (target / HOT).mkdir(exist_ok=True)
    path, copy = directory / HOT / file.name, target / HOT / file.name
    closed = directory / HOT / file.closed_as if file.closed_as else None
    try:
        if closed is None:
            found = _copy_bytes(path, copy, file.length)
        else:
            # It may be closed at any moment, and another file grow under its name. Whether it was still the right one
            # that was opened is known only afterwards.
            found = _copy_bytes(path, copy, file.length) if path.exists() else (0, 0)
            if closed.exists() or not path.exists():
                found = _copy_bytes(closed, copy, file.length)
    except FileNotFoundError:
        raise _MovedOnError(f"{HOT}/{file.name}") from None
    shown = f"{HOT}/{file.name}"
    if found[0] < file.length:
        copied.damaged[shown] = f"it lacks {file.length - found[0]:,} of {file.length:,} bytes"
    copied.files[shown] = found


def _copy_cold(directory: Path, target: Path, file: ColdFile, copied: Copied) -> bool:
    """False if the file is damaged."""
    path = f"{COLD}/{file.path}"
    if path in copied.files:
        return True
    source, copy = directory / path, target / path
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, copy)
    except FileNotFoundError:
        raise _MovedOnError(path) from None
    except OSError:
        shutil.copyfile(source, copy)
    if copy.stat().st_size != file.size or file_crc32c(copy) != file.crc32c:
        copy.unlink()
        copied.damaged[path] = "its checksum is wrong"
        return False
    copied.files[path] = (file.size, file.crc32c)
    return True


def _copy_quarantine(directory: Path, target: Path, extent: Extent, copied: Copied) -> None:
    # As with hot files: which one was opened is known only afterwards, so the closed one comes second.
    for name in (QUARANTINE, closed_quarantine(extent.closed)) if extent.length else ():
        with suppress(FileNotFoundError):
            copied.files[QUARANTINE] = _copy_bytes(directory / name, target / QUARANTINE, extent.length)
    for number, _ in sorted(closed_files(directory)):
        if number < extent.closed:
            # The oldest may go at any moment.
            with suppress(FileNotFoundError):
                _copy_other(directory, target, closed_quarantine(number), copied)
    with suppress(FileNotFoundError):
        _copy_other(directory, target, RETRIED, copied)


def _copy_other(directory: Path, target: Path, path: str, copied: Copied) -> None:
    (target / path).parent.mkdir(parents=True, exist_ok=True)
    copied.files[path] = _copy_bytes(directory / path, target / path, (directory / path).stat().st_size)


def _others(directory: Path) -> Iterator[str]:
    """What no catalogue names: lines and files that were set aside."""
    for path in sorted((directory / COLD / DAMAGED).glob("*")):
        if path.is_file():
            yield str(path.relative_to(directory))


def _finish(target: Path, copied: Copied) -> None:
    copied.files[DATABASE] = ((target / DATABASE).stat().st_size, file_crc32c(target / DATABASE))
    _sync(target)
    manifest = {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": [[path, size, checksum] for path, (size, checksum) in sorted(copied.files.items())],
    }
    (target / MANIFEST).write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
    files.sync_files(target, [target / MANIFEST], with_directory=True)


def _read_manifest(source: Path) -> dict[str, tuple[int, int]]:
    try:
        manifest = orjson.loads((source / MANIFEST).read_bytes())
        if manifest["format"] != FORMAT:
            raise DataDirectoryError(f"{source} has format {manifest['format']}; this version reads {FORMAT}")
        found = {path: (size, checksum) for path, size, checksum in manifest["files"]}
    except FileNotFoundError:
        raise DataDirectoryError(f"{source} is no complete backup: it has no {MANIFEST}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataDirectoryError(f"{source / MANIFEST} cannot be read: {error}") from None
    for path in found:
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise DataDirectoryError(f"{source / MANIFEST} names a file outside of the backup: {path}")
    return found


def _make_empty(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise DataDirectoryError(f"{directory} is not empty")
    except OSError as error:
        raise DataDirectoryError(f"{directory} cannot be written: {error.strerror}") from None


def _copy_bytes(source: Path, target: Path, length: int) -> tuple[int, int]:
    """Copy up to ``length`` bytes; how many there were, and their checksum."""
    checksum = size = 0
    with source.open("rb", buffering=0) as reader, target.open("wb", buffering=0) as writer:
        while size < length and (piece := reader.read(min(_PIECE_BYTES, length - size))):
            writer.write(piece)
            checksum = google_crc32c.extend(checksum, piece)
            size += len(piece)
    return size, checksum


def _sync(directory: Path) -> None:
    paths = [path for path in directory.rglob("*") if path.is_file()]
    files.sync_files(directory, paths, with_directory=True)
    for folder in {path.parent for path in paths}:
        files.sync_files(folder, [], with_directory=True)
