"""`telemetry alerts`: rules, and the process that evaluates them."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

from telemetry.cli.lazy import LazyGroup

_COMMANDS: Final = {
    "serve": "Evaluate rules over what GPUs say now, and tell others.",
    "rules": "Show the rules of files, or of the rule pack.",
    "test": "Replay recorded data and show what rules would have fired, and when.",
    "export": "Write rules to standard output, as they are or for the Prometheus operator.",
}
_MODULES: Final = {"serve": "alerts_serve", "rules": "alerts_rules", "test": "alerts_test", "export": "alerts_rules"}


def _load(name: str) -> click.Command:
    command = getattr(import_module(f"telemetry.cli.{_MODULES[name]}"), name)
    assert isinstance(command, click.Command)
    return command


@click.group(
    "alerts",
    cls=LazyGroup,
    sections={"Commands": _COMMANDS},
    load=_load,
    context_settings={"help_option_names": ["-h", "--help"]},
)
def alerts() -> None:
    """Raise alerts about GPUs by rules in Prometheus' format."""
