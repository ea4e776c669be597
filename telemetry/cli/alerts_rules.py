"""`telemetry alerts rules` and `export`: what rules say, and as others want them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from telemetry.alerts.export import prometheus_rule
from telemetry.alerts.process import PACK
from telemetry.alerts.rule_files import load_rules, read_files
from telemetry.alerts.rules import RuleError, RuleSet
from telemetry.console.session import Failure, to_json
from telemetry.console.tables import plural, seconds, table

FILE: Final = click.Path(path_type=Path, dir_okay=False)
CONTEXT: Final = {"help_option_names": ["-h", "--help"]}


@click.command("rules", context_settings=CONTEXT)
@click.argument("files", nargs=-1, type=FILE)
@click.option("--check", is_flag=True, help="Only say whether the files are good.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def rules(files: tuple[Path, ...], check: bool, as_json: bool) -> None:
    """Show the rules of FILES, or of the rule pack. A file that would be refused ends the command with exit code 1."""
    found = load(files or (PACK,))
    if check:
        if as_json:
            click.echo(to_json({"groups": len(found.groups), "rules": len(list(found))}))
        else:
            click.echo(f"{plural(len(list(found)), 'rule')} in {plural(len(found.groups), 'group')}: good")
    elif as_json:
        click.echo(to_json([_shown(found, each.rule_id) for each in found]))
    else:
        rows = [
            (rule.group, rule.name, rule.labels.get("severity", ""), seconds(rule.for_us / 1e6), rule.expression)
            for rule in found
        ]
        lines = [(group, name, severity, held, " ".join(text.split())) for group, name, severity, held, text in rows]
        for line in table(("group", "rule", "severity", ">for", "expression"), lines):
            click.echo(line)


@click.command("export", context_settings=CONTEXT)
@click.argument("files", nargs=-1, type=FILE)
@click.option(
    "--format", "form", type=click.Choice(["prometheus", "prometheusrule"]), default="prometheus", show_default=True,
    help="A rule file as it is, or a resource for the Prometheus operator.",
)  # fmt: skip
@click.option("--name", default="gpu-telemetry", show_default=True, help="The name of the PrometheusRule.")
def export(files: tuple[Path, ...], form: str, name: str) -> None:
    """Write the rules of FILES, or the rule pack, to standard output."""
    try:
        texts = read_files(files or (PACK,))
        if form == "prometheus" and len(texts) > 1:
            raise click.UsageError("a rule file is written as it is, so name one")
        resource = prometheus_rule(texts, name)
    except (RuleError, ValueError) as error:
        raise Failure(str(error)) from None
    click.echo(texts[0][1] if form == "prometheus" else resource, nl=False)


def load(files: Sequence[Path]) -> RuleSet:
    """Read rules, or end the command with what is wrong with them."""
    try:
        return load_rules(files)
    except RuleError as error:
        raise Failure(str(error)) from None


def _shown(found: RuleSet, rule_id: str) -> dict[str, object]:
    group, rule = next((group, rule) for group in found.groups for rule in group.rules if rule.rule_id == rule_id)
    return {
        "group": group.name,
        "file": rule.file,
        "line": rule.line,
        "alert": rule.alert or None,
        "record": rule.record or None,
        "expression": rule.expression,
        "interval_s": group.interval_us / 1e6,
        "for_s": rule.for_us / 1e6,
        "keep_firing_for_s": rule.keep_firing_for_us / 1e6,
        "labels": dict(rule.labels),
        "annotations": dict(rule.annotations),
    }
