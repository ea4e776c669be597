"""`telemetry publish` from its input to its receipts: what to publish, and what became of each message."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import click

from telemetry.console.lines import LineTooLongError, lines_of_stdin
from telemetry.console.progress import ProgressLine
from telemetry.console.publishing import Label, Outcome, publish_all
from telemetry.console.session import Failure, Session, notice, to_json
from telemetry.console.tables import number, plural
from telemetry.queue.client import Publisher, QueueAdmin, QueueNotFoundError, Receipt, RefusedError
from telemetry.runtime.logs import configure_logging

WINDOW_BYTES: Final = 2 << 20
"""Bytes accepted and not yet confirmed: little, so that no message waits long for its turn."""
REFUSALS_MAX: Final = 10
"""Refused messages that are told one by one."""


async def publish_and_report(
    session: Session, admin: QueueAdmin, topic: str, data: Sequence[str], files: Sequence[Path], label: Label
) -> None:
    """Publish arguments and files, or lines of standard input when there are none, and print receipts.

    Raises:
        Failure: if a message was refused, or a file or line cannot be read.
        QueueClientError: if the queue is not there.
    """
    try:
        await admin.topic(topic)
    except QueueNotFoundError:
        notice(f"there is no topic {topic} yet; it is made with the queue's defaults")
    configure_logging("publish", "warning")
    given = bool(data or files)
    if not given and sys.stdin.isatty():
        notice("each line is a message; Ctrl-D ends")
    progress = ProgressLine()
    receipts = Receipts(session, topic, progress, silent=not given and sys.stdout.isatty())
    try:
        with progress:
            async with Publisher(
                session.address,
                delivery_timeout_s=session.timeout_s,
                window_bytes=WINDOW_BYTES,
                credentials=session.credentials,
            ) as publisher:
                source = _given(data, files) if given else lines_of_stdin()
                await publish_all(publisher, topic, source, label, receipts.take)
    except (OSError, LineTooLongError) as error:
        raise Failure(str(error)) from None
    finally:
        if not given:
            notice(receipts.summary())
    if receipts.broken_pipe:
        raise receipts.broken_pipe
    if receipts.refused:
        raise Failure(receipts.summary())


class Receipts:
    """Prints what became of each message, and counts."""

    def __init__(self, session: Session, topic: str, progress: ProgressLine, *, silent: bool) -> None:
        """With ``silent``, what is stored is only counted: nobody reads a million lines on a terminal."""
        self._session = session
        self._topic = topic
        self._progress = progress
        self._silent = silent and not session.as_json
        self.stored = 0
        self.refused = 0
        self.unknown = 0
        self.broken_pipe: BrokenPipeError | None = None
        """Set when nobody reads the receipts any more; that stops no message."""

    def take(self, index: int, outcome: Outcome) -> None:
        """Take the outcome of the message with this number, from 0."""
        if isinstance(outcome, Receipt):
            self.stored += 1
            if not self._silent:
                self._print(self._receipt(outcome))
        elif isinstance(outcome, RefusedError):
            self.refused += 1
            if self._session.as_json:
                self._print(to_json({"message": index, "code": outcome.code, "error": outcome.message}))
            elif self.refused <= REFUSALS_MAX:
                self._progress.wipe()
                notice(f"message {number(index + 1)}: {outcome.message}")
        else:
            self.unknown += 1
        self._progress.update(self.summary)

    def summary(self) -> str:
        """What has become of the messages so far."""
        parts = [f"{plural(self.stored, 'message')} published to {self._topic}"]
        if self.refused:
            parts.append(f"{number(self.refused)} refused")
        if self.unknown:
            parts.append(f"{number(self.unknown)} not confirmed, which may be stored or not")
        return ", ".join(parts)

    def _print(self, line: str) -> None:
        if self.broken_pipe is None:
            try:
                click.echo(line)
            except BrokenPipeError as error:
                self.broken_pipe = error

    def _receipt(self, receipt: Receipt) -> str:
        if self._session.as_json:
            return to_json(
                {
                    "topic": self._topic,
                    "partition": receipt.partition,
                    "offset": receipt.base_offset,
                    "duplicate": receipt.duplicate,
                }
            )
        offset = "?" if receipt.base_offset is None else receipt.base_offset
        return f"{self._topic}/{receipt.partition}@{offset}"


async def _given(data: Sequence[str], files: Sequence[Path]) -> AsyncIterator[list[bytes]]:
    # What the shell passes need not be UTF-8; Python keeps such bytes as surrogates.
    yield [text.encode(errors="surrogateescape") for text in data]
    for file in files:
        yield [file.read_bytes()]
