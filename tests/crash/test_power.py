"""The power goes: with every fsync in place nothing is lost; without them, the checker says so."""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.crash.checker import Breach, check
from tests.crash.ledger import now
from tests.crash.platter import cut_power
from tests.crash.troupe import Troupe, queue_command, tally

CUTS: Final = 6
BETWEEN_S_MAX: Final = 0.5

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells which file a sync is about: power cuts were not simulated"
)


class PoweredTroupe(Troupe):
    """A troupe whose queue runs on a disk that forgets what was not synced."""

    def __init__(self, folder: Path, ports: tuple[int, int], chance: random.Random) -> None:
        super().__init__(folder, ports)
        self._ports = ports
        self._chance = chance
        self._platter = folder / "platter"
        self.leave_out("nothing")

    def leave_out(self, syncs: str) -> None:
        """From its next start on the queue does not make these syncs: `nothing`, `log` or `positions`."""
        program = [sys.executable, "-m", "tests.crash.platter", str(self._platter), syncs]
        self.queue.command = queue_command(self.data, self._ports, program)

    def cut_power(self) -> None:
        """The queue and all that it had not synced are gone."""
        self.kill(self.queue)
        cut_power(self.data, self._platter, self._chance)

    def go_on(self) -> None:
        """Start the queue and wait until something was published."""
        self.revive_queue()
        self.await_publishing()


@pytest.mark.timeout(3600)
def test_what_was_confirmed_survives_power_cuts(
    tmp_path: Path, ports: tuple[int, int], chance: random.Random, rounds: int
) -> None:
    with PoweredTroupe(tmp_path, ports, chance) as troupe:
        troupe.start()
        for _ in range(CUTS * rounds):
            time.sleep(chance.uniform(0, BETWEEN_S_MAX))
            troupe.cut_power()
            troupe.go_on()
        troupe.drain()
        history = troupe.end()
    found = check(history)
    print(tally(history))
    assert not found, "\n".join(str(one) for one in found[:20])


@pytest.mark.parametrize(
    ("syncs", "expected", "unexpected"),
    [("log", Breach.LOST, None), ("positions", Breach.REPEATED, Breach.LOST)],
    ids=["log", "positions"],
)
def test_the_checker_notices_when_syncs_are_left_out(
    tmp_path: Path,
    ports: tuple[int, int],
    chance: random.Random,
    syncs: str,
    expected: Breach,
    unexpected: Breach | None,
) -> None:
    with PoweredTroupe(tmp_path, ports, chance) as troupe:
        troupe.start()
        troupe.kill(troupe.queue)
        troupe.leave_out(syncs)
        troupe.go_on()
        since = now()
        for client in troupe.clients:
            client.await_work(since)
        troupe.cut_power()
        troupe.leave_out("nothing")
        troupe.go_on()
        troupe.drain()
        history = troupe.end()
    found = Counter(violation.breach for violation in check(history))
    print({breach.name: count for breach, count in found.items()})
    assert expected in found
    assert unexpected not in found
