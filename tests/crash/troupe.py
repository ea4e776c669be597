"""A queue, publishers and members as real processes that a test kills and starts again, and what all of them saw."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import grpc

from telemetry.runtime.grpc_server import CHANNEL_OPTIONS
from telemetry.v1 import queue_admin_pb2, queue_admin_pb2_grpc, queue_pb2
from tests.crash.checker import DeadLetter, GroupRules, History, Life, Outage
from tests.crash.ledger import Confirmed, Event, Settled, now, read_ledger
from tests.crash.payloads import decode

ROOT: Final = Path(__file__).resolve().parents[2]
TOPIC: Final = "work"
DEAD_LETTERS: Final = f"{TOPIC}.dead-letter"
PARTITIONS: Final = 4
WAIT_S_MAX: Final = 60.0
STEP_S: Final = 0.02
BROWSED: Final = 10_000
NEVER: Final = float("inf")


def wait_until(ask: Callable[[], bool], what: str, seconds: float = WAIT_S_MAX) -> None:
    """Ask until the answer is yes. Other processes have no event to await."""
    deadline = time.monotonic() + seconds
    while not ask():
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds:g} s"
        time.sleep(STEP_S)


@dataclass(slots=True)
class Actor:
    """A process that is started again each time that it was killed."""

    name: str
    command: Sequence[str]
    folder: Path
    keeps_ledger: bool = True
    always_new: bool = False
    """Whether it has another name in each life."""
    process: subprocess.Popen[bytes] | None = None
    begun: int = 0
    """How many lives it has begun."""
    ended: list[float] = field(default_factory=list)

    def start(self) -> None:
        """Begin a life."""
        life = self.begun
        self.begun += 1
        ledger = [f"--ledger={self._ledger(life)}"] if self.keeps_ledger else []
        name = [f"--name={self.name}.{life}"] if self.always_new else []
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, *name, *ledger],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            )

    @property
    def log(self) -> Path:
        """What it printed, in all of its lives."""
        return self.folder / f"{self.name}.log"

    def check(self) -> None:
        """Fail if it has ended by itself."""
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.log.read_text()[-4000:]}")

    def kill(self) -> None:
        """End its life at this very moment."""
        self.check()
        assert self.process is not None
        self.ended.append(now())
        self.process.kill()
        self.process.wait()
        self.process = None

    def end(self) -> None:
        """Ask it to end its life in good order."""
        self.check()
        assert self.process is not None
        self.ended.append(now())
        self.process.terminate()
        code = self.process.wait(WAIT_S_MAX)
        self.process = None
        assert code == 0, f"{self.name} ended with {code}:\n{self.log.read_text()[-4000:]}"

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.check()
        assert self.process is not None
        self.process.send_signal(number)

    def events(self, life: int = -1) -> Iterator[Event]:
        """What it wrote down, in its present life or another."""
        yield from read_ledger(self._ledger(life % self.begun))

    def has_worked(self, since: float = 0.0) -> bool:
        """Whether something of what it did in its present life was confirmed, after this time."""
        self.check()
        newest = read_ledger(self._ledger(self.begun - 1), newest=True)
        return any(isinstance(event, Confirmed | Settled) and event.at > since for event in newest)

    def await_work(self, since: float = 0.0) -> None:
        """Wait until :meth:`has_worked`."""
        wait_until(lambda: self.has_worked(since), f"{self.name} works")

    def lives(self) -> list[Life]:
        """All that it has lived through; the last life may still go on."""
        ends = [*self.ended, *([NEVER] if self.process is not None else [])]
        return [Life(f"{self.name}.{life}", ended, list(self.events(life))) for life, ended in enumerate(ends)]

    def _ledger(self, life: int) -> Path:
        return self.folder / f"{self.name}.{life}.ledger"


@dataclass(frozen=True, slots=True)
class Group:
    """How a group of the play shares."""

    mode: str
    members: int
    max_deliver: int = 1000
    picky: bool = False


GROUPS: Final = {
    "shared": Group("shared", 2),
    "ordered": Group("ordered", 2),
    "picky": Group("shared", 1, max_deliver=3, picky=True),
}


class Troupe:
    """All processes of a play. The queue's command gets the ports and the data directory appended."""

    def __init__(self, folder: Path, ports: tuple[int, int], queue: Sequence[str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.data = folder / "queue"
        self._grpc, self._http = ports
        self._outages: list[Outage] = []
        self._guests: list[Actor] = []
        self.queue = Actor("queue", queue_command(self.data, ports, queue), folder, keeps_ledger=False)
        self.publishers = {name: self._publisher(name) for name in ("count", "forget")}
        self.members = {
            group: [self._member(group, settings, number) for number in range(settings.members)]
            for group, settings in GROUPS.items()
        }

    def add(self, actor: Actor) -> Actor:
        """Take in somebody who is ended with the others."""
        self._guests.append(actor)
        return actor

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._grpc}"

    @property
    def clients(self) -> list[Actor]:
        """Everybody but the queue."""
        return [*self.publishers.values(), *(member for members in self.members.values() for member in members)]

    def start(self) -> None:
        """Begin, and return when everybody works."""
        self.queue.start()
        self.await_queue()
        with self._admin() as admin:
            topic = queue_admin_pb2.Topic(name=TOPIC, partitions=PARTITIONS)
            admin.CreateTopic(queue_admin_pb2.CreateTopicRequest(topic=topic))
        for client in self.clients:
            client.start()
        for client in self.clients:
            client.await_work()

    def await_queue(self) -> None:
        """Wait until the queue answers; its outage is over then."""

        def healthy() -> bool:
            self.queue.check()
            return self._ask("/health") is not None

        wait_until(healthy, "the queue answers")
        if self._outages and self._outages[-1].ended == NEVER:
            self._outages[-1] = Outage(self._outages[-1].began, now())

    def kill(self, actor: Actor) -> None:
        """Kill somebody. If it is the queue, an outage begins."""
        actor.kill()
        if actor is self.queue and not (self._outages and self._outages[-1].ended == NEVER):
            self._outages.append(Outage(self.queue.ended[-1], NEVER))

    def revive_queue(self) -> None:
        """Start the queue again and wait until it answers."""
        self.queue.start()
        self.await_queue()

    def await_publishing(self) -> None:
        """Wait until something is confirmed that was not by now."""
        since = now()
        wait_until(lambda: any(each.has_worked(since) for each in self.publishers.values()), "the queue is at work")

    def drain(self) -> None:
        """Let the publishers finish, and wait until every group has settled all there is."""
        for publisher in self.publishers.values():
            publisher.end()
        wait_until(self._is_drained, "every group is done")

    def _is_drained(self) -> bool:
        for client in self.clients:
            client.check()
        stats = self._ask("/stats")
        groups = {group["group"]: group for group in stats["groups"]} if stats is not None else {}
        return all(
            name in groups and groups[name]["lag_messages"] == 0 and groups[name]["unacked"] == 0 for name in GROUPS
        )

    def end(self) -> History:
        """End everything in good order, and return what is known."""
        for members in self.members.values():
            for member in members:
                member.end()
        stored = {partition: self._browse(TOPIC, partition) for partition in range(PARTITIONS)}
        letters = [
            DeadLetter(decode(message.data), dict(message.attributes))
            for _, message in self._browse(DEAD_LETTERS, None)
        ]
        self.queue.end()
        log = self.queue.log.read_text()
        assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:4000]
        return History(
            topic=TOPIC,
            publishers=[life for publisher in self.publishers.values() for life in publisher.lives()],
            members={
                group: [life for member in members for life in member.lives()]
                for group, members in self.members.items()
            },
            groups={
                name: GroupRules(settings.mode == "ordered", settings.max_deliver) for name, settings in GROUPS.items()
            },
            outages=self._outages,
            stored={
                partition: [(offset, decode(message.data)) for offset, message in messages]
                for partition, messages in stored.items()
            },
            dead_letters=letters,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for actor in (self.queue, *self.clients, *self._guests):
            if actor.process is not None:
                actor.process.kill()
                actor.process.wait()

    def _publisher(self, name: str) -> Actor:
        forgets = name == "forget"
        who = [name] if forgets else [name, f"--name={name}"]
        command = [*_module("publisher", self.address), *who, f"--partitions={PARTITIONS}"]
        return Actor(name, command, self.folder, always_new=forgets)

    def _member(self, group: str, settings: Group, number: int) -> Actor:
        name = f"{group}-{number}"
        flags = [f"--mode={settings.mode}", f"--max-deliver={settings.max_deliver}"]
        picky = ["--picky"] if settings.picky else []
        return Actor(name, subscriber_command(self.address, group, name, *flags, *picky), self.folder)

    def _ask(self, path: str) -> dict[str, Any] | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._http}{path}", timeout=10) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except (urllib.error.URLError, OSError):
            return None

    @contextmanager
    def _admin(self) -> Iterator[queue_admin_pb2_grpc.QueueAdminServiceStub]:
        with grpc.insecure_channel(self.address, options=CHANNEL_OPTIONS) as channel:
            yield queue_admin_pb2_grpc.QueueAdminServiceStub(channel)

    def _browse(self, topic: str, partition: int | None) -> list[tuple[int, queue_pb2.Message]]:
        """All messages of a topic with their offsets, partition by partition."""
        if partition is None:
            stats = self._ask("/stats")
            assert stats is not None
            count = next((len(each["partitions"]) for each in stats["topics"] if each["topic"] == topic), 0)
            return [message for number in range(count) for message in self._browse(topic, number)]
        found: list[tuple[int, queue_pb2.Message]] = []
        with self._admin() as admin:
            following = 0
            while True:
                request = queue_admin_pb2.BrowseRequest(
                    topic=topic,
                    partition=partition,
                    position=queue_pb2.StartPosition(offset=following),
                    max_messages=BROWSED,
                )
                before = following
                for response in admin.Browse(request):
                    for at, message in enumerate(response.batch.messages):
                        # A batch is returned whole even when only its end was asked for.
                        if response.base_offset + at >= before:
                            found.append((response.base_offset + at, message))
                    following = max(following, response.base_offset + len(response.batch.messages))
                if following == before:
                    return found


