"""`telemetry query`: asks collectors and shows what they answer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Concatenate, Final, ParamSpec

import click

from telemetry.console.collectors import CollectorSession, Selection, duration_us, on_collectors, selecting
from telemetry.console.query import Form, SeriesWish, show_gpus, show_hosts, show_latest, show_records, show_series
from telemetry.console.session import DefaultGroup
from telemetry.query.fanout import Collectors
from telemetry.storage.series import Aggregation

AGGREGATIONS: Final = tuple(each.value for each in Aggregation)
_HELP: Final = {"help_option_names": ["-h", "--help"]}
_Given = ParamSpec("_Given")


def formed(function: Callable[Concatenate[Form, _Given], None]) -> Callable[_Given, None]:
    """Give a command the options for the form of its answer, as a :class:`Form`."""

    @click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for scripts.")
    @click.option("--csv", "as_csv", is_flag=True, help="Answer in CSV.")
    @functools.wraps(function)
    def command(*args: _Given.args, **kwargs: _Given.kwargs) -> None:
        chosen = [
            form
            for form, name in ((Form.JSON, "as_json"), (Form.CSV, "as_csv"), (Form.PLOT, "as_plot"))
            if kwargs.pop(name, False)
        ]
        if len(chosen) > 1:
            raise click.UsageError("an answer has one form: " + " or ".join(f"--{form.value}" for form in chosen))
        function(chosen[0] if chosen else Form.TABLE, *args, **kwargs)

    return command


class QueryGroup(DefaultGroup):
    """Without a command: the newest values."""

    default = "latest"


@click.group("query", cls=QueryGroup, context_settings=_HELP)
def query() -> None:
    """Show what collectors have stored. Without a command: the newest values."""


@query.command("gpus", context_settings=_HELP)
@on_collectors
@selecting(metrics=False, times=False)
@formed
def gpus(form: Form, selection: Selection, session: CollectorSession) -> None:
    """Show which GPUs there are, and when each was first and last seen."""
    session.run(lambda collectors: show_gpus(collectors, selection, form))


@query.command("hosts", context_settings=_HELP)
@on_collectors
@formed
def hosts(form: Form, session: CollectorSession) -> None:
    """Show hosts, and how many GPUs each has."""
    session.run(lambda collectors: show_hosts(collectors, form))


@query.command("latest", context_settings=_HELP)
@on_collectors
@selecting(metrics=True, times=False)
@formed
def latest(form: Form, selection: Selection, session: CollectorSession) -> None:
    """Show the newest value of each metric of each GPU."""
    session.run(lambda collectors: show_latest(collectors, selection, form))


@query.command("records", context_settings=_HELP)
@click.option(
    "-n", "--limit", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="The most records."
)
@click.option("--oldest", "oldest_first", is_flag=True, help="The oldest first, not the newest.")
@on_collectors
@selecting(metrics=True, times=True)
@formed
def records(form: Form, selection: Selection, session: CollectorSession, limit: int, oldest_first: bool) -> None:
    """Show records as they were stored, a GPU after the other; with --json one a line."""
    session.run(lambda collectors: show_records(collectors, selection, form, limit, oldest_first=oldest_first))


def _names(context: click.Context, parameter: click.Parameter, text: str | None) -> Sequence[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


@query.command("series", context_settings=_HELP)
@click.argument("metric", nargs=-1)
@click.option("--step", "step_us", metavar="DURATION", callback=duration_us, help="The width of a step, such as 10s.")
@click.option(
    "--agg",
    "aggregation",
    type=click.Choice(AGGREGATIONS),
    default="avg",
    show_default=True,
    help="How a GPU's samples of a step become one.",
)
@click.option(
    "--group-by",
    metavar="LABELS",
    callback=_names,
    help="One series for all GPUs with the same host, model, pod or other labels, named with commas between them; "
    '"" makes one of all.',
)
@click.option(
    "--across",
    type=click.Choice(AGGREGATIONS),
    default="avg",
    show_default=True,
    help="With --group-by: how the GPUs' values of a step become one.",
)
@click.option("--plot", "as_plot", is_flag=True, help="Draw it.")
@click.option("--explain", is_flag=True, help="Say how the answer was found: collectors, tiers, files, rows.")
@on_collectors
@selecting(metrics=True, times=True)
@formed
def series(
    form: Form,
    selection: Selection,
    session: CollectorSession,
    metric: tuple[str, ...],
    step_us: int | None,
    aggregation: str,
    group_by: Sequence[str] | None,
    across: str,
    explain: bool,
) -> None:
    """Show METRICs over time, in steps. Without times: the last hour before the newest record."""
    names = (*metric, *selection.metrics)
    if not names:
        raise click.UsageError("which metric? For example: telemetry query series temperature")
    selection = Selection(
        selection.gpus, selection.hosts, selection.labels, names,
        selection.start_us, selection.end_us, selection.last_us,
    )  # fmt: skip
    wish = SeriesWish(step_us, aggregation, group_by, across, explain)

    async def main(collectors: Collectors) -> None:
        await show_series(collectors, selection, form, wish)

    session.run(main)
