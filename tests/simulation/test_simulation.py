"""The queue in a simulated world: thousands of runs, each with other troubles, none with a broken promise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.ledger import Violation
from tests.simulation.world import Simulation

SEEDS = 2000 * int(os.environ.get("TELEMETRY_TEST_ROUNDS", "1"))
PARTS = 20


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.timeout(3600)
def test_no_promise_is_broken_whatever_goes_wrong(part: int) -> None:
    for seed in range(part * SEEDS // PARTS, (part + 1) * SEEDS // PARTS):
        try:
            Simulation(seed).run()
        except Exception as error:  # noqa: BLE001  (whatever it is, the seed must be told)
            pytest.fail(f"{error!r}\nreplay it with: python -m tests.simulation --seed {seed} --verbose")


@pytest.mark.parametrize("seed", [1, 5, 15])
def test_a_seed_tells_the_same_story_every_time(seed: int) -> None:
    def story(hash_seed: str) -> str:
        command = [sys.executable, "-m", "tests.simulation", "--seed", str(seed), "--verbose"]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout

    first = story("1")
    assert "crash" in first
    assert story("2") == first


def test_a_disk_whose_syncs_do_nothing_is_found_out() -> None:
    """If this passes for want of a violation, the simulation has gone blind."""
    violations = 0
    for seed in range(60):
        try:
            Simulation(seed, lying_syncs=True).run()
        except Violation:
            violations += 1
    assert violations >= 3
