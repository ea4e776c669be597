"""The command `telemetry`: finds the file of each subcommand and loads only that one."""

from __future__ import annotations

from importlib import import_module
from keyword import iskeyword
from typing import Final

import click

from telemetry import __version__

PROCESSES: Final = {
    "up": "Start the whole pipeline on this machine and watch over it.",
    "queue": "Run the message queue.",
    "streamer": "Read GPU telemetry from files and publish it.",
    "collector": "Store what the queue delivers and answer queries.",
    "gateway": "Serve the REST API and the dashboard.",
    "alerts": "Evaluate alert rules over the live stream and tell others.",
}
ON_THE_QUEUE: Final = {
    "topics": "List, show, create, update, purge and delete topics.",
    "groups": "List, show and delete subscription groups.",
    "publish": "Publish arguments, files or lines of standard input.",
    "tail": "Show messages as they are published.",
    "browse": "Read messages where they lie, without consuming them.",
    "seek": "Move a group back or forward.",
    "dead-letters": "List, replay and discard what groups gave up.",
    "import": "Publish records from files: CSV, JSON Lines, Parquet or Arrow.",
}
ON_THE_STORE: Final = {
    "query": "Show GPUs, hosts, newest values, records and series.",
    "export": "Write records into a file: CSV, JSON Lines, Parquet or Arrow.",
}
TOOLS: Final = {
    "simulate": "Make up a fleet of GPUs, with incidents, into a file or the queue.",
    "quarantine": "List, show and retry what a collector could not store.",
    "doctor": "Say what is wrong with this machine or the pipeline, and how to mend it.",
    "size": "Say what cores, memory and disks a fleet needs.",
    "store": "Check, repair, back up and restore a collector's data directory.",
    "token": "Make, list and revoke tokens: who may publish, subscribe, see and change.",
}
SUBCOMMANDS: Final = {**PROCESSES, **ON_THE_QUEUE, **ON_THE_STORE, **TOOLS}
"""Each is in telemetry/cli/<name>.py under its own name, with _ for - and behind a word of Python's. The text is here
so that --help need not load them."""


def load(name: str) -> click.Command:
    """Import a subcommand."""
    module = name.replace("-", "_") + ("_" if iskeyword(name) else "")
    command = getattr(import_module(f"telemetry.cli.{module}"), module)
    assert isinstance(command, click.Command)
    return command


class LazyGroup(click.Group):
    """A group that imports a subcommand when it is called, so that one does not pay for the libraries of another."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return load(cmd_name) if cmd_name in SUBCOMMANDS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections = (
            ("Processes", PROCESSES),
            ("Commands on the queue", ON_THE_QUEUE),
            ("Commands on the store", ON_THE_STORE),
            ("Tools", TOOLS),
        )
        for title, commands in sections:
            with formatter.section(title):
                formatter.write_dl(list(commands.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="telemetry")
def telemetry() -> None:
    """GPU telemetry from logs through a durable queue into a store, an API and a dashboard.

    `telemetry up` is the place to begin.
    """
