"""The command says in one sentence what is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from telemetry.cli.streamer import streamer


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(streamer, [*arguments, "--http-port", "0"])
    return result.exit_code, result.output


def test_no_file_is_a_usage_error() -> None:
    code, output = run()
    assert code == 2
    assert "no file to stream was given" in output


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "No such file or directory"),
        ("", "the file is empty"),
        ("timestamp,temperature\n1,2\n", "no column says which GPU"),
    ],
)
def test_a_file_that_cannot_be_streamed_says_so_by_exit_code(tmp_path: Path, text: str | None, reason: str) -> None:
    path = tmp_path / "file.csv"
    if text is not None:
        path.write_text(text)
    code, output = run(str(path), "--once")
    assert code == os.EX_DATAERR
    assert f"telemetry-streamer: {path}: {reason}" in output
    assert "Traceback" not in output


def test_an_unknown_time_zone_is_refused_by_name() -> None:
    code, output = run("x.csv", "--timezone", "Mars/Olympus")
    assert code == 2
    assert "no time zone is called 'Mars/Olympus'" in output
