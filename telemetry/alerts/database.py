"""What outlives the process: alerts that are active, silences, the history, and how far each webhook has been told."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import orjson

from telemetry.alerts.alert import Alert, Event, State
from telemetry.alerts.matching import Comparison, Matcher
from telemetry.alerts.silences import Silence

HISTORY_EVENTS_MAX: Final = 100_000
"""Most events that are kept."""

HISTORY_US_MAX: Final = 90 * 86_400 * 1_000_000
"""How long events are kept, in microseconds."""

_FORMAT: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS alerts (fingerprint TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS silences (silence_id TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY, at_us INTEGER NOT NULL, alert TEXT NOT NULL, gpu TEXT NOT NULL,
    fingerprint TEXT NOT NULL, silenced INTEGER NOT NULL, content TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_by_time ON events (at_us);
CREATE INDEX IF NOT EXISTS events_by_alert ON events (alert, number);
CREATE INDEX IF NOT EXISTS events_by_gpu ON events (gpu, number);
CREATE INDEX IF NOT EXISTS events_by_fingerprint ON events (fingerprint, number);
CREATE TABLE IF NOT EXISTS cursors (name TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
"""


class DatabaseError(Exception):
    """It cannot be opened, read or written; the text says what and why."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are asked for; ``None`` and empty mean any.

    Attributes:
        start_us: from then on.
        end_us: before then.
        alert: the rule's name.
        gpu: the GPU's identity.
        fingerprint: the alert.
        before: only events with lower numbers.
    """

    start_us: int | None = None
    end_us: int | None = None
    alert: str = ""
    gpu: str = ""
    fingerprint: str = ""
    before: int | None = None


@dataclass(slots=True)
class Changes:
    """What is to be written in one transaction."""

    alerts: dict[str, Alert | None] = field(default_factory=dict)
    """By fingerprint; ``None`` for one that is gone."""
    silences: dict[str, Silence | None] = field(default_factory=dict)
    """By identifier; ``None`` for one that is gone."""
    events: list[Event] = field(default_factory=list)
    cursors: dict[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.alerts or self.silences or self.events or self.cursors)


