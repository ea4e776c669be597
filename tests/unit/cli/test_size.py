"""`telemetry size`: an answer that grows with what is asked, and says when one process cannot do it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from telemetry.cli.size import size


def ask(*arguments: str) -> Any:
    done = CliRunner().invoke(size, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def disk(answer: Any, process: str) -> int:
    (found,) = [each["disk_bytes"] for each in answer["processes"] if each["process"] == process]
    return int(found)


def test_each_part_of_a_plan_is_paid_for_where_it_costs() -> None:
    small = ask("--gpus", "1000")
    assert small["plan"]["samples_per_s"] == 2800
    assert small["warnings"] == []
    longer = ask("--gpus", "1000", "--retention", "300d")
    assert longer["store_bytes"]["raw"] == 10 * small["store_bytes"]["raw"]
    assert longer["store_bytes"]["1h"] == small["store_bytes"]["1h"]
    assert small["store_bytes"]["1m"] > longer["store_bytes"]["1m"] == 0, "made when the records go"
    assert disk(longer, "queue") == disk(small, "queue")
    patient = ask("--gpus", "1000", "--outage", "7d")
    assert disk(patient, "queue") > 2 * disk(small, "queue")
    assert disk(patient, "collector") == disk(small, "collector")


def test_a_fleet_too_large_for_one_process_gets_more_collectors_and_a_warning() -> None:
    answer = ask("--gpus", "100000", "--interval", "1s")
    counts = {each["process"]: each["count"] for each in answer["processes"]}
    assert counts["collector"] > 1
    assert any("queue" in warning for warning in answer["warnings"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--gpus", "0"), "--gpus"),
        (("--gpus", "8", "--interval", "0s"), "--interval"),
        (("--gpus", "8", "--interval", "soon"), "'soon' is not a length of time"),
        (("--gpus", "8", "--retention", "none"), "kept for ever"),
        ((), "--gpus"),
    ],
)
def test_what_is_no_plan_is_refused_by_name(arguments: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(size, arguments)
    assert done.exit_code == 2
    assert said in done.output
