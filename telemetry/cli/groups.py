"""`telemetry groups`: list, look at and remove subscription groups."""

from __future__ import annotations

import asyncio

import click

from telemetry.console import groups as view
from telemetry.console.session import DefaultGroup, Session, on_queue, unless_forced
from telemetry.console.tables import plural
from telemetry.queue.client import QueueAdmin


@click.group("groups", cls=DefaultGroup, context_settings={"help_option_names": ["-h", "--help"]})
def groups() -> None:
    """Look at subscription groups and remove them; without a command, list them."""


@groups.command("list")
@click.option("--topic", default="", metavar="NAME", help="Only groups that subscribe to this topic.")
@on_queue
def list_groups(session: Session, topic: str) -> None:
    """List groups with how far behind they are."""

    async def main(admin: QueueAdmin) -> None:
        found, stats = await asyncio.gather(admin.groups(topic), admin.stats())
        session.answer(view.groups_json(found, stats), lambda: view.groups_table(found, stats))

    session.run(main)


@groups.command("show")
@click.argument("name")
@on_queue
def show_group(session: Session, name: str) -> None:
    """Show a group: its settings, where it stands, and its members."""

    async def main(admin: QueueAdmin) -> None:
        group, stats = await asyncio.gather(admin.group(name), admin.stats())
        session.answer(view.group_json(group, stats), lambda: view.group_lines(group, stats))

    session.run(main)


@groups.command("delete")
@click.argument("name")
@click.option("--force", is_flag=True, help="Disconnect members that are there.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@on_queue
def delete_group(session: Session, name: str, force: bool, yes: bool) -> None:
    """Remove a group and what it has acked; a new one of that name begins anew."""

    async def main(admin: QueueAdmin) -> None:
        group = await admin.group(name)
        lag = sum(each.end_offset - each.acked_through for each in group.positions)
        session.confirm(f"Delete group {name} with {plural(lag, 'message')} to go?", yes)
        with unless_forced(force):
            await admin.delete_group(name, force=force)
        session.answer({"group": name, "deleted": True}, lambda: [f"group {name} was deleted"])

    session.run(main)
