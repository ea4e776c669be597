"""Dead letters: which topics hold them, what they look like, and how far a replay or discard has come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import Final

import click

from telemetry.console.messages import message_json
from telemetry.console.payloads import payload_lines
from telemetry.console.progress import ProgressLine
from telemetry.console.session import Failure, Session, notice, to_json
from telemetry.console.tables import number, plural, printable, size, table
from telemetry.queue import letters as queue_letters
from telemetry.queue.client import DeadLetterProgress, QueueAdmin, StoredMessage
from telemetry.queue.core.names import dead_letter_topic_of
from telemetry.queue.engines.dead_letters import (
    ATTEMPTS,
    GROUP,
    LAST_TIME,
    ORIGIN_OFFSET,
    ORIGIN_PARTITION,
    ORIGIN_TOPIC,
    REASON,
)
from telemetry.queue.shapes import Json
from telemetry.v1 import queue_admin_pb2

_SUMMARY_MAX: Final = 60
"""Characters of a letter's data in the table."""


async def dead_letter_topics(admin: QueueAdmin) -> list[queue_admin_pb2.Topic]:
    """All topics that hold dead letters: those of such a name, and those that a group has chosen."""
    topics, groups = await asyncio.gather(admin.topics(), admin.groups())
    return queue_letters.dead_letter_topics(topics, groups)


async def dead_letters_of(admin: QueueAdmin, name: str) -> queue_admin_pb2.Topic:
    """The topic that is meant by ``name``: a dead-letter topic, or a topic's own.

    So nobody replays or discards what is alive by a slip of the pen.

    Raises:
        Failure: if it is neither.
        QueueNotFoundError: if there is no topic of that name.
    """
    topics, groups = await asyncio.gather(admin.topics(), admin.groups())
    meant = queue_letters.dead_letter_topic_meant(name, topics, groups)
    if meant is not None:
        return meant
    await admin.topic(name)
    raise Failure(f"{name} has no dead letters: there is no topic {dead_letter_topic_of(name)}")


def the_partition(topic: queue_admin_pb2.Topic, partition: int | None, offsets: Sequence[int] | None) -> int | None:
    """The partition that is meant; with offsets it must be clear which.

    Raises:
        click.UsageError: if it is not.
    """
    if partition is None and offsets:
        if topic.partitions > 1:
            raise click.UsageError(f"--offsets needs --partition, because {topic.name} has {topic.partitions} of them")
        return 0
    return partition


def topics_table(topics: Sequence[queue_admin_pb2.Topic], stats: queue_admin_pb2.QueueStats) -> Iterator[str]:
    """A line a dead-letter topic."""
    if not topics:
        yield "there are no dead letters"
        return
    counted = {each.topic: each for each in stats.topics}
    none = queue_admin_pb2.TopicStats()
    rows = [
        (
            topic.name,
            number(counted.get(topic.name, none).messages),
            size(counted.get(topic.name, none).bytes),
        )
        for topic in topics
    ]
    yield from table(("TOPIC", ">LETTERS", ">SIZE"), rows)


def letters_json(letters: Sequence[StoredMessage]) -> Json:
    """Letters as messages, with what is known of their death in the attributes."""
    return {"messages": [message_json(each) for each in letters]}


def letters_table(letters: Sequence[StoredMessage]) -> Iterator[str]:
    """A line a letter."""
    if not letters:
        yield "there are no dead letters"
        return
    columns = (">PARTITION", ">OFFSET", "FROM", "GROUP", ">ATTEMPTS", "LAST TRIED", "REASON", "DATA")
    yield from table(columns, [_row(each) for each in letters])


async def follow(session: Session, reports: AsyncGenerator[DeadLetterProgress, None], done: str) -> None:
    """Show the progress of a call until it ends; when cancelled, say how far it had come."""
    last = DeadLetterProgress(0, 0)

    def text() -> str:
        return f"{number(last.done)} of {plural(last.total, 'dead letter')} {done}"

    try:
        with ProgressLine() as progress:
            async with aclosing(reports):
                async for last in reports:
                    if session.as_json:
                        click.echo(to_json({"done": last.done, "total": last.total}))
                    progress.update(text)
    except asyncio.CancelledError:
        notice(f"stopped: at least {text()}")
        raise
    if not session.as_json:
        click.echo(text())


def _row(letter: StoredMessage) -> tuple[str, ...]:
    about = {name: printable(value) for name, value in letter.message.attributes.items()}
    origin = f"{about.get(ORIGIN_TOPIC, '?')}/{about.get(ORIGIN_PARTITION, '?')}@{about.get(ORIGIN_OFFSET, '?')}"
    summary = next(payload_lines(letter.message))
    return (
        str(letter.partition),
        str(letter.offset),
        origin,
        about.get(GROUP, "-"),
        about.get(ATTEMPTS, "-"),
        about.get(LAST_TIME, "-"),
        about.get(REASON) or "-",
        summary if len(summary) <= _SUMMARY_MAX else f"{summary[:_SUMMARY_MAX]}…",
    )
