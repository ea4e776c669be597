"""`telemetry publish`: publishes arguments, files, or lines of standard input."""

from __future__ import annotations

from pathlib import Path

import click

from telemetry.console.publishing import Label
from telemetry.console.receipts import publish_and_report
from telemetry.console.session import Session, on_queue
from telemetry.console.values import ATTRIBUTE
from telemetry.queue.client import QueueAdmin


@click.command("publish", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("topic")
@click.argument("data", nargs=-1)
@click.option(
    "--file",
    "files",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False, readable=True),
    help="Publish a whole file as one message; may be repeated.",
)
@click.option("--key", metavar="TEXT", help="The ordering key of the messages.")
@click.option("--partition", type=click.IntRange(0), metavar="N", help="The partition to publish to.")
@click.option(
    "--attribute",
    "attributes",
    type=ATTRIBUTE,
    multiple=True,
    metavar="NAME=VALUE",
    help="An attribute of the messages, such as content-type=application/json; may be repeated.",
)
@on_queue
def publish(
    session: Session,
    topic: str,
    data: tuple[str, ...],
    files: tuple[Path, ...],
    key: str | None,
    partition: int | None,
    attributes: tuple[tuple[str, str], ...],
) -> None:
    """Publish each DATA and each --file as a message to TOPIC; without any, each line of standard input.

    Says where each message is stored, as TOPIC/PARTITION@OFFSET, once it is as durable as the topic promises.
    """
    label = Label(key, partition, dict(attributes))

    async def main(admin: QueueAdmin) -> None:
        await publish_and_report(session, admin, topic, data, files, label)

    session.run(main)
