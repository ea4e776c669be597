"""The command `telemetry`: finds the file of each subcommand and loads only that one."""

from __future__ import annotations

from importlib import import_module
from keyword import iskeyword
from typing import Final

import click

from telemetry import __version__
from telemetry.cli.lazy import LazyGroup

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
SECTIONS: Final = {
    "Processes": PROCESSES,
    "Commands on the queue": ON_THE_QUEUE,
    "Commands on the store": ON_THE_STORE,
    "Tools": TOOLS,
}
SUBCOMMANDS: Final = {name: text for commands in SECTIONS.values() for name, text in commands.items()}
"""Each is in telemetry/cli/<name>.py under its own name, with _ for - and behind a word of Python's."""


def load(name: str) -> click.Command:
    """Import a subcommand."""
    module = name.replace("-", "_") + ("_" if iskeyword(name) else "")
    command = getattr(import_module(f"telemetry.cli.{module}"), module)
    assert isinstance(command, click.Command)
    return command


@click.group(cls=LazyGroup, sections=SECTIONS, load=load, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="telemetry")
def telemetry() -> None:
    """GPU telemetry from logs through a durable queue into a store, an API and a dashboard.

    `telemetry up` is the place to begin.
    """
