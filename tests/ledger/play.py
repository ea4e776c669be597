"""A queue and collectors that share its messages, all of them mortal, and a publisher that is not."""

from __future__ import annotations

import asyncio
import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

from telemetry.collector.worker import MAX_DELIVER
from telemetry.queue.client import Publisher, QueueAdmin, Subscriber
from telemetry.topics import DATA, DATA_TOPIC, QUARANTINE, QUARANTINE_TOPIC
from telemetry.v1 import queue_admin_pb2
from tests.ledger.input import Input
from tests.ledger.lives import Player

WAIT_S: Final = 60.0
STEP_S: Final = 0.02
GROUP: Final = "collectors"
WORKERS: Final = 2
"""Of each collector."""

QUICK: Final = ("--compact-interval=500ms", "--compact-after=2s", "--rotate-bytes=16KiB")
"""Compaction as often as that makes sense."""


class Play:
    """Use as ``async with``; whoever is left is killed at the end."""

    def __init__(
        self,
        folder: Path,
        ports: Sequence[int],
        chance: random.Random,
        *,
        flags: Sequence[str] = (),
        hasty: bool = False,
        repeats: bool = True,
    ) -> None:
        """Describe it.

        Args:
            folder: where all data goes.
            ports: two for the queue, then two for each collector.
            chance: decides which records are late. Only its state now counts, whoever draws from it later.
            flags: more flags for collectors.
            hasty: whether collectors ack before their checkpoint.
            repeats: whether some messages are published twice.
        """
        grpc, http, *rest = ports
        self.address = f"127.0.0.1:{grpc}"
        self._http: dict[str, int] = {"queue": http}
        data = ["--engine=disk", "--fsync=always", f"--data-dir={folder / 'queue'}"]
        self.queue = Player("queue", ["queue", *data, f"--grpc-port={grpc}", f"--http-port={http}"], folder)
        self.collectors: list[Player] = []
        self.folders: dict[str, Path] = {}
        self.addresses: list[str] = []
        for number, (rpc, health) in enumerate(zip(rest[::2], rest[1::2], strict=True)):
            name = f"collector-{number}"
            self.folders[name] = folder / name
            self.addresses.append(f"127.0.0.1:{rpc}")
            self._http[name] = health
            about = [
                f"--queue={self.address}",
                f"--data-dir={folder / name}",
                f"--group={GROUP}",
                f"--workers={WORKERS}",
            ]
            places = [f"--grpc-port={rpc}", f"--health-port={health}"]
            self.collectors.append(Player(name, ["collector", *about, *places, *flags], folder, hasty=hasty))
        self.input = Input(random.Random(chance.getrandbits(64)), repeats)

    async def __aenter__(self) -> Self:
        self.queue.start()
        await self.until(lambda: self.ask(self.queue, "/health") is not None, "the queue answers")
        self.publisher = Publisher(self.address, delivery_timeout_s=None)
        await self.publisher.start()
        await self.publisher.ensure(DATA)
        await self.publisher.ensure(QUARANTINE)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.publisher.aclose(0.0)
        for player in (self.queue, *self.collectors):
            player.clear_away()

    async def until(self, ask: Callable[[], bool], what: str) -> None:
        """Ask until the answer is yes. Other processes have no event to await."""
        deadline = time.monotonic() + WAIT_S
        while not ask():
            for player in (self.queue, *self.collectors):
                player.check()
            assert time.monotonic() < deadline, f"{what}: not within {WAIT_S:g} s"
            await asyncio.sleep(STEP_S)

    def ask(self, player: Player, path: str) -> dict[str, Any] | None:
        """What its HTTP side says, if anything."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._http[player.name]}{path}", timeout=10) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            with error:
                return None
        except OSError:
            return None

    def stats(self, player: Player) -> dict[str, Any]:
        """A collector's counts; empty while it does not answer."""
        return self.ask(player, "/stats") or {}

    async def until_ready(self, collector: Player) -> None:
        """Wait until a collector answers."""
        await self.until(lambda: self.ask(collector, "/stats") is not None, f"{collector.name} answers")

    async def make_group(self, ack_wait_s: float) -> None:
        """Make the collectors' group, so that what they do not ack comes again after so long."""
        topics = [DATA_TOPIC, QUARANTINE_TOPIC]
        async with Subscriber(
            self.address, topics, GROUP, mode="ordered", ack_wait_s=ack_wait_s, max_deliver=MAX_DELIVER
        ) as first:
            await first.wait_started()

    async def until_shared(self, *collectors: Player) -> dict[int, str]:
        """Wait until exactly these collectors share the partitions; returns whose each is."""
        deadline = time.monotonic() + WAIT_S
        while True:
            members = [member for group in await self._groups() for member in group.members]
            mine = [(member, player) for member in members for player in collectors if player.is_member(member.member)]
            if len(mine) == len(members) == WORKERS * len(collectors) and all(each.partitions for each in members):
                owners = {
                    each.partition: player.name
                    for member, player in mine
                    for each in member.partitions
                    if each.topic == DATA_TOPIC
                }
                # One that changes hands has no owner for as long as it waits for whoever had it.
                if len(owners) == DATA.partitions:
                    return owners
            assert time.monotonic() < deadline, f"not shared: {members}"
            await asyncio.sleep(STEP_S)

    async def until_redelivered(self) -> None:
        """Wait until more messages than now have been delivered once again."""

        async def redelivered() -> int:
            return sum(group.redelivered for group in await self._groups())

        before, deadline = await redelivered(), time.monotonic() + WAIT_S
        while await redelivered() == before:
            assert time.monotonic() < deadline, "nothing was delivered again"
            await asyncio.sleep(STEP_S)

    async def until_stored(self, collector: Player, since: int) -> None:
        """Wait until a collector's checkpoint is newer than that of ``since``, which :meth:`checkpoint` gave."""
        await self.until(lambda: self.checkpoint(collector) > since, f"{collector.name} stores something")

    def checkpoint(self, collector: Player) -> int:
        """Says, when it grows, that the collector has stored something."""
        with suppress(FileNotFoundError):
            return (self.folders[collector.name] / "checkpoint.sqlite-wal").stat().st_mtime_ns
        return 0

    def trouble(self, collector: Player) -> bool:
        """Whether a collector cannot store anything."""
        health = self.ask(collector, "/health")
        return health is not None and not health["checks"]["disk"]["ok"]

    async def acked(self) -> int:
        """How many messages the collectors have acked."""
        async with QueueAdmin(self.address) as admin:
            return sum(position.acked_through for position in (await admin.group(GROUP)).positions)

    async def until_done(self) -> None:
        """Wait until collectors have acked everything."""
        deadline = time.monotonic() + WAIT_S
        while True:
            groups = await self._groups()
            if groups and not any(group.lag_messages or group.unacked for group in groups):
                return
            assert time.monotonic() < deadline, f"not acked: {groups}"
            await asyncio.sleep(STEP_S)

    async def _groups(self) -> list[queue_admin_pb2.GroupStats]:
        async with QueueAdmin(self.address) as admin:
            return [group for group in (await admin.stats()).groups if group.group == GROUP]
