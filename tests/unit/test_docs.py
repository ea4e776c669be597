"""A flag, a route or an RPC that nobody can find in the docs is not done."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import click
import pytest

from telemetry.cli.main import SUBCOMMANDS
from telemetry.v1 import query_pb2, queue_admin_pb2, queue_pb2

DOCS = Path(__file__).resolve().parents[2] / "docs"
COMPONENTS = (DOCS / "components.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_flag_is_in_components_md(name: str) -> None:
    command = getattr(import_module(f"telemetry.cli.{name}"), name)
    assert isinstance(command, click.Command)
    section = COMPONENTS.split(f"\n## `telemetry {name}`", 1)[1].split("\n## `", 1)[0]
    common = COMPONENTS.split("\n## Settings", 1)[1].split("\n## `", 1)[0]
    missing = [
        flag
        for option in command.params
        if isinstance(option, click.Option)
        for flag in (*option.opts, *option.secondary_opts)
        if f"`{flag}" not in section and f"`{flag}" not in common
    ]
    assert missing == []


@pytest.mark.parametrize("file", [queue_pb2, queue_admin_pb2, query_pb2], ids=lambda file: str(file.__name__))
def test_every_rpc_is_in_components_md(file: object) -> None:
    services = file.DESCRIPTOR.services_by_name  # type: ignore[attr-defined]
    rpcs = [f"`{method.name}`" for service in services.values() for method in service.methods]
    assert [rpc for rpc in rpcs if rpc not in COMPONENTS] == []


def test_links_between_the_docs_lead_somewhere() -> None:
    root = DOCS.parent
    broken = [
        f"{page.name}: {target}"
        for page in (*DOCS.glob("*.md"), *root.glob("*.md"))
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []
