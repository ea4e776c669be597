"""Everybody is killed in turn, hundreds of times, and no promise is broken."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.crash.checker import check
from tests.crash.troupe import Actor, Troupe, tally

KILLS: Final = 200
VICTIMS_MAX: Final = 4
"""How many are killed at once."""
AGAIN: Final = 0.5
"""How often they are killed once more as soon as they have begun a new life, perhaps before they can do anything."""
AGAIN_S_MAX: Final = 0.5
CALM_S_MAX: Final = 0.3


@pytest.mark.timeout(7200)
def test_nothing_is_lost_invented_reordered_or_repeated_when_everybody_is_killed_in_turn(
    tmp_path: Path, ports: tuple[int, int], chance: random.Random, rounds: int
) -> None:
    with Troupe(tmp_path, ports) as troupe:
        troupe.start()
        kills = _kill_in_turn(troupe, chance, KILLS * rounds)
        troupe.drain()

        # What was settled stays settled: a last death, and only what is new then arrives.
        troupe.kill(troupe.queue)
        troupe.revive_queue()
        for publisher in troupe.publishers.values():
            publisher.start()
        for publisher in troupe.publishers.values():
            publisher.await_work()
        troupe.drain()
        history = troupe.end()

    found = check(history)
    counts = tally(history)
    print(dict(kills), counts)
    assert not found, "\n".join(str(one) for one in found[:20])
    assert kills.total() >= KILLS * rounds
    assert counts["duplicates"] > 0, "batches that were stored were sent again"
    assert counts["dead letters"] > 0
    assert counts["delivered"] > counts["settled"], "some died at work"


def _kill_in_turn(troupe: Troupe, chance: random.Random, wanted: int) -> Counter[str]:
    kills: Counter[str] = Counter()
    turn: list[Actor] = []
    while kills.total() < wanted:
        if len(turn) < VICTIMS_MAX:
            turn = chance.sample([troupe.queue, troupe.queue, *troupe.clients], len(troupe.clients) + 2) + turn
        victims = {actor.name: actor for actor in (turn.pop() for _ in range(chance.randint(1, VICTIMS_MAX)))}
        for again in range(1 + (chance.random() < AGAIN)):
            if again:
                time.sleep(chance.uniform(0, AGAIN_S_MAX))
            for victim in victims.values():
                troupe.kill(victim)
            for victim in victims.values():
                victim.start()
            kills.update(victims.keys())
        if troupe.queue.name in victims:
            troupe.await_queue()
            troupe.await_publishing()
        for name, victim in victims.items():
            if name != troupe.queue.name:
                victim.await_work()
        time.sleep(chance.uniform(0, CALM_S_MAX))
    return kills