class AlertDatabase:
    """An SQLite database. :meth:`save` is for one thread at a time, the rest for any."""

    def __init__(self, path: Path) -> None:
        """Open or make it.

        Raises:
            DatabaseError: if it cannot be opened or another version wrote it.
        """
        self._path = path
        try:
            with ExitStack() as opened:
                self._writer = _connect(path, opened)
                version: int = self._writer.execute("PRAGMA user_version").fetchone()[0]
                if version not in (0, _FORMAT):
                    raise DatabaseError(f"{path} has format {version}; this version reads {_FORMAT}")
                self._writer.executescript(_SCHEMA)
                self._writer.execute(f"PRAGMA user_version = {_FORMAT}")
                self._reader = _connect(path, opened)
                opened.pop_all()
        except sqlite3.Error as error:
            raise DatabaseError(f"{path} cannot be used for alerts: {error}") from None
        self._reading = threading.Lock()

    def alerts(self) -> list[Alert]:
        """The alerts that were active or lately resolved."""
        return [_alert(orjson.loads(content)) for (content,) in self._read("SELECT content FROM alerts")]

    def silences(self) -> list[Silence]:
        """All silences."""
        return [_silence(orjson.loads(content)) for (content,) in self._read("SELECT content FROM silences")]

    def cursors(self) -> dict[str, int]:
        """By name, the number of the last event that a receiver has been told."""
        return dict(self._read("SELECT name, number FROM cursors"))

    def last_number(self) -> int:
        """The highest number of an event; 0 when there is none."""
        rows = self._read(
            "SELECT max(number) FROM events UNION SELECT max(number) FROM cursors WHERE name <> 'evaluated'"
        )
        return max((number or 0 for (number,) in rows), default=0)

    def events_after(self, number: int, most: int) -> list[Event]:
        """The newest ``most`` events above a number that are not silenced, oldest first."""
        rows = self._read(
            "SELECT number, at_us, silenced, content FROM events WHERE number > ? AND NOT silenced"
            " ORDER BY number DESC LIMIT ?",
            (number, most),
        )
        return [_event(row) for row in reversed(rows)]

    def history(self, wanted: EventFilter, most: int) -> list[Event]:
        """At most ``most`` events, newest first.

        Raises:
            DatabaseError: they cannot be read.
        """
        conditions = {
            "at_us >= ?": wanted.start_us,
            "at_us < ?": wanted.end_us,
            "alert = ?": wanted.alert or None,
            "gpu = ?": wanted.gpu or None,
            "fingerprint = ?": wanted.fingerprint or None,
            "number < ?": wanted.before,
        }
        asked = {text: value for text, value in conditions.items() if value is not None}
        where = " AND ".join(asked) or "TRUE"
        rows = self._read(
            f"SELECT number, at_us, silenced, content FROM events WHERE {where} ORDER BY number DESC LIMIT ?",  # noqa: S608
            (*asked.values(), most),
        )
        return [_event(row) for row in rows]

    def save(self, changes: Changes, now_us: int) -> None:
        """Write all of it in one transaction, durably, and drop the history that is too old or too much.

        Raises:
            DatabaseError: nothing was written.
        """
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                alerts = {key: _text(each) if each else None for key, each in changes.alerts.items()}
                self._write("alerts", "fingerprint", alerts)
                silences = {key: _silence_text(each) if each else None for key, each in changes.silences.items()}
                self._write("silences", "silence_id", silences)
                self._writer.executemany(
                    "INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", map(_event_row, changes.events)
                )
                self._writer.executemany("INSERT OR REPLACE INTO cursors VALUES (?, ?)", changes.cursors.items())
                if changes.events:
                    self._writer.execute(
                        "DELETE FROM events WHERE number <= ? OR at_us < ?",
                        (changes.events[-1].number - HISTORY_EVENTS_MAX, now_us - HISTORY_US_MAX),
                    )
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise DatabaseError(f"{self._path} cannot be written: {error}") from None

    def close(self) -> None:
        """Close the database."""
        with self._reading:
            self._reader.close()
        self._writer.close()

    def _write(self, table: str, key: str, contents: Mapping[str, str | None]) -> None:
        """Insert, replace and, for ``None``, delete rows. The names are ours."""
        kept = [(name, content) for name, content in contents.items() if content is not None]
        gone = [(name,) for name, content in contents.items() if content is None]
        self._writer.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", kept)  # noqa: S608
        self._writer.executemany(f"DELETE FROM {table} WHERE {key} = ?", gone)  # noqa: S608

    def _read(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        try:
            with self._reading:
                return self._reader.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise DatabaseError(f"{self._path} cannot be read: {error}") from None


def _connect(path: Path, opened: ExitStack) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    opened.callback(connection.close)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _text(alert: Alert) -> str:
    content = {each.name: getattr(alert, each.name) for each in fields(alert)}
    # JSON has no NaN and no infinity.
    return orjson.dumps(content | {"state": alert.state.value, "value": repr(alert.value)}, default=dict).decode()


def _alert(content: Mapping[str, Any]) -> Alert:
    changed = {
        "state": State(content["state"]),
        "value": float(content["value"]),
        "silenced_by": tuple(content["silenced_by"]),
    }
    return Alert(**{**content, **changed})


def _silence_text(silence: Silence) -> str:
    content = {each.name: getattr(silence, each.name) for each in fields(silence)}
    matchers = [(each.name, each.comparison.value, each.value) for each in silence.matchers]
    return orjson.dumps(content | {"matchers": matchers}).decode()


def _silence(content: Mapping[str, Any]) -> Silence:
    matchers = tuple(Matcher(name, Comparison(sign), value) for name, sign, value in content["matchers"])
    return Silence(**{**content, "matchers": matchers})


def _event_row(event: Event) -> tuple[int, int, str, str, str, bool, str]:
    alert = event.alert
    return (event.number, event.at_us, alert.name, alert.gpu, alert.fingerprint, event.silenced, _text(alert))


def _event(row: tuple[int, int, int, str]) -> Event:
    number, at_us, silenced, content = row
    return Event(at_us, _alert(orjson.loads(content)), bool(silenced), number)
