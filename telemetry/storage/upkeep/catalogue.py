"""What a data directory should hold: a copy of its checkpoint at one moment, taken while a collector may be writing."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from telemetry.runtime.errors import DataDirectoryError
from telemetry.storage.checkpoint import Checkpoint
from telemetry.storage.cold.files import ColdFile
from telemetry.storage.quarantine import Extent
from telemetry.storage.segments import closed_name
from telemetry.storage.store import StoreError

DATABASE: Final = "checkpoint.sqlite"
HOT: Final = "hot"
COLD: Final = "cold"


@dataclass(frozen=True, slots=True)
class HotFile:
    """A file of one GPU's lines.

    Attributes:
        gpu: the GPU.
        name: the file's name.
        length: how many bytes of it are committed.
        closed_as: what a file that grows will be called once it is closed; empty for one that is closed.
    """

    gpu: str
    name: str
    length: int
    closed_as: str = ""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What is committed.

    Attributes:
        hot: the hot tier's files, but for those that no line has been written to.
        cold: the cold tier's files.
        quarantine: how much of the quarantine is committed.
    """

    hot: Sequence[HotFile]
    cold: Sequence[ColdFile]
    quarantine: Extent


def snapshot(directory: Path, copy: Path) -> Catalogue:
    """Copy a data directory's checkpoint to ``copy``, as of one moment, and say what it vouches for.

    Raises:
        DataDirectoryError: there is none, or it cannot be read.
    """
    database = directory / DATABASE
    if not database.is_file():
        raise DataDirectoryError(f"{directory} is no collector's data directory: it has no {DATABASE}")
    try:
        with (
            closing(sqlite3.connect(f"file:{_quoted(database)}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
            (verdict,) = target.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise DataDirectoryError(f"{database} is damaged: {verdict}; restore a backup")
        return read_catalogue(copy)
    except (sqlite3.Error, StoreError) as error:
        raise DataDirectoryError(f"{database} cannot be read: {error}") from None


def read_catalogue(database: Path) -> Catalogue:
    """What a checkpoint that nobody else uses vouches for.

    Raises:
        StoreError: it cannot be read.
    """
    checkpoint = Checkpoint(database, synced=True)
    try:
        entries = {entry.number: entry for entry in checkpoint.entries()}
        hot = [
            HotFile(
                entries[segment.gpu].gpu.gpu,
                closed_name(entries[segment.gpu].file, segment.number),
                segment.end - segment.start,
            )
            for segment in checkpoint.segments()
        ]
        hot += [
            HotFile(entry.gpu.gpu, entry.file, entry.block.end - entry.base, closed_name(entry.file, entry.closed))
            for entry in entries.values()
            if entry.block.end > entry.base
        ]
        return Catalogue(hot, [file for file, _ in checkpoint.cold_files()], checkpoint.quarantine())
    finally:
        checkpoint.close()


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