def queue_command(data: Path, ports: tuple[int, int], program: Sequence[str] | None = None) -> list[str]:
    """How the queue is started: the very program that is installed, unless a test says otherwise."""
    return [
        *(program or [str(Path(sys.executable).with_name("telemetry-queue"))]),
        *(
            "--engine=disk",
            "--fsync=always",
            f"--data-dir={data}",
            f"--grpc-port={ports[0]}",
            f"--http-port={ports[1]}",
        ),
    ]


def subscriber_command(address: str, group: str, name: str, *flags: str) -> list[str]:
    """How a member is started."""
    return [*_module("subscriber", address), f"--group={group}", f"--name={name}", *flags]


def _module(name: str, address: str) -> list[str]:
    return [sys.executable, "-m", f"tests.crash.{name}", f"--address={address}", f"--topic={TOPIC}"]


def tally(history: History) -> dict[str, int]:
    """Numbers that say whether a play was worth watching."""
    counts: dict[str, int] = defaultdict(int)
    for life in (*history.publishers, *(life for lives in history.members.values() for life in lives)):
        for event in life.events:
            counts[type(event).__name__.lower()] += 1
            if isinstance(event, Confirmed):
                counts["duplicates"] += event.duplicate
    counts["messages"] = sum(len(messages) for messages in history.stored.values())
    counts["dead letters"] = len(history.dead_letters)
    counts["outages"] = len(history.outages)
    return dict(counts)
