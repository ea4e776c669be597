"""`telemetry dead-letters`: looks at what groups gave up, puts it back, or throws it away."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import click

from telemetry.console import dead_letters as letters
from telemetry.console.session import DefaultGroup, Session, on_queue
from telemetry.console.tables import plural
from telemetry.console.topics import messages_of, topics_json
from telemetry.console.values import OFFSETS
from telemetry.queue.client import QueueAdmin

_PARTITION = click.option("--partition", type=click.IntRange(0), metavar="N", help="Only this partition.")
_OFFSETS = click.option(
    "--offsets", type=OFFSETS, metavar="OFFSETS", help="Only these, such as 3,7,10-12; of one partition."
)


@click.group("dead-letters", cls=DefaultGroup, context_settings={"help_option_names": ["-h", "--help"]})
def dead_letters() -> None:
    """Look at dead letters, replay or discard them.

    TOPIC is a dead-letter topic, or a topic whose dead letters are meant.
    """


@dead_letters.command("list")
@click.argument("topic", required=False)
@_PARTITION
@click.option(
    "--limit", type=click.IntRange(1), default=100, show_default=True, metavar="N", help="The most letters to show."
)
@on_queue
def list_letters(session: Session, topic: str | None, partition: int | None, limit: int) -> None:
    """List the dead letters of TOPIC; without one, the topics that hold any."""

    async def main(admin: QueueAdmin) -> None:
        if topic is None:
            topics, stats = await asyncio.gather(letters.dead_letter_topics(admin), admin.stats())
            session.answer(topics_json(topics, stats), lambda: letters.topics_table(topics, stats))
            return
        held = await letters.dead_letters_of(admin, topic)
        async with aclosing(admin.browse(held.name, partition, limit=limit)) as messages:
            found = [stored async for stored in messages]
        session.answer(letters.letters_json(found), lambda: letters.letters_table(found))

    session.run(main)


@dead_letters.command("replay")
@click.argument("topic")
@_PARTITION
@_OFFSETS
@click.option(
    "--rate", type=click.IntRange(1), default=100, show_default=True, metavar="N", help="The most letters a second."
)
@on_queue
def replay_letters(session: Session, topic: str, partition: int | None, offsets: list[int] | None, rate: int) -> None:
    """Publish dead letters back to where they came from, and take them out of TOPIC.

    Ctrl-C stops it: what was replayed stays replayed, the rest stays where it is.
    """

    async def main(admin: QueueAdmin) -> None:
        held = await letters.dead_letters_of(admin, topic)
        one = letters.the_partition(held, partition, offsets)
        await letters.follow(session, admin.replay_dead_letters(held.name, offsets or (), one, rate), "replayed")

    session.run(main)


@dead_letters.command("discard")
@click.argument("topic")
@_PARTITION
@_OFFSETS
@click.option("--yes", is_flag=True, help="Do not ask.")
@on_queue
def discard_letters(session: Session, topic: str, partition: int | None, offsets: list[int] | None, yes: bool) -> None:
    """Drop dead letters for good. Ctrl-C stops it."""

    async def main(admin: QueueAdmin) -> None:
        held, stats = await asyncio.gather(letters.dead_letters_of(admin, topic), admin.stats())
        one = letters.the_partition(held, partition, offsets)
        count = len(offsets) if offsets else messages_of(held.name, stats, one)
        session.confirm(f"Discard {plural(count, 'dead letter')} of {held.name} for good?", yes)
        await letters.follow(session, admin.discard_dead_letters(held.name, offsets or (), one), "discarded")

    session.run(main)
