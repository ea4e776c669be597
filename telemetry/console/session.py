"""The frame of every operator's command: which queue, in what form to answer, and how it ends.

Exit codes: 0 when done; 1 when the queue refused or could not be reached, with one sentence on standard error; 2 for a
wrong command line; 130 after Ctrl-C. Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Concatenate, Final, ParamSpec

import click
import orjson

from telemetry.queue.client import (
    Credentials,
    PreconditionFailedError,
    QueueAdmin,
    QueueClientError,
    QueueUnavailableError,
)
from telemetry.runtime.security import connecting

ADDRESS_VARIABLE: Final = "TELEMETRY_QUEUE_ADDRESS"
"""The environment variable of ``--queue``."""
DEFAULT_ADDRESS: Final = "127.0.0.1:9091"
DEFAULT_TIMEOUT_S: Final = 5.0
INTERRUPTED: Final = 130
"""The exit code after Ctrl-C, as shells have it."""

_Given = ParamSpec("_Given")


class Failure(click.ClickException):
    """Ends the command with exit code 1 and a sentence."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        context = click.get_current_context(silent=True)
        self._command = context.command_path if context else "telemetry"

    def show(self, file: object = None) -> None:
        """Print the sentence."""
        click.echo(f"{self._command}: {self.message}", err=True)


class Session:
    """One command's run."""

    def __init__(self, address: str, timeout_s: float, as_json: bool, credentials: Credentials | None = None) -> None:
        """Talk to the queue at ``address``, giving up after ``timeout_s``, and answer in JSON or for people."""
        self.address: Final = address
        self.timeout_s: Final = timeout_s
        self.as_json: Final = as_json
        self.credentials: Final = credentials

    def run(self, main: Callable[[QueueAdmin], Awaitable[None]]) -> None:
        """Run ``main`` to its end. Ctrl-C cancels it: it may finish politely, and its exit code stands if it returns.

        Raises:
            Failure: if the queue refused or could not be reached.
        """

        async def connected() -> None:
            async with QueueAdmin(self.address, self.timeout_s, self.credentials) as admin:
                await main(admin)

        try:
            asyncio.run(connected())
        except QueueClientError as error:
            raise Failure(self.sentence(error)) from None
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None

    def sentence(self, error: QueueClientError) -> str:
        """What went wrong, for people."""
        if isinstance(error, QueueUnavailableError):
            # gRPC wraps the cause: "failed to connect to all addresses; last error: UNKNOWN: ipv4:…: … refused (111)".
            cause = error.message.rpartition("last error: ")[2].removeprefix("UNKNOWN: ")
            return f"the queue at {self.address} is not available: {cause}"
        if error.code == "DEADLINE_EXCEEDED":
            return f"the queue at {self.address} did not answer within {self.timeout_s:g} s"
        return error.message

    def answer(self, value: object, lines: Callable[[], Iterable[str]]) -> None:
        """Print a result: ``value`` as a JSON document, or ``lines`` for people."""
        if self.as_json:
            click.echo(to_json(value))
        else:
            for line in lines():
                click.echo(line)

    def confirm(self, question: str, yes: bool) -> None:
        """Ask before something is destroyed, unless told ``yes`` already.

        Raises:
            click.Abort: if the answer is no, or nobody answers.
        """
        if not yes:
            click.confirm(question, abort=True, err=True)


@contextmanager
def unless_forced(force: bool) -> Iterator[None]:
    """Name the flag that helps when members are in the way.

    Raises:
        Failure: if the queue refuses because of the group's state.
    """
    try:
        yield
    except PreconditionFailedError as error:
        raise Failure(error.message if force else f"{error.message}; --force disconnects them") from None


def to_json(value: object) -> str:
    """One line of JSON; times in RFC 3339 with Z."""
    return orjson.dumps(value, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS).decode()


def notice(text: str) -> None:
    """Tell the user something that is no result."""
    click.echo(text, err=True)


def on_queue(function: Callable[Concatenate[Session, _Given], None]) -> Callable[_Given, None]:
    """Give a command the options that all have in common, and hand it a :class:`Session`."""

    @click.option(
        "--queue",
        "address",
        envvar=ADDRESS_VARIABLE,
        default=DEFAULT_ADDRESS,
        show_default=True,
        show_envvar=True,
        metavar="HOST:PORT",
        callback=_check_address,
        help="The queue's gRPC address.",
    )
    @click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(min=0, min_open=True),
        default=DEFAULT_TIMEOUT_S,
        show_default=True,
        metavar="SECONDS",
        help="How long the queue may take to answer.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for scripts.")
    @connecting(variables="TELEMETRY_")
    @functools.wraps(function)
    def command(*args: _Given.args, **kwargs: _Given.kwargs) -> None:
        address, timeout_s, as_json = (kwargs.pop(name) for name in ("address", "timeout_s", "as_json"))
        credentials = kwargs.pop("credentials")
        assert credentials is None or isinstance(credentials, Credentials)
        function(Session(str(address), float(str(timeout_s)), bool(as_json), credentials), *args, **kwargs)

    return command


class DefaultGroup(click.Group):
    """A group of commands of which one is meant when none is named."""

    default = "list"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default before options that are not the group's own."""
        if not args or (args[0].startswith("-") and args[0] not in self.get_help_option_names(ctx)):
            args = [self.default, *args]
        return super().parse_args(ctx, args)


def _check_address(context: click.Context, parameter: click.Parameter, value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not host or not colon or not port.isdecimal() or int(port) > 65_535:
        raise click.BadParameter(f"{value!r} is not host:port, such as {DEFAULT_ADDRESS}", context, parameter)
    return value
