"""Reads the quarantine where it lies, while a collector may be at work, and notes which lines were published again."""

from __future__ import annotations

import base64
import binascii
import fcntl
import math
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import google_crc32c
import orjson

from telemetry.runtime.errors import DataDirectoryError
from telemetry.storage import files
from telemetry.storage.quarantine import NAME, RETRIED, Extent, closed_files, closed_name, open_vouched

_CONTENTS: Final = frozenset({"raw", "raw_base64", "header", "attributes"})


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the quarantine.

    Attributes:
        id: its file's number and where in it the line begins, such as ``0:4711``. It never changes.
        checksum: of the line, CRC-32C.
        size: bytes of the line.
        fields: what it says: ``reason``, ``source``, ``topic``, ``partition``, ``offset``, ``published``, and either
            ``line``, ``raw`` and ``header`` of a row or ``content_type`` and ``raw`` or ``raw_base64`` of a message.
    """

    id: str
    checksum: int
    size: int
    fields: Mapping[str, Any]

    @property
    def reason(self) -> str:
        """Why it could not be stored."""
        return str(self.fields.get("reason", ""))

    @property
    def source(self) -> str:
        """The file that it is from, as far as anybody knows."""
        return str(self.fields.get("source", ""))

    @property
    def place(self) -> str:
        """Where it came from: a line of a file, or an offset of a partition."""
        if self.is_row:
            return f"{self.source}:{self.fields['line']}"
        return f"{self.fields.get('topic', '?')}/{self.fields.get('partition', '?')}@{self.fields.get('offset', '?')}"

    @property
    def published(self) -> datetime | None:
        """When the queue got it."""
        with suppress(ValueError, TypeError):
            return datetime.fromisoformat(self.fields["published"]) if "published" in self.fields else None
        return None

    @property
    def is_row(self) -> bool:
        """Whether it is a row that a streamer could not read; otherwise it is a message, or some records of one."""
        return isinstance(self.fields.get("line"), int)

    def outline(self) -> Entry:
        """The same without what it is about."""
        fields = {name: value for name, value in self.fields.items() if name not in _CONTENTS}
        return replace(self, fields=fields)

    @property
    def data(self) -> bytes:
        """What it is about, as it was.

        Raises:
            ValueError: somebody has changed the line.
        """
        if "raw_base64" in self.fields:
            try:
                return base64.b64decode(self.fields["raw_base64"], validate=True)
            except (TypeError, binascii.Error) as error:
                raise ValueError(f"raw_base64 cannot be read: {error}") from None
        if not isinstance(self.fields.get("raw"), str):
            raise ValueError("there is neither raw nor raw_base64")
        return str(self.fields["raw"]).encode()


def entries(directory: Path) -> Iterator[Entry]:
    """Yield what is committed, oldest first. Files that go meanwhile are passed over.

    Raises:
        DataDirectoryError: there is no quarantine, or it cannot be read.
    """
    extent = _extent(directory)
    try:
        # Opened first: by the time that the others are read it may have gone.
        newest = open_vouched(directory, extent)
        with newest or nullcontext():
            for number, _ in sorted(closed_files(directory)):
                if number < extent.closed:
                    with suppress(FileNotFoundError), (directory / closed_name(number)).open("rb") as file:
                        yield from _entries_of(file, number)
            if newest:
                yield from _entries_of(newest, extent.closed, extent.length)
    except OSError as error:
        raise DataDirectoryError(f"{error.filename or directory}: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class Retry:
    """That a line was published again.

    Attributes:
        time: when.
        to: where to, such as ``telemetry/3@4711``.
    """

    time: str
    to: str


class Retries:
    """Which lines were published again. Kept beside the quarantine, a line each."""

    def __init__(self, directory: Path) -> None:
        """Read them.

        Raises:
            DataDirectoryError: they cannot be read.
        """
        self._directory: Final = directory
        self._path: Final = directory / RETRIED
        self._known: dict[tuple[str, int], Retry] = {}
        self._read()

    def find(self, entry: Entry) -> Retry | None:
        """When and where to this one was published again, if it was."""
        return self._known.get((entry.id, entry.checksum))

    @contextmanager
    def alone(self) -> Iterator[Self]:
        """Keep others from publishing the same again, and know what they did.

        Raises:
            DataDirectoryError: somebody else is at it, or the directory cannot be written.
        """
        with ExitStack() as held:
            try:
                held.callback(os.close, self._locked())
                self._read()
                self._forget_old(held)
            except BlockingIOError:
                raise DataDirectoryError(f"{self._path} is locked: another retry is at work") from None
            except OSError as error:
                raise DataDirectoryError(f"{error.filename or self._path}: {error.strerror}") from None
            yield self

    def add(self, done: Sequence[tuple[Entry, Retry]]) -> None:
        """Note what was published again.

        Raises:
            DataDirectoryError: it cannot be written.
        """
        try:
            with self._path.open("a+b") as file:
                if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
                    file.write(b"\n")
                file.write(b"".join(_note(entry.id, entry.checksum, retry) for entry, retry in done))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DataDirectoryError(f"{self._path}: {error.strerror}") from None
        self._known |= {(entry.id, entry.checksum): retry for entry, retry in done}

    def _locked(self) -> int:
        """The file, locked; it is the one that has the name."""
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(descriptor), self._path.stat()):
                        return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _forget_old(self, held: ExitStack) -> None:
        """Forget lines of files that have gone; whoever calls this is alone, and stays it with what is ``held``."""
        oldest = min((number for number, _ in closed_files(self._directory)), default=None)
        kept = {key: note for key, note in self._known.items() if oldest is None or _file_number(key[0]) >= oldest}
        if len(kept) == len(self._known):
            return
        fresh = self._path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        held.callback(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        files.write_at(fresh, 0, b"".join(_note(*key, note) for key, note in kept.items()))
        os.fsync(descriptor)
        fresh.replace(self._path)
        self._known = kept

    def _read(self) -> None:
        try:
            lines = self._path.read_bytes().splitlines() if self._path.exists() else []
        except OSError as error:
            raise DataDirectoryError(f"{self._path}: {error.strerror}") from None
        for line in lines:
            # A line that was cut short by a crash says nothing; what it was about may be published once more.
            with suppress(ValueError, KeyError, TypeError):
                note = orjson.loads(line)
                self._known[str(note["id"]), int(note["crc32c"])] = Retry(note["time"], note["to"])


def _note(name: str, checksum: int, retry: Retry) -> bytes:
    return orjson.dumps({"id": name, "crc32c": checksum, "time": retry.time, "to": retry.to}) + b"\n"


def _file_number(name: str) -> int:
    number = name.partition(":")[0]
    return int(number) if number.isdecimal() else -1


def _extent(directory: Path) -> Extent:
    """What the checkpoint vouches for; everything there is, if it cannot be asked."""
    database = directory / "checkpoint.sqlite"
    if not database.exists():
        raise DataDirectoryError(f"{directory} is no data directory of a collector: there is no {database.name}")
    with suppress(sqlite3.Error):
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            return Extent(*connection.execute("SELECT length, closed FROM quarantine").fetchone())
    growing = directory / NAME
    closed = max((number for number, _ in closed_files(directory)), default=-1) + 1
    return Extent(growing.stat().st_size if growing.exists() else 0, closed)


def _entries_of(file: BinaryIO, number: int, length: float = math.inf) -> Iterator[Entry]:
    place = 0
    for line in file:
        if place + len(line) > length:
            return
        yield _entry(f"{number}:{place}", line)
        place += len(line)


def _entry(name: str, line: bytes) -> Entry:
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError:
        fields = None
    if not isinstance(fields, dict):
        fields = {"reason": "this line of the quarantine is damaged", "raw": line.decode("utf-8", "backslashreplace")}
    return Entry(name, google_crc32c.value(line), len(line), fields)
