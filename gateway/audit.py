"""The audit log: every change that was asked for, who asked, and what became of it.

A line of JSON is on the disk before the change is asked of the queue, and another once its outcome is known; a change
whose first line cannot be written is not made. Both lines have the same ``id``. The file is turned over at a size, so
that it is bounded; the newest changes are also kept in memory, for those who look.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Literal, TypeVar
from uuid import uuid4

import grpc
import orjson
from starlette.exceptions import HTTPException

from gateway.problems import ParameterError
from telemetry.runtime.calls import UpstreamError
from telemetry.runtime.errors import StartupError

log = logging.getLogger(__name__)

FILE_BYTES_MAX: Final = 16 << 20
"""The file is turned over when it is this large."""
FILES_MAX: Final = 5
"""Files kept: ``PATH``, and ``PATH.1`` to ``PATH.4``, of which the last is the oldest."""
ENTRIES_MAX: Final = 1_000
"""Changes kept in memory."""
_TAIL_BYTES: Final = 4 << 20
_VALUES_SHOWN: Final = 100

Outcome = Literal["begun", "done", "refused", "failed", "cancelled", "unknown"]
_UNKNOWN: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})
"""Statuses that leave open whether the queue did it."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks for a change.

    Attributes:
        peer: the address it came from.
        who: the name of the token shown; empty without tokens.
        request_id: what the request is called in logs.
    """

    peer: str
    who: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One change; the fields are those of a line."""

    id: str
    time: str
    peer: str
    who: str
    request_id: str
    action: str
    target: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    outcome: Outcome = "begun"
    detail: str = ""
    finished_at: str | None = None


class AuditLog:
    """Writes changes down. Used from one event loop; the disk is written in a thread of its own."""

    def __init__(self, path: Path | None, file_bytes_max: int = FILE_BYTES_MAX) -> None:
        """Write to ``path``, or only to the process's log and memory."""
        self._path = path
        self._file_bytes_max = file_bytes_max
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._writer = ThreadPoolExecutor(1, "audit-log")
        self._changing: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Read the newest changes of an earlier run, and see that the file can be written.

        Raises:
            StartupError: if it cannot.
        """
        if self._path is None:
            return
        try:
            lines = await self._in_thread(self._open)
        except OSError as error:
            raise StartupError(f"--audit-log {self._path}: {error.strerror or error}") from None
        for line in lines:
            with contextlib.suppress(ValueError, TypeError):
                self._keep(Entry(**orjson.loads(line)))
        for entry in [each for each in self._entries.values() if each.outcome == "begun"]:
            self._entries[entry.id] = replace(entry, outcome="unknown", detail="the gateway ended before it was known")

    async def close(self) -> None:
        """Wait for changes under way, and for the disk."""
        while self._changing:
            await asyncio.wait(self._changing)
        await asyncio.to_thread(self._writer.shutdown)

    def newest(self, limit: int) -> Iterator[Entry]:
        """The newest changes, newest first."""
        for _, entry in zip(range(limit), reversed(self._entries.values()), strict=False):
            yield entry

    async def change(
        self,
        actor: Actor,
        action: str,
        target: str,
        parameters: Mapping[str, Any],
        do: Callable[[], Awaitable[_Result]],
    ) -> _Result:
        """Make a change, and write down that and how. Once begun it is not cancelled with the one who awaits it.

        Raises:
            HTTPException: 503 if it cannot be written down; then it is not made.
        """

        async def make() -> _Result:
            entry = await self.begin(actor, action, target, parameters)
            try:
                result = await do()
            except BaseException as error:
                await self.end(entry, outcome_of(error), describe(error))
                raise
            await self.end(entry, "done")
            return result

        making = asyncio.create_task(make(), name=f"change {action} {target}")
        self._changing.add(making)
        making.add_done_callback(self._made)
        return await asyncio.shield(making)

    def _made(self, making: asyncio.Task[Any]) -> None:
        self._changing.discard(making)
        if not making.cancelled():
            making.exception()  # whoever awaited it may have gone

    async def begin(self, actor: Actor, action: str, target: str, parameters: Mapping[str, Any]) -> Entry:
        """Write down that a change begins.

        Raises:
            HTTPException: 503 if the file cannot be written.
        """
        entry = Entry(
            uuid4().hex, _now(), actor.peer, actor.who, actor.request_id, action, target, _shortened(parameters)
        )
        try:
            await self._write(entry)
        except OSError as error:
            log.error("the audit log cannot be written", extra={"error": str(error)})
            detail = "the audit log cannot be written, so nothing is changed; the log of the gateway says why"
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, detail) from None
        self._keep(entry)
        return entry

    async def end(self, entry: Entry, outcome: Outcome, detail: str = "") -> None:
        """Write down what became of a change."""
        ended = replace(entry, outcome=outcome, detail=detail, finished_at=_now())
        self._keep(ended)
        try:
            await self._write(ended)
        except OSError as error:
            log.error("the audit log cannot be written", extra={"error": str(error), "entry": asdict(ended)})

    def _keep(self, entry: Entry) -> None:
        self._entries[entry.id] = entry
        while len(self._entries) > ENTRIES_MAX:
            self._entries.popitem(last=False)

    async def _write(self, entry: Entry) -> None:
        content = asdict(entry)
        log.info("change", extra={"audit": content})
        if self._path is not None:
            await self._in_thread(lambda: self._append(orjson.dumps(content) + b"\n"))

    async def _in_thread(self, do: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._writer, do)

    # In the thread

    def _open(self) -> list[bytes]:
        assert self._path is not None
        self._path.parent.mkdir(parents=True, exist_ok=True)
        end_torn_line(self._path)
        return [line for path in (self._turned_over(1), self._path) for line in _tail(path)]

    def _append(self, line: bytes) -> None:
        assert self._path is not None
        with self._path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
            full = file.tell() >= self._file_bytes_max
        if full:
            for number in range(FILES_MAX - 1, 0, -1):
                older = self._path if number == 1 else self._turned_over(number - 1)
                with contextlib.suppress(FileNotFoundError):
                    older.replace(self._turned_over(number))

    def _turned_over(self, number: int) -> Path:
        assert self._path is not None
        return self._path.with_name(f"{self._path.name}.{number}")


def outcome_of(error: BaseException) -> Outcome:
    """What an error says of the change that it ended."""
    if isinstance(error, UpstreamError):
        return "unknown" if error.code in _UNKNOWN else "refused"
    if isinstance(error, ParameterError | HTTPException):
        return "refused"
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "failed"


def describe(error: BaseException) -> str:
    """An error in a sentence."""
    if isinstance(error, UpstreamError):
        return error.reason
    return str(getattr(error, "detail", "") or error)


def end_torn_line(path: Path) -> None:
    """See that a file ends with a whole line, so that the next is one too; makes the file if there is none."""
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")


def _tail(path: Path) -> list[bytes]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def _shortened(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with long lists cut, so that a line stays a line."""
    shown = {}
    for name, value in parameters.items():
        long = isinstance(value, list) and len(value) > _VALUES_SHOWN
        shown[name] = [*value[:_VALUES_SHOWN], f"and {len(value) - _VALUES_SHOWN} more"] if long else value
    return shown


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
