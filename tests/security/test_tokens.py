"""What a token lets its bearer do on the queue, and what becomes of open streams when tokens change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import httpx
import pytest

from telemetry.queue.client import (
    AccessDeniedError,
    Credentials,
    Place,
    Publisher,
    QueueAdmin,
    QueueClientError,
    ReceivedDelivery,
    Subscriber,
    topic_of,
)
from telemetry.queue.server import QueueServer
from telemetry.runtime.channel import open_channel
from telemetry.runtime.security import SecurityFlags
from telemetry.runtime.token_file import add_token, remove_token
from telemetry.runtime.tokens import Right, Role, Tokens
from telemetry.v1 import queue_pb2, queue_pb2_grpc
from tests.security.conftest import serving

Call = Callable[[QueueAdmin], Awaitable[object]]
_Request = TypeVar("_Request")


@dataclass
class Guarded:
    """A queue with tokens, and how to get some."""

    server: QueueServer
    folder: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.grpc_port}"

    @property
    def tokens(self) -> Path:
        return self.folder / "tokens"

    def give(
        self,
        name: str,
        *,
        publish: tuple[str, ...] = (),
        subscribe: tuple[str, ...] = (),
        admin: tuple[str, ...] = (),
        role: Role = Role.NONE,
    ) -> Credentials:
        """Make a token, and credentials with it."""
        rights = {Right.PUBLISH: publish, Right.SUBSCRIBE: subscribe, Right.ADMIN: admin}
        token = add_token(self.tokens, name, role, rights)
        file = self.folder / f"{name}.token"
        file.write_text(f"{token}\n")
        return Credentials(token_file=file)

    def token_of(self, name: str) -> str:
        return (self.folder / f"{name}.token").read_text().strip()


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[Guarded]:
    (tmp_path / "all.token").write_text(add_token(tmp_path / "tokens", "all", Role.ADMIN, dict.fromkeys(Right, (">",))))
    async with serving(SecurityFlags(tokens=tmp_path / "tokens")) as server:
        yield Guarded(server, tmp_path)


async def publish(queue: Guarded, credentials: Credentials | None, topic: str = "gpu.a") -> None:
    async with Publisher(queue.address, delivery_timeout_s=5.0, credentials=credentials) as publisher:
        await publisher.publish(topic, b"data")


async def receive(queue: Guarded, credentials: Credentials | None, *topics: str, group: str = "g") -> bytes:
    async with asyncio.timeout(20), Subscriber(queue.address, topics, group, credentials=credentials) as subscriber:
        async for event in subscriber:
            if isinstance(event, ReceivedDelivery):
                await subscriber.ack_many([event])
                return event.messages[0].data
    raise AssertionError


async def accepted(credentials: Credentials, queue: Guarded) -> None:
    """Wait until the server has noticed a new token."""
    async with asyncio.timeout(10):
        while True:
            try:
                async with QueueAdmin(queue.address, 2.0, credentials) as admin:
                    await admin.topics()
            except QueueClientError as error:
                if error.code != "UNAUTHENTICATED":
                    raise
                await asyncio.sleep(0.02)
            else:
                return


async def test_without_a_token_nothing_goes_but_health(queue: Guarded) -> None:
    for credentials in (None, Credentials(token_file=_file(queue, "tlm_wrong"))):
        with pytest.raises(QueueClientError) as refused:
            await publish(queue, credentials)
        assert refused.value.code == "UNAUTHENTICATED"
        with pytest.raises(QueueClientError) as refused:
            await receive(queue, credentials, "gpu.a")
        assert refused.value.code == "UNAUTHENTICATED"
        async with QueueAdmin(queue.address, 2.0, credentials) as admin:
            with pytest.raises(QueueClientError) as refused:
                await admin.stats()
        assert refused.value.code == "UNAUTHENTICATED"
    async with grpc.aio.insecure_channel(queue.address) as channel:
        check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert await check(b"", timeout=2) == b"\x08\x01"


async def test_the_refusal_says_what_to_do_and_not_the_token(queue: Guarded) -> None:
    with pytest.raises(QueueClientError) as refused:
        await publish(queue, None)
    assert "--token-file" in refused.value.message
    with pytest.raises(QueueClientError) as refused:
        await publish(queue, Credentials(token_file=_file(queue, "tlm_mistyped")))
    assert "tlm_mistyped" not in refused.value.message


async def test_a_token_publishes_and_subscribes_where_it_may(queue: Guarded) -> None:
    writer = queue.give("writer", publish=("gpu.*",))
    reader = queue.give("reader", subscribe=("gpu.>",))
    await accepted(reader, queue)
    await publish(queue, writer)
    assert await receive(queue, reader, "gpu.*") == b"data"


@pytest.mark.parametrize("topic", ["gpu", "gpu.a.b", "other.a"])
async def test_a_token_of_another_topic_publishes_nothing(queue: Guarded, topic: str) -> None:
    writer = queue.give("writer", publish=("gpu.*",), subscribe=(">",))
    await accepted(writer, queue)
    with pytest.raises(AccessDeniedError, match=f"the token writer may not .* {topic}"):
        await publish(queue, writer, topic)


async def test_a_refused_message_fails_alone(queue: Guarded) -> None:
    root = _root(queue)
    async with QueueAdmin(queue.address, credentials=root) as admin:
        await admin.create_topic(topic_of("other", 1, None))
    writer = queue.give("writer", publish=("gpu.*",), role=Role.VIEW)
    await accepted(writer, queue)
    async with Publisher(queue.address, credentials=writer) as publisher:
        await publisher.publish("gpu.a", b"before")
        with pytest.raises(AccessDeniedError):
            await publisher.publish("other", b"refused")
        assert (await publisher.publish("gpu.a", b"after")).base_offset == 1


@pytest.mark.parametrize("topics", [("gpu.a", "other"), ("gpu.>",), (">",), ("*.a",)])
async def test_a_subscription_to_more_than_the_token_gives_is_refused(queue: Guarded, topics: tuple[str, ...]) -> None:
    reader = queue.give("reader", subscribe=("gpu.*",))
    await accepted(reader, queue)
    with pytest.raises(AccessDeniedError, match="may not subscribe to"):
        await receive(queue, reader, *topics)


async def test_a_group_cannot_have_its_dead_letters_put_where_the_token_may_not_publish(queue: Guarded) -> None:
    reader = queue.give("reader", subscribe=("gpu.*",))
    await accepted(reader, queue)
    async with open_channel(queue.address, reader) as channel:
        start = queue_pb2.SubscribeStart(topics=["gpu.a"], group="g", dead_letter_topic="victim")
        call = queue_pb2_grpc.QueueServiceStub(channel).Subscribe(_once(queue_pb2.SubscribeRequest(start=start)))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await asyncio.wait_for(call.read(), 20)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "publish to victim" in str(refused.value.details())


async def test_delivery_ids_of_others_cannot_be_guessed(queue: Guarded) -> None:
    mine, root = queue.give("mine", subscribe=("mine",)), _root(queue)
    await accepted(mine, queue)
    for topic in ("mine", "theirs"):
        await publish(queue, root, topic)
    async with (
        Subscriber(queue.address, ["mine"], "mine", credentials=mine) as my_own,
        Subscriber(queue.address, ["theirs"], "theirs", credentials=root) as their_own,
    ):
        seen, other = [await anext(each) for each in (my_own, their_own)]
        assert isinstance(seen, ReceivedDelivery)
        assert isinstance(other, ReceivedDelivery)
        number, _, mark = other.delivery_id.rpartition(".")
        guesses = [number, f"{number}.{'0' * len(mark)}", f"{number}.{seen.delivery_id.rpartition('.')[2]}"]
        async with open_channel(queue.address, mine) as channel:
            request = queue_pb2.AckRequest(
                request_id="1",
                entries=[
                    queue_pb2.AckEntry(delivery_id=each, outcome=queue_pb2.ACK_OUTCOME_ACK)
                    for each in (*guesses, seen.delivery_id)
                ],
            )
            answer: Any = await queue_pb2_grpc.QueueServiceStub(channel).Ack(_once(request)).read()
    statuses = [each.status for each in answer.results]
    assert statuses == [queue_pb2.ACK_STATUS_UNKNOWN] * 3 + [queue_pb2.ACK_STATUS_OK]


CHANGES: dict[str, Call] = {
    "create": lambda admin: admin.create_topic(topic_of("new", 1, None)),
    "update": lambda admin: admin.update_topic(topic_of("there", 1, None)),
    "purge": lambda admin: admin.purge_topic("there"),
    "delete": lambda admin: admin.delete_topic("there"),
    "browse": lambda admin: anext(admin.browse("there", 0)),
    "replay": lambda admin: anext(admin.replay_dead_letters("there")),
    "discard": lambda admin: anext(admin.discard_dead_letters("there")),
    "seek": lambda admin: admin.seek_group("g", Place.EARLIEST),
    "delete group": lambda admin: admin.delete_group("g"),
}
READS: dict[str, Call] = {
    "stats": lambda admin: admin.stats(),
    "groups": lambda admin: admin.groups(),
    "group": lambda admin: admin.group("g"),
    "topic": lambda admin: admin.topic("there"),
}


@pytest.mark.parametrize("call", CHANGES.values(), ids=CHANGES)
async def test_what_changes_a_topic_needs_the_right_on_it(queue: Guarded, call: Call) -> None:
    await publish(queue, _root(queue), "there")
    await receive(queue, _root(queue), "there")
    viewer = queue.give("viewer", publish=("mine",), subscribe=("mine",), admin=("mine",), role=Role.ADMIN)
    await accepted(viewer, queue)
    async with QueueAdmin(queue.address, 2.0, viewer) as admin:
        with pytest.raises(AccessDeniedError):
            await call(admin)
    async with QueueAdmin(queue.address, 2.0, _root(queue)) as admin:
        await call(admin)


@pytest.mark.parametrize("call", READS.values(), ids=READS)
async def test_what_tells_of_the_whole_queue_needs_the_role_to_view(queue: Guarded, call: Call) -> None:
    await publish(queue, _root(queue), "there")
    await receive(queue, _root(queue), "there")
    publisher, viewer = queue.give("publisher", publish=("mine",)), queue.give("viewer", role=Role.VIEW)
    await accepted(viewer, queue)
    async with QueueAdmin(queue.address, 2.0, publisher) as admin:
        assert await admin.topics() == []
        with pytest.raises(AccessDeniedError):
            await call(admin)
    async with QueueAdmin(queue.address, 2.0, viewer) as admin:
        await call(admin)


async def test_who_only_reads_a_topic_is_told_that_it_is_there_and_cannot_make_it(queue: Guarded) -> None:
    reader = queue.give("reader", subscribe=("live", "later"))
    await accepted(reader, queue)
    await publish(queue, _root(queue), "live")
    async with QueueAdmin(queue.address, 2.0, reader) as admin:
        with pytest.raises(QueueClientError) as there:
            await admin.create_topic(topic_of("live", 1, None))
        assert there.value.code == "ALREADY_EXISTS"
        with pytest.raises(AccessDeniedError):
            await admin.create_topic(topic_of("later", 1, None))


async def test_a_token_that_is_revoked_ends_what_is_open(queue: Guarded) -> None:
    reader, writer = queue.give("reader", subscribe=("t",)), queue.give("writer", publish=("t",))
    await accepted(writer, queue)
    async with (
        Publisher(queue.address, delivery_timeout_s=5.0, credentials=writer) as publisher,
        Subscriber(queue.address, ["t"], "g", credentials=reader) as subscriber,
    ):
        await publisher.publish("t", b"1")
        assert isinstance(await anext(subscriber), ReceivedDelivery)
        remove_token(queue.tokens, "reader")
        with pytest.raises(QueueClientError) as ended:
            async with asyncio.timeout(10):
                await anext(subscriber)
        assert ended.value.code == "UNAUTHENTICATED"
        remove_token(queue.tokens, "writer")
        with pytest.raises(QueueClientError) as ended:
            await _publish_on_and_on(publisher)
        assert ended.value.code == "UNAUTHENTICATED"


async def test_a_token_that_is_replaced_in_its_file_interrupts_nobody(queue: Guarded) -> None:
    reader, writer = queue.give("reader", subscribe=("t",)), queue.give("writer", publish=("t",))
    await accepted(writer, queue)
    async with (
        Publisher(queue.address, credentials=writer) as publisher,
        Subscriber(queue.address, ["t"], "g", credentials=reader) as subscriber,
    ):
        received: set[bytes] = set()
        for number in range(6):
            if number == 3:
                for old, right in (("reader", Right.SUBSCRIBE), ("writer", Right.PUBLISH)):
                    token = add_token(queue.tokens, f"{old}-2", Role.NONE, {right: ("t",)})
                    _replace(queue.folder / f"{old}.token", token)
                await asyncio.sleep(0.1)
                for old in ("reader", "writer"):
                    remove_token(queue.tokens, old)
                await asyncio.sleep(0.1)
            async with asyncio.timeout(15):
                await publisher.publish("t", str(number).encode())
                while str(number).encode() not in received:
                    event = await anext(subscriber)
                    if isinstance(event, ReceivedDelivery):
                        received.update(message.data for message in event.messages)
                        await subscriber.ack_many([event])
        assert len(received) == 6


async def test_a_file_that_is_of_no_use_leaves_the_tokens_before_in_force(
    queue: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    root = _root(queue)
    good = queue.tokens.read_text()
    queue.tokens.write_text(good + '{"name": "x", "sha256": "12"}\n')
    async with asyncio.timeout(10):
        while "stays in force" not in caplog.text:
            await publish(queue, root)
            await asyncio.sleep(0.02)
    assert f"{queue.tokens}, line 2: sha256" in caplog.text
    await publish(queue, root)


async def test_http_needs_a_token_with_a_role_except_for_health(queue: Guarded) -> None:
    queue.give("nobody", publish=(">",))
    viewer = queue.give("viewer", role=Role.VIEW)
    await accepted(viewer, queue)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{queue.server.http_port}") as client:
        assert (await client.get("/health")).status_code == 200
        for path in ("/stats", "/topics", "/metrics"):
            answer = await client.get(path)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.headers["content-type"] == "application/problem+json"
            assert (await client.get(path, headers=_bearer(queue, "nobody"))).status_code == 403
            assert (await client.get(path, headers=_bearer(queue, "viewer"))).status_code == 200
            assert (await client.get(path, headers={"Authorization": "Bearer tlm_wrong"})).status_code == 401


def _bearer(queue: Guarded, name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {queue.token_of(name)}"}


def _file(queue: Guarded, token: str) -> Path:
    path = queue.folder / "given.token"
    path.write_text(token)
    return path


def _replace(path: Path, token: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(token)
    part.replace(path)


def _root(queue: Guarded) -> Credentials:
    """Credentials that may everything."""
    return Credentials(token_file=queue.folder / "all.token")


async def _publish_on_and_on(publisher: Publisher) -> None:
    async with asyncio.timeout(10):
        while True:
            await publisher.publish("t", b"2")


async def _once(request: _Request) -> AsyncIterator[_Request]:
    yield request
    await asyncio.sleep(60)


def test_a_file_that_was_refused_counts_as_soon_as_it_is_mended_even_without_a_change_of_it(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    before = add_token(tokens, "before", Role.VIEW, {})
    now = 0.0
    accepted = Tokens(tokens, lambda: now)
    fresh = tmp_path / "fresh"
    after = add_token(fresh, "after", Role.VIEW, {})
    fresh.chmod(0o666)  # which the log tells to mend
    fresh.replace(tokens)
    now += 60
    assert accepted.find(before) is not None
    tokens.chmod(0o600)
    now += 60
    assert (accepted.find(before), accepted.find(after) is not None) == (None, True)
