"""Groups of commands of which only the one that is called is loaded, with the libraries that it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """A group that imports a command when it is called, so that one neither pays for nor needs another's libraries."""

    def __init__(
        self,
        *args: Any,
        sections: Mapping[str, Mapping[str, str]],
        load: Callable[[str], click.Command],
        **kwargs: Any,
    ) -> None:
        """Make a group.

        Args:
            args: those of click's.
            sections: what --help says of each command, by name, under headings. It is here so that --help loads none.
            load: imports the command of a name.
            kwargs: those of click's.
        """
        super().__init__(*args, **kwargs)
        self._sections = sections
        self._load = load

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for commands in self._sections.values() for name in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self._load(cmd_name) if cmd_name in self.list_commands(ctx) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in self._sections.items():
            with formatter.section(title):
                formatter.write_dl(list(commands.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that is called; if a library is not installed, say so."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            library = (error.name or "").partition(".")[0]
            if library in ("", "telemetry", "gateway"):
                raise
            raise click.ClickException(
                f"this needs the library {library}, which is not installed here: an image has what its own process "
                "needs, `pip install gpu-telemetry-pipeline` has all"
            ) from None
