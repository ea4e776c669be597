"""Topics, groups and positions in SQLite: committed in rounds, in a thread, so that acks share the disk's waits."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from telemetry.queue.core.attempts import Tried
from telemetry.queue.core.cursor import Cursor
from telemetry.queue.core.delivery import Piece
from telemetry.queue.core.errors import ClosedError, FullError
from telemetry.queue.core.groups import GroupState
from telemetry.queue.core.partition import Partition
from telemetry.queue.core.runs import Run
from telemetry.queue.core.topics import TopicState
from telemetry.queue.core.types import GroupSettings, Mode, Retention, Storage, TopicConfig, TopicLimits
from telemetry.queue.engines.files import Files
from telemetry.queue.engines.group_commit import GroupCommit
from telemetry.runtime.errors import DataDirectoryError

SCHEMA_VERSION: Final = 2
RETRY_AFTER_S: Final = 1.0
"""What is told to whoever asked when the disk is full."""

_SCHEMA: Final = """
CREATE TABLE topics (
    topic_id INTEGER PRIMARY KEY, name TEXT NOT NULL, config TEXT NOT NULL, created_us INTEGER NOT NULL
);
CREATE TABLE last_topic (only INTEGER PRIMARY KEY CHECK (only = 0), topic_id INTEGER NOT NULL);
CREATE TABLE subscription_groups (name TEXT PRIMARY KEY, settings TEXT NOT NULL);
CREATE TABLE cursors (
    group_name TEXT NOT NULL, topic_id INTEGER NOT NULL, partition INTEGER NOT NULL,
    acked_through INTEGER NOT NULL, settled BLOB NOT NULL,
    PRIMARY KEY (group_name, topic_id, partition)
) WITHOUT ROWID;
CREATE TABLE starts (
    topic_id INTEGER NOT NULL, partition INTEGER NOT NULL, start_offset INTEGER NOT NULL,
    PRIMARY KEY (topic_id, partition)
) WITHOUT ROWID;
CREATE TABLE producers (
    topic_id INTEGER NOT NULL, partition INTEGER NOT NULL, producer_id TEXT NOT NULL,
    epoch INTEGER NOT NULL, last_sequence INTEGER NOT NULL, time_us INTEGER NOT NULL,
    PRIMARY KEY (topic_id, partition, producer_id)
) WITHOUT ROWID;
"""

_SECOND_SCHEMA: Final = """
ALTER TABLE cursors ADD COLUMN handed_through INTEGER NOT NULL DEFAULT 0;
CREATE TABLE attempts (
    group_name TEXT NOT NULL, topic_id INTEGER NOT NULL, partition INTEGER NOT NULL,
    first_offset INTEGER NOT NULL, end_offset INTEGER NOT NULL,
    attempts INTEGER NOT NULL, first_time_us INTEGER NOT NULL, last_time_us INTEGER NOT NULL,
    PRIMARY KEY (group_name, topic_id, partition, first_offset)
) WITHOUT ROWID;
"""
"""What version 2 has beyond version 1."""

_DELETE_ATTEMPTS: Final = "DELETE FROM attempts WHERE group_name = ? AND topic_id = ? AND partition = ?"

_Statement = tuple[str, tuple[Any, ...]]
_Key = tuple[str | int, ...]


class _Change(NamedTuple):
    """A change by the time it is committed: ``statements`` is called then."""

    statements: Callable[[], list[_Statement]]


class _Round(NamedTuple):
    changes: dict[_Key, _Change]
    statements: list[_Statement]


@dataclass(slots=True)
class Kept:
    """All that the catalogue holds, as it is read on start."""

    topics: list[TopicState] = field(default_factory=list)
    last_topic_id: int = 0
    groups: list[tuple[str, GroupSettings]] = field(default_factory=list)
    cursors: dict[tuple[str, int, int], tuple[int, list[Run]]] = field(default_factory=dict)
    handed: dict[tuple[str, int, int], int] = field(default_factory=dict)
    """Below which offset a group was handed messages."""
    tried: dict[tuple[str, int, int], list[Tried]] = field(default_factory=dict)
    starts: dict[tuple[int, int], int] = field(default_factory=dict)
    producers: list[tuple[int, int, str, int, int, int]] = field(default_factory=list)
    """Topic id, partition, producer, epoch, last sequence, last time."""


class SqliteCatalogue:
    """Keeps what is not in the log."""

    def __init__(self, files: Files, path: Path, failed: Callable[[BaseException], None]) -> None:
        """Open or make the database.

        Raises:
            DataDirectoryError: if it cannot be used, or was written by a later version.
        """
        self._path = path
        self._failed = failed
        self._changes: dict[_Key, _Change] = {}
        # Group, topic id and partition of which there are attempts; most never have any, and cost nothing then.
        self._with_attempts: set[tuple[str, int, int]] = set()
        try:
            with ExitStack() as opened:
                self._connection = files.connect(path)
                opened.callback(self._connection.close)
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
                (version,) = self._connection.execute("PRAGMA user_version").fetchone()
                if version > SCHEMA_VERSION:
                    raise DataDirectoryError(
                        f"{path} has version {version}; this program reads {SCHEMA_VERSION} and older"
                    )
                self.is_new = version == 0
                if version < SCHEMA_VERSION:
                    schema = (_SCHEMA if self.is_new else "") + _SECOND_SCHEMA
                    self._connection.executescript(f"BEGIN; {schema} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
                opened.pop_all()
        except sqlite3.Error as error:
            raise DataDirectoryError(f"{path} cannot be used: {error}") from None
        self._commit = GroupCommit("queue-catalogue", self._gather, self._write, self._finish)

    def load(self) -> Kept:
        """Read everything.

        Raises:
            DataDirectoryError: if the database is damaged.
        """
        try:
            return self._load()
        except (sqlite3.Error, LookupError, TypeError, ValueError, struct.error) as error:
            raise DataDirectoryError(f"{self._path} cannot be read: {error}") from None

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def _load(self) -> Kept:
        execute = self._connection.execute
        kept = Kept()
        for topic_id, _, config, created_us in execute("SELECT topic_id, name, config, created_us FROM topics"):
            kept.topics.append(TopicState(topic_id, _config_of(json.loads(config)), created_us))
        for (topic_id,) in execute("SELECT topic_id FROM last_topic"):
            kept.last_topic_id = topic_id
        for name, settings in execute("SELECT name, settings FROM subscription_groups"):
            kept.groups.append((name, _settings_of(json.loads(settings))))
        for group, topic_id, partition, acked_through, settled, handed_through in execute(
            "SELECT group_name, topic_id, partition, acked_through, settled, handed_through FROM cursors"
        ):
            kept.cursors[group, topic_id, partition] = acked_through, list(struct.iter_unpack("<QQ", settled))
            kept.handed[group, topic_id, partition] = handed_through
        for group, topic_id, partition, *tried in execute(
            "SELECT group_name, topic_id, partition, first_offset, end_offset, attempts, first_time_us, last_time_us "
            "FROM attempts"
        ):
            kept.tried.setdefault((group, topic_id, partition), []).append(Tried(*tried))
        for topic_id, partition, start_offset in execute("SELECT topic_id, partition, start_offset FROM starts"):
            kept.starts[topic_id, partition] = start_offset
        self._with_attempts.update(kept.tried)
        kept.producers = execute(
            "SELECT topic_id, partition, producer_id, epoch, last_sequence, time_us FROM producers"
        ).fetchall()
        return kept

    def put_topic(self, topic: TopicState) -> None:
        """Keep a topic as it is when the next round begins."""
        self._put(
            ("topic", topic.topic_id),
            lambda: [
                (
                    "INSERT OR REPLACE INTO topics VALUES (?, ?, ?, ?)",
                    (topic.topic_id, topic.name, json.dumps(_plain_config(topic.config)), topic.created_us),
                ),
                (
                    "INSERT INTO last_topic VALUES (0, ?) "
                    "ON CONFLICT DO UPDATE SET topic_id = max(topic_id, excluded.topic_id)",
                    (topic.topic_id,),
                ),
            ],
        )

    def delete_topic(self, topic: TopicState) -> None:
        """Forget a topic and all that belongs to it."""
        tables = ("topics", "cursors", "starts", "producers", "attempts")
        statements: list[_Statement] = [
            (f"DELETE FROM {table} WHERE topic_id = ?", (topic.topic_id,))  # noqa: S608  (a constant)
            for table in tables
        ]
        self._put(("delete topic", topic.topic_id), lambda: statements)

    def put_group(self, group: GroupState) -> None:
        """Keep a group's settings."""
        row = (group.name, json.dumps(asdict(group.settings), default=lambda value: value.value))
        self._put(("group", group.name), lambda: [("INSERT OR REPLACE INTO subscription_groups VALUES (?, ?)", row)])

    def delete_group(self, group: GroupState) -> None:
        """Forget a group and where it stood."""
        statements: list[_Statement] = [
            ("DELETE FROM subscription_groups WHERE name = ?", (group.name,)),
            ("DELETE FROM cursors WHERE group_name = ?", (group.name,)),
            ("DELETE FROM attempts WHERE group_name = ?", (group.name,)),
        ]
        self._put(("delete group", group.name), lambda: statements)

    def put_cursor(self, cursor: Cursor) -> None:
        """Keep where a group stands when the next round begins, unless its topic goes with the process."""
        if cursor.partition.topic.in_memory:
            return
        group, topic_id, number = cursor.group.name, cursor.partition.topic.topic_id, cursor.partition.number

        def statements() -> list[_Statement]:
            settled = b"".join(struct.pack("<QQ", first, end) for first, end in cursor.settled)
            changes: list[_Statement] = [
                (
                    "INSERT OR REPLACE INTO cursors VALUES (?, ?, ?, ?, ?, ?)",
                    (group, topic_id, number, cursor.acked_through, settled, cursor.next_offset),
                )
            ]
            if (group, topic_id, number) in self._with_attempts:
                where = (group, topic_id, number, cursor.acked_through)
                changes.append((f"{_DELETE_ATTEMPTS} AND end_offset <= ?", where))
            return changes

        self._put(("cursor", group, topic_id, number), statements)

    def put_start(self, partition: Partition) -> None:
        """Keep where a partition begins, and how far its producers are: the log may not be able to say so any more."""
        if partition.topic.in_memory:
            return
        topic_id, number = partition.topic.topic_id, partition.number

        def statements() -> list[_Statement]:
            changes: list[_Statement] = [
                ("INSERT OR REPLACE INTO starts VALUES (?, ?, ?)", (topic_id, number, partition.start_offset)),
                ("DELETE FROM producers WHERE topic_id = ? AND partition = ?", (topic_id, number)),
            ]
            for producer_id, state in partition.producers:
                row = (topic_id, number, producer_id, state.epoch, state.last_sequence, state.last_time_us)
                changes.append(("INSERT INTO producers VALUES (?, ?, ?, ?, ?, ?)", row))
            return changes

        self._put(("start", topic_id, number), statements)

    def put_attempts(self, piece: Piece) -> None:
        """Keep how often a piece was handed out, as it is now."""
        cursor = piece.cursor
        if cursor.partition.topic.in_memory:
            return
        place = (cursor.group.name, cursor.partition.topic.topic_id, cursor.partition.number)
        self._with_attempts.add(place)
        for first, end in piece.runs:
            row = (*place, first, end, piece.attempts, piece.first_time_us, piece.last_time_us)
            self._put(("attempts", *place, first), partial(_insert_attempts, row))

    def forget_attempts(self, cursor: Cursor) -> None:
        """Forget how often anything of a partition was handed out to a group."""
        place = (cursor.group.name, cursor.partition.topic.topic_id, cursor.partition.number)
        if place in self._with_attempts:
            self._put(("forget attempts", *place), lambda: [(_DELETE_ATTEMPTS, place)])

    def request_commit(self) -> None:
        """See to it that everything so far becomes durable before long.

        Raises:
            ClosedError: if the database is closed.
        """
        if self._changes:
            self._commit.request()

    async def commit(self) -> None:
        """Wait until everything so far is durable.

        Raises:
            FullError: if the disk is full. What was asked for stands, and is written with the next commit that can be.
            ClosedError: if the database has failed.
        """
        if self._changes:
            await self._commit.commit()
        else:
            await self._commit.settle()

    async def stop(self) -> None:
        """Commit what is left and close the database."""
        if self._changes:
            self._commit.request()
        await self._commit.close()
        self.close()

    def _put(self, key: _Key, statements: Callable[[], list[_Statement]]) -> None:
        # Taken out first, so that changes happen in the order in which they were last asked for.
        self._changes.pop(key, None)
        self._changes[key] = _Change(statements)

    def _gather(self) -> _Round:
        changes, self._changes = self._changes, {}
        return _Round(changes, [one for change in changes.values() for one in change.statements()])

    def _write(self, work: _Round) -> None:
        if not work.statements:
            return
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            for sql, values in work.statements:
                execute(sql, values)
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise

    def _finish(self, work: _Round, result: BaseException | None) -> BaseException | None:
        if result is None:
            return None
        if isinstance(result, sqlite3.OperationalError) and result.sqlite_errorcode == sqlite3.SQLITE_FULL:
            self._changes = {**work.changes, **self._changes}
            return FullError("the disk is full: positions cannot be stored", retry_after_s=RETRY_AFTER_S)
        self._failed(result)
        return ClosedError(f"the catalogue has failed: {result}")


def _insert_attempts(row: tuple[Any, ...]) -> list[_Statement]:
    return [("INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)]


def _plain_config(config: TopicConfig) -> dict[str, Any]:
    plain = asdict(config)
    plain["storage"] = config.storage.value if config.storage is not None else None
    return plain


def _config_of(plain: dict[str, Any]) -> TopicConfig:
    return TopicConfig(
        name=plain["name"],
        partitions=plain["partitions"],
        storage=Storage(plain["storage"]),
        retention=Retention(**plain["retention"]),
        limits=TopicLimits(**plain["limits"]),
    )


def _settings_of(plain: dict[str, Any]) -> GroupSettings:
    plain = {**plain, "mode": Mode(plain["mode"])}
    for name in ("topics", "backoff_s"):
        plain[name] = tuple(plain[name])
    return GroupSettings(**plain)
