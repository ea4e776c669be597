"""Flags win over environment variables, those over the file."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from telemetry.runtime.settings import process_command


@process_command("sample")
@click.option("--grpc-port", type=int, default=9091, help="A port.")
def sample(grpc_port: int, log_level: str) -> None:
    click.echo(f"{grpc_port} {log_level}")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "telemetry.toml"
    path.write_text('[sample]\ngrpc-port = 1\nlog-level = "warning"\n[queue]\nfsync = "never"\n')
    return path


def output(arguments: list[str], environment: dict[str, str] | None = None) -> str:
    result = CliRunner().invoke(sample, arguments, env=environment)
    assert result.exit_code == 0, result.output
    return result.output.strip()


def test_the_default_holds_when_nothing_is_said() -> None:
    assert output([]) == "9091 info"


def test_a_flag_wins_over_the_environment_and_that_over_the_file(file: Path) -> None:
    variables = {"TELEMETRY_CONFIG": str(file)}
    assert output([], variables) == "1 warning"
    variables["TELEMETRY_SAMPLE_GRPC_PORT"] = "2"
    assert output([], variables) == "2 warning"
    assert output(["--grpc-port", "3"], variables) == "3 warning"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[sample]\ngrpc-prot = 1\n", "no setting is called 'grpc-prot' in [sample]"),
        ("[sample\n", "telemetry.toml: "),
        ("[sample]\ngrpc-port = 'many'\n", "'many' is not a valid integer"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "telemetry.toml"
    path.write_text(content)
    result = CliRunner().invoke(sample, ["--config", str(path)])
    assert result.exit_code == 2
    assert said in result.output.replace("\n", " ")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(sample, ["--config", str(tmp_path / "none.toml")])
    assert result.exit_code == 2
    assert "none.toml" in result.output
