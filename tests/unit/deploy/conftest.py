"""What the tests of the deployment share: our own commands, which judge the arguments that others give them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click
import pytest

Parse = Callable[[str, Sequence[str]], dict[str, Any]]

_PROJECT: Final = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="session")
def parse() -> Parse:
    """Parse arguments with the program of a process, without running it; gives its settings."""

    def parse_arguments(process: str, arguments: Sequence[str]) -> dict[str, Any]:
        module, _, name = _PROJECT["scripts"][f"telemetry-{process}"].partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        with command.make_context(process, list(arguments)) as context:
            return dict(context.params)

    return parse_arguments


@pytest.fixture(scope="session")
def listens(parse: Parse) -> Callable[[str, Sequence[str]], set[int]]:
    """The ports on which a process with these arguments listens."""

    def ports(process: str, arguments: Sequence[str]) -> set[int]:
        settings = parse(process, arguments)
        # The port of the queue that a collector brings along when it is not told of another.
        unused = {"broker_port"} if settings.get("queue") else set()
        return {value for name, value in settings.items() if name.endswith("_port") and name not in unused}

    return ports
