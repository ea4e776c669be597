"""A flag, a route or an RPC that nobody can find in the docs is not done."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from telemetry.cli.main import ON_THE_QUEUE, ON_THE_STORE, SUBCOMMANDS, load
from telemetry.v1 import alerts_pb2, query_pb2, queue_admin_pb2, queue_pb2

DOCS = Path(__file__).resolve().parents[2] / "docs"
COMPONENTS = (DOCS / "components.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The part of components.md under a heading."""
    return COMPONENTS.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def commands_in(command: click.Command) -> Iterator[click.Command]:
    """A command, and those within it."""
    yield command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            if nested := command.get_command(context, name):
                yield from commands_in(nested)


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_flag_is_in_components_md(name: str) -> None:
    command = load(name)
    own = section(f"`telemetry {name}`")
    shared = "Commands on the queue" if name in ON_THE_QUEUE else "Commands on the store"
    common = section(shared if name in {**ON_THE_QUEUE, **ON_THE_STORE} else "Settings")
    missing = [
        (each.name, flag)
        for each in commands_in(command)
        for option in each.params
        if isinstance(option, click.Option)
        for flag in (*option.opts, *option.secondary_opts)
        if f"`{flag}" not in own and f"`{flag}" not in common
    ]
    assert missing == []


@pytest.mark.parametrize("name", [*ON_THE_QUEUE, *ON_THE_STORE])
def test_every_command_within_a_command_is_in_components_md(name: str) -> None:
    _, *nested = commands_in(load(name))
    own = section(f"`telemetry {name}`")
    assert [each.name for each in nested if f"`{name} {each.name}" not in own] == []


@pytest.mark.parametrize(
    "file", [queue_pb2, queue_admin_pb2, query_pb2, alerts_pb2], ids=lambda file: str(file.__name__)
)
def test_every_rpc_is_in_components_md(file: object) -> None:
    services = file.DESCRIPTOR.services_by_name  # type: ignore[attr-defined]
    rpcs = [f"`{method.name}`" for service in services.values() for method in service.methods]
    assert [rpc for rpc in rpcs if rpc not in COMPONENTS] == []


def test_links_between_the_docs_lead_somewhere() -> None:
    root = DOCS.parent
    broken = [
        f"{page.name}: {target}"
        for page in (*DOCS.rglob("*.md"), *root.glob("*.md"))
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_the_site_has_all_that_the_docs_link_to() -> None:
    """What lies outside docs/ is named there by its path: a link would work in the repository and not on the site."""
    outside = [
        f"{page.name}: {target}"
        for page in DOCS.rglob("*.md")
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).resolve().is_relative_to(DOCS)
    ]
    assert outside == []


def test_every_page_is_in_the_menu_of_the_site() -> None:
    menu = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n", 1)[1]
    listed = set(re.findall(r": ([a-z0-9/-]+\.md)$", menu, re.MULTILINE))
    assert listed == {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
