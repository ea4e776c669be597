"""Settings of a process: flags win over environment variables, those over one optional TOML file.

Every option of a command built with :func:`process_command` has an environment variable
``TELEMETRY_<COMMAND>_<OPTION>`` and a key ``<option>`` in the table ``[<command>]`` of the TOML file that ``--config``
or ``TELEMETRY_CONFIG`` names.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import click

from telemetry import __version__


def process_command(name: str) -> Callable[[Callable[..., None]], click.Command]:
    """Make a click command with the precedence above, and with ``--config``, ``--log-level`` and ``--version``."""

    def decorate(function: Callable[..., None]) -> click.Command:
        settings = {
            "auto_envvar_prefix": f"TELEMETRY_{name.upper().replace('-', '_')}",
            "show_default": True,
            "help_option_names": ["-h", "--help"],
            "max_content_width": 110,
        }
        command = click.command(name, cls=click.Command, context_settings=settings)(function)
        log_level = click.Option(
            ["--log-level"],
            type=click.Choice(["debug", "info", "warning", "error"]),
            default="info",
            help="The least serious log lines to write.",
        )
        config = click.Option(
            ["--config"],
            envvar="TELEMETRY_CONFIG",
            type=click.Path(path_type=Path, dir_okay=False),
            is_eager=True,
            expose_value=False,
            callback=_load_file,
            help="A TOML file with settings.",
        )
        command.params += [log_level, config]
        return click.version_option(__version__, prog_name=f"telemetry {name}")(command)

    return decorate


def addresses(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """The callback of an option that takes addresses: repeated, or several in one with commas between them.

    Raises:
        click.BadParameter: if one is not ``host:port``, or there is none.
    """
    found = tuple(dict.fromkeys(each.strip() for value in values for each in value.split(",") if each.strip()))
    for address in found:
        host, colon, port = address.rpartition(":")
        if not host or not colon or not port.isdecimal() or int(port) > 65_535:
            raise click.BadParameter(f"{address!r} is not host:port, such as 127.0.0.1:9092", context, parameter)
    if not found:
        raise click.BadParameter("no address is given", context, parameter)
    return found


def _load_file(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise click.BadParameter(f"{path}: {error}", context, parameter) from None
    # Not the name by which it was called: `telemetry-queue` and `telemetry alerts serve` have their tables too.
    name = context.command.name or ""
    table = tables.get(name, {})
    known = {option.name for option in context.command.params}
    for key in table:
        if key.replace("-", "_") not in known:
            raise click.BadParameter(f"{path}: no setting is called {key!r} in [{name}]", context, parameter)
    context.default_map = {key.replace("-", "_"): value for key, value in table.items()}
