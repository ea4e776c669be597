"""The checkpoint: which bytes of which file count, how far each partition has been stored, what is known of each GPU.

One SQLite transaction commits all of it; what it does not vouch for never happened.
"""

from __future__ import annotations

import sqlite3
import threading
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from telemetry.storage.cold.files import ColdFile
from telemetry.storage.quarantine import Extent
from telemetry.storage.schema import migrate
from telemetry.storage.store import Gpu, Position, StoreError, TopicPartition
from telemetry.storage.values import Latest, Places

_UPSERT: Final = """
INSERT INTO gpus
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET
    length = excluded.length, block_start = excluded.block_start, block_min_us = excluded.block_min_us,
    block_max_us = excluded.block_max_us, first_us = excluded.first_us, last_us = excluded.last_us,
    records = excluded.records, labels = excluded.labels, latest = excluded.latest,
    base = excluded.base, closed = excluded.closed, opened_us = excluded.opened_us
"""

_GPUS_ONE_BY_ONE_MAX: Final = 50
"""The blocks of up to so many GPUs are looked up a GPU at a time; of more, all are read and most thrown away."""


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of a GPU's lines and the range of time in it, both ends included. It is empty when ``start == end``.

    Places are counted from the GPU's very first line, through all files that its lines have ever been in.
    """

    start: int
    end: int
    min_us: int
    max_us: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a GPU's lines in a file that no longer grows.

    Attributes:
        gpu: the GPU's number.
        start: where it begins.
        end: where it ends.
        number: how many files of the GPU were closed before it.
    """

    gpu: int
    start: int
    end: int
    number: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one GPU and its growing file.

    Attributes:
        number: the GPU's number.
        file: the name of the file that grows.
        gpu: the GPU.
        block: its last block, which still grows; its end is where the next line goes.
        base: where the growing file begins.
        closed: how many files of this GPU have been closed.
        opened_us: when the first line went into the growing file.
    """

    number: int
    file: str
    gpu: Gpu
    block: Block
    base: int = 0
    closed: int = 0
    opened_us: int = 0


class Checkpoint:
    """The database. What writes is for one thread at a time, what reads for any."""

    def __init__(self, path: Path, *, synced: bool) -> None:
        """Open or make it.

        Args:
            path: the database file.
            synced: whether a commit waits for the disk.

        Raises:
            StoreError: if it cannot be opened or a later version wrote it.
        """
        try:
            with ExitStack() as opened:
                self._writer = _connect(path, "FULL" if synced else "NORMAL", opened)
                migrate(self._writer)
                self._reader = _connect(path, "OFF", opened)
                opened.pop_all()
        except (sqlite3.Error, ValueError) as error:
            raise StoreError(f"{path} cannot be used as a checkpoint: {error}") from None
        self._reading = threading.Lock()

    def entries(self) -> Iterable[Entry]:
        """Yield every GPU."""
        places: dict[tuple[str, ...], Places] = {}
        for row in self._writer.execute(
            "SELECT id, gpu, file, length, block_start, block_min_us, block_max_us, first_us, last_us, records,"
            " labels, latest, base, closed, opened_us FROM gpus ORDER BY id"
        ):
            number, name, file, length, start, min_us, max_us, first_us, last_us, records, labels, latest = row[:12]
            base, closed, opened_us = row[12:]
            values = orjson.loads(latest)
            names = tuple(values)
            mine = places.setdefault(names, {name: place for place, name in enumerate(names)})
            instants, numbers = zip(*values.values(), strict=True) if values else ((), ())
            newest = Latest(mine, array("q", instants), array("d", numbers))
            gpu = Gpu(name, orjson.loads(labels), first_us, last_us, records, newest)
            yield Entry(number, file, gpu, Block(start, base + length, min_us, max_us), base, closed, opened_us)

    def segments(self) -> list[Segment]:
        """The closed files, those of a GPU in their order."""
        rows = self._writer.execute("SELECT id, start, start + length, number FROM segments ORDER BY id, start")
        return [Segment(*row) for row in rows]

    def cold_files(self) -> list[tuple[ColdFile, int]]:
        """The cold files, and when each was taken in, in microseconds since 1970."""
        rows = self._writer.execute("SELECT file, adopted_us FROM cold_files ORDER BY id")
        return [(ColdFile.from_json(orjson.loads(file)), adopted_us) for file, adopted_us in rows]

    def next_cold_number(self) -> int:
        """The first number that no cold file ever had."""
        number: int = self._writer.execute("SELECT next FROM cold_numbers").fetchone()[0]
        return number

    def positions(self) -> dict[TopicPartition, Position]:
        """How far each partition has been stored."""
        rows = self._writer.execute("SELECT topic, partition, topic_created_us, next_offset FROM positions")
        return {TopicPartition(topic, number): Position(created, offset) for topic, number, created, offset in rows}

    def quarantine(self) -> Extent:
        """How much of the quarantine counts."""
        return Extent(*self._writer.execute("SELECT length, closed FROM quarantine").fetchone())

    def blocks(self, numbers: Sequence[int], start_us: int, end_us: int) -> Iterator[tuple[int, Block]]:
        """Yield finished blocks of GPUs that meet ``start_us`` ≤ time < ``end_us``, with the GPU's number, in order.

        Some may be of stretches that have been moved away from the GPU's files since.

        Raises:
            StoreError: they cannot be read.
        """
        query = "SELECT id, start, start + length, min_us, max_us FROM blocks WHERE max_us >= ? AND min_us < ?"
        wanted = set(numbers)
        try:
            with self._reading:
                if len(wanted) <= _GPUS_ONE_BY_ONE_MAX:
                    rows = [
                        row
                        for number in wanted
                        for row in self._reader.execute(
                            f"{query} AND id = ? ORDER BY start", (start_us, end_us, number)
                        )
                    ]
                else:
                    found = self._reader.execute(f"{query} ORDER BY id, start", (start_us, end_us))
                    rows = [row for row in found if row[0] in wanted]
        except sqlite3.Error as error:
            raise StoreError(f"the checkpoint cannot be read: {error}") from None
        for number, *block in rows:
            yield number, Block(*block)

    def all_blocks(self, number: int, start: int, end: int) -> list[Block]:
        """A GPU's finished blocks that begin in a stretch of its lines."""
        rows = self._writer.execute(
            "SELECT start, start + length, min_us, max_us FROM blocks WHERE id = ? AND start >= ? AND start < ?",
            (number, start, end),
        )
        return [Block(*row) for row in rows]

    def commit(
        self,
        entries: Iterable[Entry],
        blocks: Iterable[tuple[int, Block]],
        segments: Iterable[Segment],
        positions: Mapping[TopicPartition, Position],
        quarantine: Extent,
    ) -> None:
        """Write all of it in one transaction.

        Raises:
            StoreError: nothing was written.
        """
        with self._transaction() as writer:
            writer.executemany(_UPSERT, map(_row, entries))
            writer.executemany(
                "INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?, ?)",
                ((number, b.start, b.end - b.start, b.min_us, b.max_us) for number, b in blocks),
            )
            writer.executemany(
                "INSERT INTO segments VALUES (?, ?, ?, ?)",
                ((s.gpu, s.start, s.end - s.start, s.number) for s in segments),
            )
            writer.executemany(
                "INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)",
                ((*partition, *position) for partition, position in positions.items()),
            )
            writer.execute("UPDATE quarantine SET length = ?, closed = ?", (quarantine.length, quarantine.closed))

    def exchange(
        self,
        new: Iterable[ColdFile],
        *,
        gone: Iterable[int],
        segments: Iterable[Segment],
        now_us: int,
        next_number: int,
    ) -> None:
        """Take in cold files and let go of what they replace: other cold files and closed segments.

        Blocks of those segments stay for those who still read them, until :meth:`forget_blocks`.

        Raises:
            StoreError: nothing was written.
        """
        with self._transaction() as writer:
            writer.executemany("DELETE FROM cold_files WHERE id = ?", ((number,) for number in gone))
            writer.executemany(
                "INSERT INTO cold_files VALUES (?, ?, ?)",
                ((file.id, now_us, orjson.dumps(file.to_json()).decode()) for file in new),
            )
            writer.executemany("DELETE FROM segments WHERE id = ? AND start = ?", ((s.gpu, s.start) for s in segments))
            writer.execute("UPDATE cold_numbers SET next = max(next, ?)", (next_number,))

    def forget_blocks(self, segments: Iterable[Segment]) -> None:
        """Forget the blocks of segments that nobody reads any more.

        Raises:
            StoreError: nothing was written.
        """
        with self._transaction() as writer:
            writer.executemany(
                "DELETE FROM blocks WHERE id = ? AND start >= ? AND start < ?",
                ((s.gpu, s.start, s.end) for s in segments),
            )

    def forget_stray_blocks(self) -> None:
        """Forget the blocks of segments that are gone, when nobody reads.

        Raises:
            StoreError: nothing was written.
        """
        with self._transaction() as writer:
            writer.execute(
                "DELETE FROM blocks WHERE start < (SELECT coalesce(min(s.start), g.base) FROM gpus g"
                " LEFT JOIN segments s ON s.id = g.id WHERE g.id = blocks.id)"
            )

    def shorten(self, number: int, base: int, block: Block) -> None:
        """Take note that a growing file lost its end: ``block`` is its last one now."""
        with self._transaction() as writer:
            writer.execute("DELETE FROM blocks WHERE id = ? AND start >= ?", (number, block.start))
            writer.execute(
                "UPDATE gpus SET length = ?, block_start = ? WHERE id = ?", (block.end - base, block.start, number)
            )

    def shorten_segment(self, segment: Segment, block: Block) -> None:
        """Take note that a closed file lost its end: ``block`` is its last one now, and may be empty."""
        with self._transaction() as writer:
            writer.execute(
                "DELETE FROM blocks WHERE id = ? AND start >= ? AND start < ?", (segment.gpu, block.start, segment.end)
            )
            if block.start < block.end:
                row = (segment.gpu, block.start, block.end - block.start, block.min_us, block.max_us)
                writer.execute("INSERT INTO blocks VALUES (?, ?, ?, ?, ?)", row)
            writer.execute(
                "UPDATE segments SET length = ? WHERE id = ? AND start = ?",
                (block.end - segment.start, segment.gpu, segment.start),
            )

    def close(self) -> None:
        """Close the database."""
        with self._reading:
            self._reader.close()
        self._writer.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
            raise StoreError(f"the checkpoint cannot be written: {error}", full=full) from None


def _connect(path: Path, synchronous: str, opened: ExitStack) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    opened.callback(connection.close)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    return connection


def _row(entry: Entry) -> tuple[int | str, ...]:
    gpu, block = entry.gpu, entry.block
    return (
        entry.number,
        gpu.gpu,
        entry.file,
        block.end - entry.base,
        block.start,
        block.min_us,
        block.max_us,
        gpu.first_us,
        gpu.last_us,
        gpu.records,
        orjson.dumps(gpu.labels).decode(),
        orjson.dumps(gpu.latest.as_dict()).decode(),
        entry.base,
        entry.closed,
        entry.opened_us,
    )
