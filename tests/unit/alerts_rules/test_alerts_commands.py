"""`telemetry alerts rules`, `test` and `export`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from telemetry.cli.alerts import alerts

RULES = """\
groups:
  - name: heat
    interval: 10s
    rules:
      - alert: Hot
        expr: DCGM_FI_DEV_GPU_TEMP > 80
        for: 20s
        labels: {severity: warning}
        annotations: {summary: "{{ $labels.gpu }} of {{ $labels.Hostname }} at {{ $value }}"}
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(alerts, [str(argument) for argument in arguments])


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    return path


def hot_file(path: Path, gpu: int, first: int, hot: range) -> Path:
    """A record each ten seconds, and a line that nobody can read."""
    lines = ["timestamp,host,index,temperature"]
    for number in range(first, first + 12):
        lines.append(f"2026-01-01T00:{number // 6:02}:{number % 6}0Z,n1,{gpu},{90 if number in hot else 50}")
    path.write_text("\n".join([*lines, "2026-01-01T00:00:05Z,n1,0,warm", ""]))
    return path


def test_the_pack_is_shown_and_checked_when_no_file_is_named() -> None:
    assert "GpuXidCritical" in run("rules").stdout
    assert run("rules", "--check").stdout == "23 rules in 6 groups: good\n"
    assert json.loads(run("rules", "--check", "--json").stdout) == {"groups": 6, "rules": 23}


def test_rules_in_json_have_all_that_the_file_says(rules: Path) -> None:
    (shown,) = json.loads(run("rules", rules, "--json").stdout)
    assert shown == {
        "group": "heat",
        "file": str(rules),
        "line": 5,
        "alert": "Hot",
        "record": None,
        "expression": "DCGM_FI_DEV_GPU_TEMP > 80",
        "interval_s": 10.0,
        "for_s": 20.0,
        "keep_firing_for_s": 0.0,
        "labels": {"severity": "warning"},
        "annotations": {"summary": "{{ $labels.gpu }} of {{ $labels.Hostname }} at {{ $value }}"},
    }


@pytest.mark.parametrize("command", [("rules", "--check"), ("export",), ("test",)])
def test_a_bad_file_ends_the_command_with_file_line_and_reason(command: tuple[str, ...], tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(RULES.replace("> 80", ">"))
    result = run(*command, bad, *([bad] if command == ("test",) else []))
    assert result.exit_code == 1
    assert f"{bad}:6: the expression is not PromQL" in result.stderr
    assert result.stdout == ""


def test_recorded_data_shows_what_would_have_fired_and_when(rules: Path, tmp_path: Path) -> None:
    # Two files whose times interleave; the second one's GPU is hot to the end.
    one = hot_file(tmp_path / "one.csv", 0, 0, range(2, 8))
    two = hot_file(tmp_path / "two.csv", 1, 3, range(9, 99))
    result = run("test", rules, two, one, "--json")
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert first["labels"]["gpu"] == "0"
    assert (first["active"], first["fired"], first["resolved"]) == (
        "2026-01-01T00:00:20.000Z",
        "2026-01-01T00:00:40.000Z",
        "2026-01-01T00:01:20.000Z",
    )
    assert first["annotations"] == {"summary": "0 of n1 at 90"}
    assert (second["labels"]["gpu"], second["fired"], second["resolved"]) == ("1", "2026-01-01T00:01:50.000Z", None)
    assert "2 alerts fired; 26 records" in result.stderr
    assert f"{one}: 1 row could not be read" in result.stderr
    table = run("test", rules, one, two).stdout.splitlines()
    assert table[0].split() == ["fired", "resolved", "severity", "alert", "about", "summary"]
    assert table[2].split("  ")[1] == "still firing"


def test_data_without_times_or_records_cannot_be_replayed(rules: Path, tmp_path: Path) -> None:
    (tmp_path / "timeless.csv").write_text("gpu_id,temperature\n0,90\n")
    assert "no column says when" in run("test", rules, tmp_path / "timeless.csv").stderr
    assert "No such file" in run("test", "pack", tmp_path / "none.csv").stderr
    assert run("test", "pack", tmp_path / "none.csv").exit_code == 1


def test_rules_whose_evaluation_fails_are_named(rules: Path, tmp_path: Path) -> None:
    rules.write_text(RULES.replace("> 80", "* on () DCGM_FI_DEV_GPU_TEMP"))
    one, two = (hot_file(tmp_path / f"{gpu}.csv", gpu, 0, range(0)) for gpu in (0, 1))
    result = run("test", rules, one, two)
    assert f"{rules}:5: Hot: found duplicate series" in result.stderr
    assert result.stdout == ""


def test_rules_are_exported_as_they_are_or_for_the_prometheus_operator(rules: Path) -> None:
    assert run("export", rules).stdout == RULES
    resource = yaml.safe_load(run("export", rules, "--format", "prometheusrule", "--name", "mine").stdout)
    assert resource["metadata"]["name"] == "mine"
    assert resource["spec"] == yaml.safe_load(RULES)
    assert run("export", rules, "--format", "prometheusrule", "--name", "Mine").exit_code == 1
    assert run("export", rules, rules).exit_code == 2
