"""Collectors come, go, die and freeze while records stream in: each has its part, and together they have each once."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from telemetry.topics import DATA
from tests.ledger.books import balance
from tests.ledger.input import publish
from tests.ledger.lives import Player
from tests.ledger.play import QUICK, Play

PAUSE_S: Final = 0.004
ACK_WAIT_S: Final = 1.0
STEPS: Final = 20

Ports = Callable[[int], list[int]]


@asynccontextmanager
async def flowing(play: Play) -> AsyncIterator[None]:
    """Publish meanwhile."""
    flow = asyncio.create_task(publish(play.publisher, play.input, pause_s=PAUSE_S))
    try:
        yield
    finally:
        flow.cancel()
        with suppress(asyncio.CancelledError):
            await flow


async def stored_by(play: Play, *collectors: Player) -> None:
    """Wait until each of them has stored something more."""
    before = {each.name: play.checkpoint(each) for each in collectors}
    for each in collectors:
        await play.until_stored(each, before[each.name])


def moved(shares: Sequence[Mapping[int, str]]) -> set[int]:
    """The partitions that went from one collector to another."""
    return {partition for partition in shares[0] if len({share[partition] for share in shares}) > 1}


async def test_a_collector_that_leaves_hands_over_without_a_record_lost_or_stored_twice(
    tmp_path: Path, free_ports: Ports, chance: random.Random
) -> None:
    async with Play(tmp_path, free_ports(8), chance, repeats=False) as play:
        first, second, third = play.collectors
        for collector in play.collectors:
            collector.start()
        shares = [await play.until_shared(*play.collectors)]
        async with flowing(play):
            await stored_by(play, *play.collectors)
            await first.end()
            shares.append(await play.until_shared(second, third))
            await stored_by(play, second, third)
            await second.end()
            shares.append(await play.until_shared(third))
            await stored_by(play, third)
        await play.until_done()
        first.start()
        second.start()
        await play.until_shared(*play.collectors)
        books = await balance(play)
    assert not books.problems, "\n".join(books.problems)
    assert set(shares[0].values()) == {first.name, second.name, third.name}
    assert {shares[-1][partition] for partition in moved(shares)} == {third.name}
    assert books.twice == 0


async def test_collectors_that_join_get_their_share_and_no_record_is_lost_or_stored_twice(
    tmp_path: Path, free_ports: Ports, chance: random.Random
) -> None:
    async with Play(tmp_path, free_ports(8), chance, repeats=False) as play:
        first, second, third = play.collectors
        first.start()
        shares = [await play.until_shared(first)]
        async with flowing(play):
            await stored_by(play, first)
            for others in ([second], [second, third]):
                others[-1].start()
                shares.append(await play.until_shared(first, *others))
                await stored_by(play, first, *others)
        books = await balance(play)
    assert not books.problems, "\n".join(books.problems)
    # Half of them, of which one may be that of the quarantine, or have it left to the other.
    assert abs(len(moved(shares[:2])) - DATA.partitions // 2) <= 1
    assert books.twice == 0


async def test_what_dies_is_taken_over_and_comes_back_without_a_record_lost_or_told_twice(
    tmp_path: Path, free_ports: Ports, chance: random.Random
) -> None:
    async with Play(tmp_path, free_ports(8), chance, repeats=False) as play:
        first, second, third = play.collectors
        for collector in play.collectors:
            collector.start()
        shares = [await play.until_shared(*play.collectors)]
        async with flowing(play):
            await stored_by(play, *play.collectors)
            first.kill()
            shares.append(await play.until_shared(second, third))
            await stored_by(play, second, third)
            second.kill()
            shares.append(await play.until_shared(third))
            await stored_by(play, third)
            for others in ([first], [first, second]):
                others[-1].start()
                shares.append(await play.until_shared(third, *others))
                await stored_by(play, third, *others)
        books = await balance(play)
    assert not books.problems, "\n".join(books.problems)
    assert books.twice_in <= moved(shares)


async def test_what_freezes_for_longer_than_its_ack_wait_goes_on_without_a_record_lost_or_told_twice(
    tmp_path: Path, free_ports: Ports, chance: random.Random
) -> None:
    async with Play(tmp_path, free_ports(6), chance) as play:
        await play.make_group(ACK_WAIT_S)
        first, second = play.collectors
        first.start()
        shares = [await play.until_shared(first)]
        async with flowing(play):
            await stored_by(play, first)
            # What it has is offered to it again in vain, until one that joins gets half of its partitions.
            first.signal(signal.SIGSTOP)
            await play.until_redelivered()
            second.start()
            shares.append(await play.until_shared(first, second))
            await stored_by(play, second)
            # It wakes up with deliveries of which it has lost the leases, some of them of partitions it has lost.
            first.signal(signal.SIGCONT)
            await stored_by(play, first, second)
        books = await balance(play)
    assert not books.problems, "\n".join(books.problems)
    assert moved(shares)
    assert books.twice_in <= moved(shares)


async def test_whatever_happens_to_collectors_at_random_each_record_is_kept_and_told_once(
    tmp_path: Path, free_ports: Ports, chance: random.Random, rounds: int
) -> None:
    async with Play(tmp_path, free_ports(8), chance, flags=QUICK) as play:
        await play.make_group(ACK_WAIT_S)
        for collector in play.collectors:
            collector.start()
        await play.until_shared(*play.collectors)
        done: Counter[str] = Counter()
        frozen: set[Player] = set()
        async with flowing(play):
            for _ in range(STEPS * rounds):
                done[await _something(chance.choice(play.collectors), frozen, chance)] += 1
                await asyncio.sleep(chance.uniform(0, 0.5))
                awake = [each for each in play.collectors if each.is_alive and each not in frozen]
                if awake and chance.random() < 0.3:
                    await stored_by(play, chance.choice(awake))
            for collector in play.collectors:
                if collector in frozen:
                    collector.signal(signal.SIGCONT)
                elif not collector.is_alive:
                    collector.start()
            await play.until_shared(*play.collectors)
            await stored_by(play, *play.collectors)
        books = await balance(play)
    print(dict(done))
    assert not books.problems, "\n".join(books.problems)


async def _something(collector: Player, frozen: set[Player], chance: random.Random) -> str:
    """Do to a collector what is possible in its state; returns what was done."""
    if not collector.is_alive:
        collector.start()
        return "start"
    if collector in frozen:
        frozen.remove(collector)
        if chance.random() < 0.7:
            collector.signal(signal.SIGCONT)
            return "wake"
        collector.kill()
        return "kill"
    choice = chance.choice(["kill", "end", "freeze"])
    if choice == "kill":
        collector.kill()
    elif choice == "end":
        await collector.end()
    else:
        collector.signal(signal.SIGSTOP)
        frozen.add(collector)
    return choice
