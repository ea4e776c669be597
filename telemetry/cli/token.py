"""`telemetry token`: makes, lists and revokes the tokens that a process accepts with --tokens."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from telemetry.console.session import DefaultGroup, Failure, notice, to_json
from telemetry.console.tables import plural, table
from telemetry.console.values import parse_duration
from telemetry.runtime.errors import StartupError
from telemetry.runtime.token_file import add_token, remove_token
from telemetry.runtime.tokens import Right, Role, read_tokens

_HELP: Final = {"help_option_names": ["-h", "--help"]}
_Command = TypeVar("_Command", bound=Callable[..., Any])

_file = click.option(
    "--tokens",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    envvar="TELEMETRY_TOKENS",
    show_envvar=True,
    help="The file with the tokens.",
)


@click.group("token", cls=DefaultGroup, context_settings=_HELP)
def token() -> None:
    """Make, list and revoke tokens. Processes that have the file as --tokens notice within a second."""


@token.command("list", context_settings=_HELP)
@_file
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for scripts.")
def list_tokens(path: Path, as_json: bool) -> None:
    """List tokens: what they are called, until when, and what they may. The tokens themselves are kept nowhere."""
    tokens = _or_fail(lambda: read_tokens(path))
    if as_json:
        rows = [
            {
                "name": each.name,
                "role": each.role.label,
                "expires": _time(each.expires),
                "expired": each.has_expired,
                **{right.value: list(each.rights.get(right, ())) for right in Right},
            }
            for each in tokens
        ]
        click.echo(to_json({"tokens": rows}))
        return
    titles = ["NAME", "ROLE", "EXPIRES", *(right.value.upper() for right in Right)]
    cells = [
        [
            each.name,
            each.role.label,
            "expired" if each.has_expired else _time(each.expires) or "never",
            *(", ".join(each.rights.get(right, ())) or "-" for right in Right),
        ]
        for each in tokens
    ]
    for line in table(titles, cells):
        click.echo(line)


@token.command("create", context_settings=_HELP)
@click.argument("name")
@_file
@click.option("--publish", multiple=True, metavar="PATTERN", help="Topics it may publish to, and make by that.")
@click.option("--subscribe", multiple=True, metavar="PATTERN", help="Topics it may subscribe to and browse.")
@click.option("--admin", multiple=True, metavar="PATTERN", help="Topics it may change, purge and delete.")
@click.option(
    "--role",
    type=click.Choice([each.label for each in Role]),
    default=Role.NONE.label,
    show_default=True,
    help="What it may do over REST, in queries, and with alerts: see (view), silence, replay and move groups "
    "(operate), make and delete topics (admin).",
)
@click.option("--expires", metavar="DURATION", help="From when on it is not accepted, such as 90d; otherwise never.")
def create_token(
    name: str,
    path: Path,
    publish: tuple[str, ...],
    subscribe: tuple[str, ...],
    admin: tuple[str, ...],
    role: str,
    expires: str | None,
) -> None:
    """Make a token called NAME and print it, this one time. The file gets its hash.

    Patterns are those of subscriptions: * stands for one part of a topic's name, > at the end for one or more. Each
    option may be repeated.
    """
    rights = {Right.PUBLISH: publish, Right.SUBSCRIBE: subscribe, Right.ADMIN: admin}
    until = None if expires is None else _until(expires)
    secret = _or_fail(lambda: add_token(path, name, Role[role.upper()], rights, until))
    click.echo(secret)
    notice(f"{path} has the hash; nobody can print the token again")
    if until is not None:
        notice(f"it expires at {_time(until)}")


@token.command("revoke", context_settings=_HELP)
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@_file
def revoke_tokens(names: tuple[str, ...], path: Path) -> None:
    """Revoke tokens. What their bearers have open ends within a second or two."""
    for name in names:
        _or_fail(lambda: remove_token(path, name))  # noqa: B023 - called at once
    notice(f"{plural(len(names), 'token')} revoked")


def _until(text: str) -> datetime:
    try:
        length_s = parse_duration(text)
        if length_s <= 0:
            raise ValueError(f"{text!r} is no time at all")
        return datetime.now(UTC) + timedelta(seconds=length_s)
    except (ValueError, OverflowError) as error:
        message = (
            str(error) if isinstance(error, ValueError) else f"{text!r} is too far away; without it, it never does"
        )
        raise click.BadParameter(message, param_hint="--expires") from None


def _time(expires: datetime | None) -> str | None:
    return None if expires is None else f"{expires:%Y-%m-%dT%H:%M:%SZ}"


_Answer = TypeVar("_Answer")


def _or_fail(action: Callable[[], _Answer]) -> _Answer:
    try:
        return action()
    except StartupError as error:
        raise Failure(str(error)) from None
