"""A member that is stopped, not dead: its messages go to another, and what it says later is too late."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from telemetry.queue.client import AckStatus, OutgoingMessage, Publisher, ReceivedDelivery, Subscriber
from tests.crash.ledger import OK, STALE, Delivered, Event, Settled
from tests.crash.payloads import encode
from tests.crash.troupe import Actor, Troupe, subscriber_command, wait_until

ACK_WAIT_S = 1.0

E = TypeVar("E", bound=Event)


@pytest.fixture
def troupe(tmp_path: Path, ports: tuple[int, int]) -> Iterator[Troupe]:
    with Troupe(tmp_path, ports) as troupe:
        troupe.queue.start()
        troupe.await_queue()
        yield troupe


def seen(member: Actor, kind: type[E]) -> list[E]:
    """What the member wrote down of this kind."""
    member.check()
    return [event for event in member.events() if isinstance(event, kind)]


async def until(ask: Callable[[], bool], what: str) -> None:
    """Wait while this process's own subscriber goes on."""
    await asyncio.to_thread(wait_until, ask, what)


async def test_the_late_ack_of_a_member_that_was_stopped_past_its_ack_wait_is_stale(troupe: Troupe) -> None:
    flags = ["--hold", f"--ack-wait-s={ACK_WAIT_S}"]
    stopped = troupe.add(Actor("stopped", subscriber_command(troupe.address, "g", "stopped", *flags), troupe.folder))
    stopped.start()
    async with Publisher(troupe.address) as publisher:
        await publisher.publish_batch("work", [OutgoingMessage(encode("a"))], partition=0)
        await until(lambda: len(seen(stopped, Delivered)) == 1, "the member has the message")
        stopped.signal(signal.SIGSTOP)

        async with Subscriber(troupe.address, ["work"], "g", "other") as other:
            delivery = await anext(other)
            assert isinstance(delivery, ReceivedDelivery)
            assert list(delivery.offsets) == [0]
            assert delivery.attempt > 1

            # The other one is at work when the first wakes up and acks.
            stopped.signal(signal.SIGCONT)
            stopped.signal(signal.SIGUSR1)
            await until(lambda: bool(seen(stopped, Settled)), "the member has its answer")
            assert await delivery.ack() is AckStatus.OK, "what is stale changes nothing"

        # It is a member like any other again, and the message does not come back.
        await publisher.publish_batch("work", [OutgoingMessage(encode("b"))], partition=0)
        await until(lambda: seen(stopped, Settled)[-1].status == OK, "the member works")
    # What came to it while it was stopped may be the message once more, whose lease it lost as well.
    *late, newest = [(event.number, event.ids) for event in seen(stopped, Delivered)]
    assert {ids for _, ids in late} == {("a",)}
    assert newest[1] == ("b",)
    assert {event.number: event.status for event in seen(stopped, Settled)} == {
        **{number: STALE for number, _ in late},
        newest[0]: OK,
    }
