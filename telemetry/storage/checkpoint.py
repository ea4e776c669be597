"""The checkpoint: which bytes of which file count, how far each partition has been stored, what is known of each GPU.

One SQLite transaction commits all of it; what it does not vouch for never happened.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from telemetry.storage.store import Gpu, Position, StoreError, TopicPartition

_FORMAT: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS gpus (
    id INTEGER PRIMARY KEY, gpu TEXT NOT NULL UNIQUE, file TEXT NOT NULL UNIQUE, length INTEGER NOT NULL,
    block_start INTEGER NOT NULL, block_min_us INTEGER NOT NULL, block_max_us INTEGER NOT NULL,
    first_us INTEGER NOT NULL, last_us INTEGER NOT NULL, records INTEGER NOT NULL,
    labels TEXT NOT NULL, latest TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS blocks (
    id INTEGER NOT NULL, start INTEGER NOT NULL, length INTEGER NOT NULL,
    min_us INTEGER NOT NULL, max_us INTEGER NOT NULL,
    PRIMARY KEY (id, start)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, topic_created_us INTEGER NOT NULL, next_offset INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS quarantine (only INTEGER PRIMARY KEY CHECK (only = 0), length INTEGER NOT NULL);
INSERT OR IGNORE INTO quarantine VALUES (0, 0);
"""

_UPSERT: Final = """
INSERT INTO gpus
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET
    length = excluded.length, block_start = excluded.block_start, block_min_us = excluded.block_min_us,
    block_max_us = excluded.block_max_us, first_us = excluded.first_us, last_us = excluded.last_us,
    records = excluded.records, labels = excluded.labels, latest = excluded.latest
"""


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of a file and the range of time in it, both ends included. It is empty when ``start == end``."""

    start: int
    end: int
    min_us: int
    max_us: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one GPU and its file.

    Attributes:
        number: the file's number.
        file: its name.
        gpu: the GPU.
        block: the file's last block, which still grows; its end is the length of the file.
    """

    number: int
    file: str
    gpu: Gpu
    block: Block


class Checkpoint:
    """The database. :meth:`commit` is for one thread at a time, the rest for any."""

    def __init__(self, path: Path, *, synced: bool) -> None:
        """Open or make it.

        Args:
            path: the database file.
            synced: whether a commit waits for the disk.

        Raises:
            StoreError: if it cannot be opened or another version wrote it.
        """
        try:
            self._writer = _connect(path, "FULL" if synced else "NORMAL")
            version: int = self._writer.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _FORMAT):
                raise StoreError(f"{path} has format {version}; this version reads {_FORMAT}")
            self._writer.executescript(_SCHEMA)
            self._writer.execute(f"PRAGMA user_version = {_FORMAT}")
            self._reader = _connect(path, "OFF")
        except sqlite3.Error as error:
            raise StoreError(f"{path} cannot be used as a checkpoint: {error}") from None
        self._reading = threading.Lock()

    def entries(self) -> Iterable[Entry]:
        """Yield every GPU."""
        for row in self._writer.execute(
            "SELECT id, gpu, file, length, block_start, block_min_us, block_max_us, first_us, last_us, records,"
            " labels, latest FROM gpus ORDER BY id"
        ):
            number, name, file, length, start, min_us, max_us, first_us, last_us, records, labels, latest = row
            values = {metric: (instant, value) for metric, (instant, value) in orjson.loads(latest).items()}
            gpu = Gpu(name, orjson.loads(labels), first_us, last_us, records, values)
            yield Entry(number, file, gpu, Block(start, length, min_us, max_us))

    def positions(self) -> dict[TopicPartition, Position]:
        """How far each partition has been stored."""
        rows = self._writer.execute("SELECT topic, partition, topic_created_us, next_offset FROM positions")
        return {TopicPartition(topic, number): Position(created, offset) for topic, number, created, offset in rows}

    def quarantine_length(self) -> int:
        """How long the quarantine is."""
        length: int = self._writer.execute("SELECT length FROM quarantine").fetchone()[0]
        return length

    def blocks(self, number: int, before: int, start_us: int, end_us: int) -> list[Block]:
        """The finished blocks of a file that begin before offset ``before`` and meet ``start_us`` ≤ time < ``end_us``.

        Raises:
            StoreError: they cannot be read.
        """
        try:
            with self._reading:
                rows = self._reader.execute(
                    "SELECT start, start + length, min_us, max_us FROM blocks"
                    " WHERE id = ? AND start < ? AND max_us >= ? AND min_us < ? ORDER BY start",
                    (number, before, start_us, end_us),
                ).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"the checkpoint cannot be read: {error}") from None
        return [Block(*row) for row in rows]

    def commit(
        self,
        entries: Iterable[Entry],
        blocks: Iterable[tuple[int, Block]],
        positions: Mapping[TopicPartition, Position],
        quarantine_length: int,
    ) -> None:
        """Write all of it in one transaction.

        Raises:
            StoreError: nothing was written.
        """
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                self._writer.executemany(_UPSERT, map(_row, entries))
                self._writer.executemany(
                    "INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?, ?)",
                    ((number, b.start, b.end - b.start, b.min_us, b.max_us) for number, b in blocks),
                )
                self._writer.executemany(
                    "INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)",
                    ((*partition, *position) for partition, position in positions.items()),
                )
                self._writer.execute("UPDATE quarantine SET length = ?", (quarantine_length,))
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
            raise StoreError(f"the checkpoint cannot be written: {error}", full=full) from None

    def shorten(self, number: int, block: Block) -> None:
        """Take note that a file lost its end: ``block`` is its last one now."""
        with self._writer:
            self._writer.execute("DELETE FROM blocks WHERE id = ? AND start >= ?", (number, block.start))
            self._writer.execute(
                "UPDATE gpus SET length = ?, block_start = ? WHERE id = ?", (block.end, block.start, number)
            )

    def close(self) -> None:
        """Close the database."""
        self._reader.close()
        self._writer.close()


def _connect(path: Path, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    return connection


def _row(entry: Entry) -> tuple[int | str, ...]:
    gpu, block = entry.gpu, entry.block
    return (
        entry.number,
        gpu.gpu,
        entry.file,
        block.end,
        block.start,
        block.min_us,
        block.max_us,
        gpu.first_us,
        gpu.last_us,
        gpu.records,
        orjson.dumps(gpu.labels).decode(),
        orjson.dumps(gpu.latest).decode(),
    )
