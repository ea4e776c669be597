"""The quarantine as people see it: which entries are meant, what they look like, and what a retry made of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Final, Protocol

from telemetry.console.payloads import payload_json, payload_lines
from telemetry.console.progress import ProgressLine
from telemetry.console.session import Session
from telemetry.console.tables import instant, number, printable, properties, section, table
from telemetry.queue.client import InvalidRequestError, OutgoingMessage, Publisher
from telemetry.queue.shapes import Json
from telemetry.storage.quarantined import Entry, Retries, Retry, entries
from telemetry.topics import DATA, DATA_TOPIC
from telemetry.v1 import queue_pb2

TOGETHER: Final = 1000
TOGETHER_BYTES: Final = 16 << 20
"""Entries that are published before any of them is noted as retried, and bytes of them."""

TROUBLES_MAX: Final = 1000
"""Entries that cannot be published of which is said why."""

SOURCE_ATTRIBUTE: Final = "source"
CONTENT_TYPE_ATTRIBUTE: Final = "content-type"
RETRIED_ATTRIBUTE: Final = "quarantine-retried-from"
"""The message attribute that says where a message was first, ``topic/partition@offset``."""

_LISTED_BYTES: Final = 4 << 10
"""What a larger entry is about does not stay in memory for a list."""

_REASON_MAX: Final = 80
"""Characters of a reason in the table."""
_TROUBLES_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries are meant: all of these conditions hold.

    Attributes:
        reason: part of the reason, in upper or lower case.
        source: part of the source.
        since: published then or later.
    """

    reason: str = ""
    source: str = ""
    since: datetime | None = None

    def holds(self, entry: Entry) -> bool:
        """Whether an entry is meant."""
        return (
            self.reason.casefold() in entry.reason.casefold()
            and self.source in entry.source
            and (self.since is None or (entry.published is not None and entry.published >= self.since))
        )


def newest(directory: Path, wanted: Wanted, limit: int) -> tuple[list[Entry], int]:
    """The newest entries that are meant, the newest first, to be listed, and how many there are in all.

    Raises:
        DataDirectoryError: the quarantine cannot be read.
    """
    found: deque[Entry] = deque(maxlen=limit)
    count = 0
    for entry in entries(directory):
        if wanted.holds(entry):
            found.append(entry.outline() if entry.size > _LISTED_BYTES else entry)
            count += 1
    return list(reversed(found)), count


def entries_json(found: Sequence[Entry], count: int, retries: Retries) -> Json:
    """Entries without what they hold."""
    return {"entries": [_about(entry, retries) for entry in found], "total": count}


def entries_table(found: Sequence[Entry], count: int, retries: Retries) -> Iterator[str]:
    """A line an entry."""
    if not found:
        yield "there is nothing of that kind in quarantine"
        return
    columns = ("ID", "PUBLISHED", "FROM", "RETRIED", "REASON")
    yield from table(columns, [_row(entry, retries.find(entry)) for entry in found])
    if count > len(found):
        yield f"the newest {number(len(found))} of {number(count)}; --limit shows more"


def entry_json(entry: Entry, retries: Retries) -> Json:
    """All of an entry."""
    about = _about(entry, retries)
    if entry.is_row:
        return about | {name: entry.fields[name] for name in ("header", "raw", "truncated") if name in entry.fields}
    more = {name: entry.fields[name] for name in ("attributes", "ordering_key") if name in entry.fields}
    return about | more | payload_json(_message(entry))


def entry_lines(entry: Entry, retries: Retries) -> Iterator[str]:
    """All of an entry, for people."""
    retry = retries.find(entry)
    origin = f"{entry.fields.get('topic', '?')}/{entry.fields.get('partition', '?')}@{entry.fields.get('offset', '?')}"
    pairs = [
        ("id", entry.id),
        ("reason", printable(entry.reason)),
        ("source", printable(entry.source) or "-"),
        *([("line", number(entry.fields["line"]))] if entry.is_row else []),
        *([("field", printable(str(entry.fields["field"])))] if entry.fields.get("field") else []),
        ("message", printable(origin)),
        ("published", instant(entry.published)),
        ("retried", f"{retry.time} as {retry.to}" if retry else "no"),
    ]
    yield from properties(pairs)
    if entry.is_row:
        texts = [("header", entry.fields.get("header")), ("row", entry.fields.get("raw"))]
        yield from section(
            "Row", properties([(name, printable(str(text))) for name, text in texts if text is not None])
        )
    else:
        if attributes := _attributes(entry):
            pairs = [(printable(name), printable(value)) for name, value in sorted(attributes.items())]
            yield from section("Attributes", properties(pairs))
        yield from section("Message", payload_lines(_message(entry)))


