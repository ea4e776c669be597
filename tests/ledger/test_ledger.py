"""The pipeline keeps its books: each sample that was published is stored and found once, whoever died meanwhile."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from tests.ledger.books import balance
from tests.ledger.input import publish
from tests.ledger.lives import Player
from tests.ledger.play import QUICK, WAIT_S, Play

KILLS: Final = 70
PAUSE_S: Final = 0.008
"""Between two messages."""
AGAIN: Final = 0.3
"""How often somebody is killed once more who has hardly begun to live."""
JOB_S_MAX: Final = 15.0
"""How long to wait for a compaction job."""

Ports = Callable[[int], list[int]]


@pytest.mark.parametrize(
    ("kills_min", "flags"),
    [
        # Shorter plays instead of a long one: each has a chance of its own, and stays within a test's time.
        pytest.param(KILLS, (), id="first"),
        pytest.param(KILLS, (), id="second"),
        pytest.param(KILLS, (), id="third"),
        # Without a checkpoint that waits for the disk, only the machine's death may cost anything.
        pytest.param(KILLS // 3, ("--no-checkpoint",), id="unsynced"),
    ],
)
async def test_each_sample_is_stored_once_while_everybody_is_killed_in_turn(
    tmp_path: Path, free_ports: Ports, chance: random.Random, rounds: int, kills_min: int, flags: tuple[str, ...]
) -> None:
    wanted = kills_min * rounds
    async with Play(tmp_path, free_ports(6), chance, flags=(*QUICK, *flags)) as play:
        for collector in play.collectors:
            collector.start()
        publishing = asyncio.create_task(publish(play.publisher, play.input, pause_s=PAUSE_S))
        kills = await _kill_in_turn(play, chance, wanted)
        await play.until(lambda: any(map(_compactions, play.collectors)), "something has moved to the cold tier")
        publishing.cancel()
        with suppress(asyncio.CancelledError):
            await publishing
        books = await balance(play)
        print(dict(kills), "compactions", sum(map(_compactions, play.collectors)))
    assert not books.problems, "\n".join(books.problems)
    assert kills.total() >= wanted
    assert all(kills[name] for name in ("collector", "queue", "job"))


async def test_a_collector_that_acks_before_its_checkpoint_does_not_balance(
    tmp_path: Path, free_ports: Ports, chance: random.Random
) -> None:
    async with Play(tmp_path, free_ports(6), chance, hasty=True) as play:
        before = await _publish_some(play)
        with _checkpoints_held_up(play):
            publishing = asyncio.create_task(publish(play.publisher, play.input, 200))
            async with asyncio.timeout(WAIT_S):
                while await play.acked() == before:
                    await asyncio.sleep(0.02)
            for collector in play.collectors:
                collector.kill()
        for collector in play.collectors:
            collector.start()
        await publishing
        books = await balance(play)
    missing = [line for line in books.problems if "records missing" in line]
    assert {line.split(":")[0] for line in missing} >= {"StreamRecords", "files"}
    assert any(line.startswith("count of") for line in books.problems)
    assert any(line.startswith("sum of") for line in books.problems)


async def test_the_same_play_with_collectors_that_keep_their_word_balances(
    tmp_path: Path, free_ports: Ports, chance: random.Random
) -> None:
    async with Play(tmp_path, free_ports(6), chance) as play:
        before = await _publish_some(play)
        with _checkpoints_held_up(play):
            await publish(play.publisher, play.input, 200)
            # Until both have something to store, and with it the chance to ack it too early.
            await play.until(lambda: all(play.trouble(each) for each in play.collectors), "nothing can be stored")
            assert await play.acked() == before
            for collector in play.collectors:
                collector.kill()
        for collector in play.collectors:
            collector.start()
        books = await balance(play)
    assert not books.problems, "\n".join(books.problems)


async def _kill_in_turn(play: Play, chance: random.Random, wanted: int) -> Counter[str]:
    kills: Counter[str] = Counter()
    first, second = play.collectors
    # Who dies, one after the other or together; in a burst there is hardly time for compaction.
    burst = (
        [[play.queue]] * 4
        + [[first]] * 6
        + [[second]] * 6
        + [[first, second]] * 2
        + [[*play.collectors, play.queue]] * 2
    )
    while kills.total() < wanted:
        for killed in chance.sample(burst, len(burst)):
            await _kill(play, killed, chance, kills)
        await _disturb_compaction(play, chance, kills)
    return kills


async def _kill(play: Play, killed: Sequence[Player], chance: random.Random, kills: Counter[str]) -> None:
    before = {victim.name: play.checkpoint(victim) for victim in killed if victim is not play.queue}
    for _ in range(1 + (chance.random() < AGAIN)):
        for victim in killed:
            victim.kill()
            kills["queue" if victim is play.queue else "collector"] += 1
        if chance.random() < 0.3:
            # Long enough for the partitions to go to the other.
            await asyncio.sleep(chance.uniform(0, 0.3))
        for victim in killed:
            victim.start()
        await asyncio.sleep(chance.uniform(0, 0.15))
    if chance.random() < 0.4:
        for victim in play.collectors:
            if victim.name in before:
                await play.until_stored(victim, before[victim.name])
    await asyncio.sleep(chance.uniform(0, 0.2))


async def _disturb_compaction(play: Play, chance: random.Random, kills: Counter[str]) -> None:
    """Kill a compaction job and the collector of another one at work; let a third finish."""
    for victim in chance.sample(play.collectors, 2):
        if await _job_of(victim) and victim.kill_job():
            kills["job"] += 1
    victim = chance.choice(play.collectors)
    if await _job_of(victim):
        await asyncio.sleep(chance.uniform(0, 1.5))
        victim.kill()
        kills["collector"] += 1
        victim.start()
    if chance.random() < 0.5:
        victim = chance.choice(play.collectors)
        if await _job_of(victim):
            with suppress(TimeoutError):
                async with asyncio.timeout(JOB_S_MAX):
                    while victim.has_job():
                        await asyncio.sleep(0.02)


async def _job_of(collector: Player) -> bool:
    """Wait for a job of this collector."""
    with suppress(TimeoutError):
        async with asyncio.timeout(JOB_S_MAX):
            while not collector.has_job():
                await asyncio.sleep(0.02)
            return True
    return False


def _compactions(collector: Player) -> int:
    return collector.log.read_text().count('"message":"compacted"')


async def _publish_some(play: Play) -> int:
    """Let collectors begin, with something to store; returns how many messages they have acked."""
    for collector in play.collectors:
        collector.start()
    await publish(play.publisher, play.input, 200)
    await play.until_done()
    acked = await play.acked()
    # Those that ack first may still be busy with storing.
    await play.until(
        lambda: sum(play.stats(each).get("messages", 0) for each in play.collectors) >= acked, "all is stored"
    )
    return acked


@contextmanager
def _checkpoints_held_up(play: Play) -> Iterator[None]:
    """Let no transaction of any collector begin."""
    with ExitStack() as stack:
        for folder in play.folders.values():
            connection = stack.enter_context(
                closing(sqlite3.connect(folder / "checkpoint.sqlite", isolation_level=None))
            )
            connection.execute("BEGIN IMMEDIATE")
            stack.callback(connection.execute, "ROLLBACK")
        yield
