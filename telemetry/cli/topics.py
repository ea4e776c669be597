"""`telemetry topics`: list, look at, make, change, empty and remove topics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar, cast

import click

from telemetry.console import topics as view
from telemetry.console.session import DefaultGroup, Session, on_queue
from telemetry.console.tables import plural
from telemetry.console.values import AGE, SIZE
from telemetry.queue.client import QueueAdmin, topic_of
from telemetry.queue.clients.topics import Storage
from telemetry.queue.shapes import topic as topic_json

_Command = TypeVar("_Command", bound=Callable[..., None])


@click.group("topics", cls=DefaultGroup, context_settings={"help_option_names": ["-h", "--help"]})
def topics() -> None:
    """Look at topics and change them; without a command, list them."""


@topics.command("list")
@on_queue
def list_topics(session: Session) -> None:
    """List all topics with what they hold."""

    async def main(admin: QueueAdmin) -> None:
        found, stats = await asyncio.gather(admin.topics(), admin.stats())
        session.answer(view.topics_json(found, stats), lambda: view.topics_table(found, stats))

    session.run(main)


@topics.command("show")
@click.argument("name")
@on_queue
def show_topic(session: Session, name: str) -> None:
    """Show a topic: its settings, its partitions, and the groups that read it."""

    async def main(admin: QueueAdmin) -> None:
        topic, stats, groups = await asyncio.gather(admin.topic(name), admin.stats(), admin.groups(name))
        session.answer(view.topic_json(topic, stats), lambda: view.topic_lines(topic, stats, groups))

    session.run(main)


def _settings(command: _Command) -> _Command:
    """The options that `create` and `update` share; what is not given stays as it is, or as the queue has it."""
    options = (
        click.option("--retention-age", type=AGE, metavar="AGE", help="Drop what is older, such as 7d; or none."),
        click.option("--retention-bytes", type=SIZE, metavar="SIZE", help="Bytes to keep of each partition; 0: all."),
        click.option("--drop-acked/--keep-acked", default=None, help="Drop what every group has acked."),
        click.option(
            "--drop-unacked/--keep-unacked", default=None, help="Let age and size drop what some group has not acked."
        ),
        click.option("--max-message-bytes", type=SIZE, metavar="SIZE", help="Largest message."),
        click.option("--max-batch-bytes", type=SIZE, metavar="SIZE", help="Largest batch."),
        click.option("--max-batch-messages", type=click.IntRange(0), metavar="N", help="Most messages in a batch."),
        click.option(
            "--max-partition-bytes", type=SIZE, metavar="SIZE", help="Refuse messages when a partition holds as much."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@topics.command("create")
@click.argument("name")
@click.option("--partitions", type=click.IntRange(1, 1024), default=1, show_default=True, help="How many; for ever.")
@click.option("--storage", type=click.Choice(["disk", "memory"]), help="Where messages are kept; for ever.")
@_settings
@on_queue
def create_topic(session: Session, /, name: str, partitions: int, storage: str | None, **settings: object) -> None:
    """Make a topic."""
    topic = topic_of(name, partitions, cast("Storage | None", storage))
    view.change(topic, **settings)

    async def main(admin: QueueAdmin) -> None:
        made = await admin.create_topic(topic)
        session.answer(topic_json(made), lambda: [f"topic {name} was made", *view.settings_lines(made)])

    session.run(main)


@topics.command("update")
@click.argument("name")
@_settings
@on_queue
def update_topic(session: Session, /, name: str, **settings: object) -> None:
    """Change a topic's retention and limits; what is not named stays."""
    if all(value is None for value in settings.values()):
        raise click.UsageError("nothing to change was given; see --help")

    async def main(admin: QueueAdmin) -> None:
        topic = await admin.topic(name)
        view.change(topic, **settings)
        changed = await admin.update_topic(topic)
        session.answer(topic_json(changed), lambda: [f"topic {name} was changed", *view.settings_lines(changed)])

    session.run(main)


@topics.command("delete")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@on_queue
def delete_topic(session: Session, name: str, yes: bool) -> None:
    """Remove a topic, its messages, and where groups stand in it."""

    async def main(admin: QueueAdmin) -> None:
        _, stats = await asyncio.gather(admin.topic(name), admin.stats())
        held = plural(view.messages_of(name, stats), "message")
        session.confirm(f"Delete topic {name} with {held}?", yes)
        await admin.delete_topic(name)
        session.answer({"topic": name, "deleted": True}, lambda: [f"topic {name} was deleted"])

    session.run(main)


@topics.command("purge")
@click.argument("name")
@click.option("--partition", type=click.IntRange(0), metavar="N", help="Only this partition.")
@click.option("--before-offset", type=click.IntRange(0), metavar="OFFSET", help="Only messages below this offset.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@on_queue
def purge_topic(session: Session, name: str, partition: int | None, before_offset: int | None, yes: bool) -> None:
    """Drop messages; groups that had not reached them go on after them."""

    async def main(admin: QueueAdmin) -> None:
        _, stats = await asyncio.gather(admin.topic(name), admin.stats())
        what = plural(view.messages_of(name, stats, partition, before_offset), "message")
        where = f"topic {name}" if partition is None else f"partition {partition} of topic {name}"
        session.confirm(f"Drop {what} of {where}, read or not?", yes)
        dropped = await admin.purge_topic(name, partition, before_offset)
        session.answer(
            {"topic": name, "messages": dropped}, lambda: [f"{plural(dropped, 'message')} of {where} dropped"]
        )

    session.run(main)
