"""`telemetry alerts`: rules, and the process that evaluates them."""

from __future__ import annotations

import click

from telemetry.cli.alerts_rules import export, rules, test
from telemetry.cli.alerts_serve import serve


@click.group("alerts", context_settings={"help_option_names": ["-h", "--help"]})
def alerts() -> None:
    """Raise alerts about GPUs by rules in Prometheus' format."""


alerts.add_command(serve, "serve")
alerts.add_command(rules)
alerts.add_command(test)
alerts.add_command(export)
