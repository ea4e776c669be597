"""A wrong command line is exit code 2, a queue that cannot be reached exit code 1, each with one sentence."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest
from click.testing import CliRunner, Result

from telemetry.cli.main import ON_THE_QUEUE, telemetry


def run(*arguments: str, address: str = "") -> Result:
    return CliRunner().invoke(telemetry, arguments, env={"TELEMETRY_QUEUE_ADDRESS": address} if address else {})


@pytest.fixture
def nobody() -> str:
    """An address at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("topics", "nonsense"), "No such command 'nonsense'"),
        (("topics", "show"), "Missing argument 'NAME'"),
        (("topics", "--queue", "here"), "'here' is not host:port"),
        (("topics", "--queue", "host:99999"), "'host:99999' is not host:port"),
        (("topics", "create", "t", "--retention-age", "soon"), "'soon' is not a length of time"),
        (("topics", "create", "t", "--max-message-bytes", "big"), "'big' is not a size"),
        (("topics", "create", "t", "--partitions", "0"), "'--partitions'"),
        (("topics", "update", "t"), "nothing to change was given"),
        (("seek", "g"), "Missing option '--to'"),
        (("seek", "g", "--to", "there"), "'there' is no position"),
        (("seek", "g", "--to", "-15"), "'-15' is not how long ago"),
        (("seek", "g", "--to", "earliest", "--partition", "1"), "--partition needs --topic"),
        (("browse", "t", "--limit", "0"), "'--limit'"),
        (("tail",), "Missing argument 'TOPICS...'"),
        (("publish", "t", "x", "--attribute", "name"), "'name' is not name=value"),
        (("publish", "t", "--file", "/none"), "'/none' does not exist"),
        (("dead-letters", "replay", "t", "--offsets", "x"), "'x' is neither an offset nor a range"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(arguments: Sequence[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert said in result.output.replace("\n", " ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("topics",),
        ("topics", "create", "t"),
        ("groups", "show", "g"),
        ("publish", "t", "x"),
        ("tail", "t"),
        ("tail", ">"),
        ("browse", "t"),
        ("seek", "g", "--to", "earliest"),
        ("dead-letters", "discard", "t", "--yes"),
    ],
    ids=" ".join,
)
def test_a_queue_that_is_not_there_is_named_with_the_cause(arguments: Sequence[str], nobody: str) -> None:
    result = run(*arguments, "--timeout", "0.3", address=nobody)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"telemetry {arguments[0]}")
    assert f"the queue at {nobody} is not available: " in line
    assert "Connection refused" in line


@pytest.mark.parametrize("arguments", [("topics",), ("topics", "create", "t"), ("publish", "t", "x")], ids=" ".join)
def test_a_queue_that_does_not_answer_is_not_waited_for(arguments: Sequence[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        result = run(*arguments, "--timeout", "0.2", address=address)
    assert result.exit_code == 1, result.output
    assert result.stderr.endswith(f"the queue at {address} did not answer within 0.2 s\n")


@pytest.mark.parametrize("name", ON_THE_QUEUE)
def test_help_names_the_environment_variable_of_the_address(name: str) -> None:
    arguments = [name, "list", "--help"] if name in ("topics", "groups", "dead-letters") else [name, "--help"]
    assert "TELEMETRY_QUEUE_ADDRESS" in run(*arguments).output