@dataclass(frozen=True, slots=True)
class RowsAgain:
    """What reading rows again made of them.

    Attributes:
        messages: partition and messages of those that can be read now.
        wrong: the lines of the others, and why.
    """

    messages: Sequence[tuple[int, Sequence[OutgoingMessage]]]
    wrong: Mapping[int, str]


class ReadRows(Protocol):
    """Reads rows of one source again: line to text, the header, and the partitions of the topic for records."""

    def __call__(self, rows: Mapping[int, str], source: str, header: str, partitions: int) -> RowsAgain: ...


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why an entry can still not be published."""

    id: str
    place: str
    reason: str


@dataclass(slots=True)
class Outcome:
    """What a retry came to.

    Attributes:
        retried: entries that were published again.
        earlier: entries that had been retried before, and were left alone.
        wrong: entries that can still not be published.
        troubles: why, for the first of them.
    """

    retried: int = 0
    earlier: int = 0
    wrong: int = 0
    troubles: list[Trouble] = field(default_factory=list)

    def add_trouble(self, entry: Entry, reason: str) -> None:
        """Count an entry that cannot be published."""
        self.wrong += 1
        if len(self.troubles) < TROUBLES_MAX:
            self.troubles.append(Trouble(entry.id, entry.place, reason))


async def retry(
    session: Session, directory: Path, chosen: Iterable[Entry], *, again: bool, read_rows: ReadRows
) -> Outcome:
    """Publish entries once more, each where it came from, and note it. Whatever was noted before is left alone.

    When it is killed, what was published and not noted yet may be published again by the next retry; records that are
    stored already are not stored again.

    Args:
        session: which queue.
        directory: the collector's data directory.
        chosen: which.
        again: even those that have been retried.
        read_rows: makes messages of rows.

    Raises:
        DataDirectoryError: another retry is at work, or what was done cannot be noted.
        QueueClientError: the queue refuses, or is not there.
    """
    outcome = Outcome()
    with Retries(directory).alone() as retries, ProgressLine() as progress:
        async with Publisher(
            session.address, delivery_timeout_s=session.timeout_s, credentials=session.credentials
        ) as publisher:
            for some in _together(chosen):
                fresh = [entry for entry in some if again or retries.find(entry) is None]
                outcome.earlier += len(some) - len(fresh)
                done: list[tuple[Entry, Retry]] = []
                try:
                    await _publish(publisher, fresh, outcome, read_rows, done)
                finally:
                    retries.add(done)
                    outcome.retried += len(done)
                progress.update(lambda: f"{_entries(outcome.retried)} published again")
    return outcome


def outcome_json(outcome: Outcome) -> Json:
    """What a retry came to."""
    return {
        "retried": outcome.retried,
        "retried_earlier": outcome.earlier,
        "wrong": outcome.wrong,
        "troubles": [
            {"id": trouble.id, "from": trouble.place, "reason": trouble.reason} for trouble in outcome.troubles
        ],
    }


def outcome_lines(outcome: Outcome) -> Iterator[str]:
    """The same for people."""
    yield f"{_entries(outcome.retried)} published again"
    if outcome.earlier:
        yield f"{_entries(outcome.earlier)} left alone: retried before (--again does it once more)"
    if outcome.wrong:
        yield f"{_entries(outcome.wrong)} can still not be published:"
    for trouble in outcome.troubles[:_TROUBLES_SHOWN]:
        yield f"  {trouble.id}  {printable(trouble.place)}: {printable(trouble.reason)}"
    if outcome.wrong > _TROUBLES_SHOWN:
        yield f"  … and {number(outcome.wrong - _TROUBLES_SHOWN)} more"


def _together(chosen: Iterable[Entry]) -> Iterator[list[Entry]]:
    """As many entries at a time as may be in memory."""
    some: list[Entry] = []
    size = 0
    for entry in chosen:
        some.append(entry)
        size += entry.size
        if len(some) >= TOGETHER or size >= TOGETHER_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


async def _publish(
    publisher: Publisher,
    chosen: Sequence[Entry],
    outcome: Outcome,
    read_rows: ReadRows,
    done: list[tuple[Entry, Retry]],
) -> None:
    """Publish entries, and put into ``done`` those that were, even when others cannot be.

    Raises:
        QueueClientError: the queue refuses, or went away.
    """
    sending = (_send(publisher, entry, outcome) for entry in chosen if not entry.is_row)
    sent = await asyncio.gather(*sending, return_exceptions=True)
    done += [each for each in sent if isinstance(each, tuple)]
    for each in sent:
        if isinstance(each, BaseException):
            raise each
    rows = sorted((entry for entry in chosen if entry.is_row), key=_file_of)
    partitions = await publisher.ensure(DATA) if rows else 0
    for (source, header), group in groupby(rows, key=_file_of):
        done += await _send_rows(publisher, list(group), outcome, source, header, partitions, read_rows)


def _file_of(row: Entry) -> tuple[str, str]:
    return row.source, str(row.fields.get("header", ""))


async def _send(publisher: Publisher, entry: Entry, outcome: Outcome) -> tuple[Entry, Retry] | None:
    topic, number = entry.fields.get("topic"), entry.fields.get("partition")
    if not isinstance(topic, str) or not isinstance(number, int):
        outcome.add_trouble(entry, "it does not say where it came from")
        return None
    try:
        attributes = _attributes(entry) | {RETRIED_ATTRIBUTE: entry.place}
        key = entry.fields.get("ordering_key")
        message = OutgoingMessage(entry.data, attributes, None if key is None else str(key))
        # A topic made anew may have fewer partitions.
        partition = number % await (publisher.ensure(DATA) if topic == DATA_TOPIC else publisher.partitions(topic))
        receipt = await publisher.publish_batch(topic, [message], partition=partition)
    except (ValueError, InvalidRequestError) as error:
        # Somebody has edited it, or the queue takes no messages of that size any more.
        outcome.add_trouble(entry, str(error))
        return None
    return entry, _retry(f"{topic}/{partition}@{receipt.base_offset}")


def _attributes(entry: Entry) -> dict[str, str]:
    """The attributes of a message."""
    others = entry.fields.get("attributes")
    found = dict(others) if isinstance(others, dict) else {}
    found |= {CONTENT_TYPE_ATTRIBUTE: entry.fields.get("content_type"), SOURCE_ATTRIBUTE: entry.fields.get("source")}
    return {name: str(value) for name, value in found.items() if value}


async def _send_rows(
    publisher: Publisher,
    rows: Sequence[Entry],
    outcome: Outcome,
    source: str,
    header: str,
    partitions: int,
    read_rows: ReadRows,
) -> list[tuple[Entry, Retry]]:
    by_line: dict[int, list[Entry]] = {}
    for entry in rows:
        if entry.fields.get("truncated"):
            outcome.add_trouble(entry, "only the beginning of the row is here; the rest is in the file")
        else:
            by_line.setdefault(int(entry.fields["line"]), []).append(entry)
    texts = {line: str(found[0].fields.get("raw", "")) for line, found in sorted(by_line.items())}
    again = await asyncio.to_thread(read_rows, texts, source, header, partitions)
    for line, reason in again.wrong.items():
        for entry in by_line[line]:
            outcome.add_trouble(entry, reason)
    places = []
    for partition, messages in again.messages:
        receipt = await publisher.publish_batch(DATA_TOPIC, messages, partition=partition)
        places.append(f"{DATA_TOPIC}/{partition}@{receipt.base_offset}")
    note = _retry(" ".join(places))
    return [(entry, note) for line, found in by_line.items() if line not in again.wrong for entry in found]


def _retry(to: str) -> Retry:
    return Retry(instant(datetime.now(UTC)), to)


def _about(entry: Entry, retries: Retries) -> Json:
    retry = retries.find(entry)
    return {
        "id": entry.id,
        "reason": entry.reason,
        "source": entry.source,
        "line": entry.fields.get("line"),
        "field": entry.fields.get("field"),
        "topic": entry.fields.get("topic"),
        "partition": entry.fields.get("partition"),
        "offset": entry.fields.get("offset"),
        "published": entry.published,
        "retried": {"time": retry.time, "to": retry.to} if retry else None,
    }


def _row(entry: Entry, retry: Retry | None) -> tuple[str, ...]:
    reason = printable(entry.reason)
    return (
        entry.id,
        instant(entry.published),
        printable(entry.place),
        retry.time if retry else "-",
        reason if len(reason) <= _REASON_MAX else f"{reason[:_REASON_MAX]}…",
    )


def _message(entry: Entry) -> queue_pb2.Message:
    try:
        data = entry.data
    except ValueError:
        data = b""
    return queue_pb2.Message(data=data, attributes=_attributes(entry))


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{number(count)} entries"
