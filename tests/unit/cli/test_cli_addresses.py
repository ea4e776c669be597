"""Addresses on the command line, in the environment and in the file: one, several, or wrong."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from telemetry.runtime.settings import addresses, process_command


@process_command("example")
@click.option("--collector", multiple=True, default=("127.0.0.1:9092",), callback=addresses)
def example(collector: tuple[str, ...], log_level: str) -> None:
    """Print them."""
    click.echo(" ".join(collector))


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ((), {}, "127.0.0.1:9092"),
        (("--collector", "a:1", "--collector", "b:2,c:3", "--collector", "a:1"), {}, "a:1 b:2 c:3"),
        ((), {"TELEMETRY_EXAMPLE_COLLECTOR": "a:1,b:2, c:3"}, "a:1 b:2 c:3"),
        (("--collector", "[::1]:5"), {"TELEMETRY_EXAMPLE_COLLECTOR": "a:1"}, "[::1]:5"),
    ],
)
def test_addresses_are_repeated_or_have_commas_between_them(
    arguments: tuple[str, ...], environment: dict[str, str], expected: str
) -> None:
    result = CliRunner().invoke(example, arguments, env=environment)
    assert (result.exit_code, result.stdout) == (0, f"{expected}\n")


def test_addresses_in_a_file_are_a_list(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text('[example]\ncollector = ["a:1", "b:2"]\n')
    result = CliRunner().invoke(example, ["--config", str(tmp_path / "t.toml")])
    assert result.stdout == "a:1 b:2\n"


@pytest.mark.parametrize("wrong", ["host", "host:", ":1", "host:99999", ","])
def test_what_is_no_address_is_refused(wrong: str) -> None:
    result = CliRunner().invoke(example, ["--collector", wrong])
    assert result.exit_code == 2
    assert "--collector" in result.stderr
